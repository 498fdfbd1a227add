"""The grid of a sweep: its runs, the keys that it sweeps, its folder, and the ``sweep.json`` there that says it all."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.errors import written
from vicinal.experiment import Experiment
from vicinal.redaction import redacted
from vicinal.runs.files import DamagedError, encode_json, make_folder, read, safe_name, write

ABSENT = "-"
"""The value of a key that a run has no use for, such as alpha under ``none``."""
LONGEST_NAME = 60
"""Characters of a sweep's readable name; some file systems end at 255, and a run's W&B group at 128."""


@dataclass(frozen=True)
class Job:
    """One point of a grid: the words that ask for it, and what they mean."""

    overrides: tuple[str, ...]
    experiment: Experiment
    resolved: tuple[str, ...] = ()
    """Those of its values that may be others when they are looked at again, as words (``composing.py``)."""

    @property
    def launched(self) -> list[str]:
        """The words that a launcher composes the job from."""
        keys = set(map(_key, self.resolved))
        return [*(word for word in self.overrides if _key(word) not in keys), *self.resolved]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys that differ between the jobs, in the order of the command line; not the seed."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for override in job.overrides:
            key, _, value = override.partition("=")
            values.setdefault(key.lstrip("+"), set()).add(value)
    return [key for key in values if len(values[key]) > 1 and key != "seed"]


def value(experiment: Experiment, key: str) -> str:
    """A swept key's value as tables show it: what the run really uses."""
    if key in experiment.choices:
        return experiment.choices[key]
    found: Any = experiment.settings()
    for name in key.split("."):
        found = found.get(name, ABSENT) if isinstance(found, Mapping) else ABSENT
    return written(found)


def sweep_folder(jobs: Sequence[Job]) -> Path:
    """``<output_dir>/sweeps/<swept keys>-<hash of the run ids>``: the same runs are the same sweep."""
    ids = sorted(job.experiment.run_id for job in jobs)
    identity = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:10]
    sweeps = Path(os.path.realpath(jobs[0].experiment.config["output_dir"])) / "sweeps"
    # As with runs, the identity decides, and the name before it is for people.
    return next(sweeps.glob(f"*-{identity}"), sweeps / f"{_name(jobs)}-{identity}")


def _name(jobs: Sequence[Job]) -> str:
    keys = swept_keys(jobs)
    short = [key.rpartition(".")[2] for key in keys]
    parts = [last if short.count(last) == 1 else key for key, last in zip(keys, short, strict=True)]
    name = "+".join(parts) or ("seed" if len(jobs) > 1 else "single")
    return safe_name(name, LONGEST_NAME)


def write_sweep(folder: Path, jobs: Sequence[Job]) -> None:
    """Write ``sweep.json``: the command, the swept keys and the runs, in the order of the grid.

    A run's folder is relative to ``runs`` beside ``sweeps``; if one of the two is elsewhere, it is absolute.
    """
    keys = swept_keys(jobs)
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    content = {"command": command, "swept": keys, "runs": [_entry(job, keys, folder) for job in jobs]}
    data, file = encode_json(redacted(content)), folder / "sweep.json"
    if not _holds(file, data):  # a finished sweep can be looked at where nobody may write
        make_folder(folder)
        write(file, data)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return read(file) == data
    except (FileNotFoundError, DamagedError):
        return False


def _entry(job: Job, keys: Sequence[str], folder: Path) -> dict[str, Any]:
    experiment, path = job.experiment, job.experiment.folder.path
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "seed": experiment.seed,
        "name": experiment.name,
        "folder": path.name if path.parent == folder.parents[1] / "runs" else str(path),
        "overrides": list(job.overrides),
        "values": {key: value(experiment, key) for key in keys},
    }
