"""Write ``config.yaml`` and ``environment.json`` of a run, and restore damaged files beside its result."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vicinal.config.redaction import redact, redacted
from vicinal.experiment import Experiment
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError, read, read_json, sha256, write, write_json
from vicinal.runs.predictions import Predictions
from vicinal.runs.shapes import ENVIRONMENT
from vicinal.tasks import recorded
from vicinal.tracking.run_files import TIME_FIELDS, encode
from vicinal.training.state import Row
from vicinal.utils.escaping import visible

log = logging.getLogger(__name__)


def run_metadata(experiment: Experiment) -> dict[str, Any]:
    """Return the ids, name, seed and config of a run, without secrets."""
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "name": experiment.name,
        "seed": experiment.seed,
        "task": recorded(experiment.task),
        "choices": experiment.choices,
        "config": redacted(experiment.settings()),
    }


def config_file(experiment: Experiment) -> bytes:
    """Return ``config.yaml``: resolved, and enough to run it again with :mod:`vicinal.jobs.stored_config`."""
    place = shlex.quote(visible(str(experiment.folder.path)))
    command = f"python -m vicinal --config-path {place} --config-name config"
    header = f"# The resolved config of {experiment.run_id}. To run it again: {command}\n"
    return (redact(header) + OmegaConf.to_yaml(redacted(experiment.request()))).encode()


def write_config(experiment: Experiment, continued: bool) -> None:
    """Write ``config.yaml``, with a warning if a resumed run has another one."""
    file, content = experiment.folder.config, config_file(experiment)
    if continued and not file.exists():
        log.warning("%s is missing; it is written again", file)
    elif continued and read(file) != content:  # damaged, or the folder or W&B's settings are others now
        log.warning("%s is not what is asked for now; it is written again", file)
    write(file, content)


def write_environment(experiment: Experiment, here: dict[str, Any], continued: bool) -> None:
    """Write ``environment.json``: all of the first session, and of later ones (``here``) what differed."""
    content, file = {"task": recorded(experiment.task), **here}, experiment.folder.environment
    if continued:
        try:
            earlier = read_json(file, ENVIRONMENT)
            if earlier.pop("checksum", None) != _checksum(experiment, earlier):
                raise DamagedError(file, "it is not what was written")
            again = {name: value for name, value in here.items() if value != earlier.get(name)}
            content = {**earlier, "continued": [*earlier.get("continued", []), again]}
        except FileNotFoundError:
            log.warning("%s is missing; a new one is started", file)
        except DamagedError as damage:
            experiment.folder.set_aside(damage, "and a new one is started")
    write_json(file, {**content, "checksum": _checksum(experiment, content)})


def _checksum(experiment: Experiment, environment: dict[str, Any]) -> str:
    """Return the checksum of the sessions of this run: they must be whole before the last one seals all files."""
    return sha256(json.dumps([experiment.run_id, environment]).encode())


def kept(rows: list[Row]) -> tuple[list[Row], dict[str, list[float]]]:
    """Split a run's rows into those for the checkpoint, the same for equal runs, and the times for the result."""
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
