"""Restore damaged files beside a result from the config that was requested and the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicinal.experiment import Experiment
from vicinal.jobs.provenance import config_file
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError
from vicinal.runs.predictions import Predictions
from vicinal.tracking.run_files import TIME_FIELDS, encode
from vicinal.training.state import Row


def kept(rows: list[Row]) -> tuple[list[Row], dict[str, list[float]]]:
    """Return a run's epochs as a checkpoint keeps them, the same for equal runs, and their times for the result."""
    times: dict[str, list[float]] = {name: [row[name] for row in rows] for name in TIME_FIELDS}
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows], times


def mend(experiment: Experiment, result: dict[str, Any], damage: list[str]) -> list[str]:
    """Write damaged files beside a result again where every byte can be restored; return one line per file."""
    folder = experiment.folder
    files = (folder.config, folder.metrics, folder.predictions)
    lost = [file for file in files if any(line.startswith(f"{file} ") for line in damage)]
    contents = {folder.config: config_file(experiment)} if folder.config in lost else {}
    if lost and lost != [folder.config]:
        contents |= _of_checkpoint(experiment, result)
    return [
        f"{file} is restored, byte for byte" for file in lost if file in contents and folder.mend(file, contents[file])
    ]


def _of_checkpoint(experiment: Experiment, result: dict[str, Any]) -> dict[Path, bytes]:
    folder = experiment.folder
    try:
        saved = checkpoint.load(folder.checkpoint, checkpoint.WEIGHTS)
        times = [result["seconds"]["epochs"][name] for name in TIME_FIELDS]
        rows, arrays = saved["rows"], {name: value.numpy(force=True) for name, value in saved["predictions"].items()}
        predictions = Predictions(**arrays, class_names=tuple(saved["class_names"]))
    except (OSError, DamagedError, KeyError, TypeError, RuntimeError):  # damaged too, or of an older version
        return {}
    rows = [{**row, **dict(zip(TIME_FIELDS, own, strict=True))} for row, *own in zip(rows, *times, strict=False)]
    return {folder.metrics: encode(rows), folder.predictions: predictions.encode()}
