"""The grid of a sweep: its runs, the keys that it sweeps, its folder, and its ``sweep.json``."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep, Sweep

from vicinal.config.composition import assigned
from vicinal.config.redaction import redacted
from vicinal.config.schema import NEUTRAL
from vicinal.errors import ConfigError, UserError, written
from vicinal.experiment import Experiment
from vicinal.runs.files import DamagedError, encode_json, make_folder, read, safe_name, write
from vicinal.runs.names import setting, short

log = logging.getLogger(__name__)

OF_THE_COMMAND = tuple(key for key in NEUTRAL if "." not in key)  # keys that have one value per sweep
LARGEST_GRID = 100_000  # most jobs of a sweep; each is composed and checked before the first one trains
ABSENT = "-"  # the value of a key that a run has no use for, such as alpha under ``none``
LONGEST_NAME = 60  # characters of a sweep's readable name; some file systems end at 255, and a run's W&B group at 128


@dataclass(frozen=True)
class Job:
    """One point of a grid: its words of the command line, and their request."""

    overrides: tuple[str, ...]
    experiment: Experiment


def check_axes(overrides: Sequence[Override], zipped: Sequence[Sequence[str]] = ()) -> None:
    """Raise UserError if an axis has no values or no end, if its key cannot be swept, or if there are too many jobs.

    The axes of the keys in each part of ``zipped`` go together, value by value, and have as many values each.
    """
    axes, jobs = [override for override in overrides if override.is_sweep_override()], 1
    for override in axes:
        word, key = override.input_line, override.key_or_group
        if not override.is_discrete_sweep():
            raise UserError(f"{word}: an interval has no single values to run; write choice(0.2,0.4) or range(1,5)")
        values = check_axis(override)
        if not any(key in keys[1:] for keys in zipped):
            jobs *= values
    if jobs > LARGEST_GRID:
        words = " ".join(str(override.input_line) for override in axes)
        raise UserError(f"{words}: {jobs} jobs are too many for one sweep, which has at most {LARGEST_GRID}")
    _check_zipped(axes, zipped)
    for override in axes:
        if isinstance(axis := override.value(), RangeSweep):
            _warn_of_rounding(override, axis)


def check_axis(override: Override) -> int:
    """Return the number of values of an axis. Raises UserError if there is none, or if its key cannot be swept."""
    word, key = override.input_line, override.key_or_group
    if key in OF_THE_COMMAND:
        raise UserError(f"{word}: {key} is of the whole command, and cannot be swept")
    axis = override.value()
    if isinstance(axis, ChoiceSweep) and any(isinstance(value, Sweep | Glob) for value in axis.list):
        raise UserError(f"{word}: a range, a glob or an interval stands alone; beside others write out its values")
    values = 1 if override.is_interval_sweep() else _count(override)
    if not values:
        raise UserError(f"{word}: there is no value in it to sweep over")
    return values


def zip_groups(keys: Any) -> list[list[str]]:
    """Return ``hydra.sweeper.zip`` as lists of keys: ``[a,b]`` is one of them. Raises UserError if it is neither."""
    groups = [keys] if isinstance(keys, list) and all(isinstance(key, str) for key in keys) and keys else keys
    if not isinstance(groups, list) or not all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(key, str) for key in group) for group in groups
    ):
        raise ConfigError("hydra.sweeper.zip", keys, "must be a list of two or more keys, or of such lists")
    every = [key for group in groups for key in group]
    if twice := next((key for key in every if every.count(key) > 1), None):
        raise ConfigError("hydra.sweeper.zip", keys, f"must not have a key twice, as {twice}")
    return groups


def _check_zipped(axes: Sequence[Override], zipped: Sequence[Sequence[str]]) -> None:
    counts = {str(axis.key_or_group): _count(axis) for axis in axes}
    for keys in zipped:
        for key in keys:
            if key not in counts:
                swept = ", ".join(counts) or "none"
                raise UserError(f"hydra.sweeper.zip: {key} must have several values; keys that have: {swept}")
        if len({counts[key] for key in keys}) > 1:
            told = ", ".join(f"{key} {counts[key]}" for key in keys)
            raise UserError(f"hydra.sweeper.zip: the keys must have as many values each, and have: {told}")


def zipped_axes(overrides: Sequence[Override], zipped: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the words of the overrides for each choice of one value per part of ``zipped``; other axes stay axes."""
    part = {key: number for number, keys in enumerate(zipped) for key in keys}
    words: list[tuple[int | None, list[str]]] = []  # each with the part that chooses among them
    counts = [1] * len(zipped)
    for override in overrides:
        number = part.get(str(override.key_or_group)) if override.is_sweep_override() else None
        if number is None:
            words.append((None, [str(override.input_line)]))
        else:
            key = override.get_key_element()  # which has a leading + or ++, if there is one
            words.append((number, [f"{key}={value}" for value in override.sweep_string_iterator()]))
            counts[number] = len(words[-1][1])
    return [
        [own[0] if number is None else own[choice[number]] for number, own in words]
        for choice in product(*map(range, counts))
    ]


def check_tasks(jobs: Iterable[Job]) -> None:
    """Raise UserError if the data of some jobs have other metrics than those of others: no table can have both."""
    tasks = {job.experiment.task.name: job.experiment.choices["dataset"] for job in jobs}
    if len(tasks) > 1:
        told = ", ".join(f"{name} (dataset={dataset})" for name, dataset in tasks.items())
        raise UserError(f"the runs of a sweep are compared with each other, and these are of several tasks: {told}")


def _count(override: Override) -> int:
    """Return the number of values of an axis, without listing those of a range, which may never end."""
    axis = override.value()
    if not isinstance(axis, RangeSweep):
        return len(list(override.sweep_iterator()))
    start, stop, step = (Decimal(repr(number)) for number in (axis.start, axis.stop, axis.step))
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step):
        raise UserError(f"{override.input_line}: start, stop and step must be finite numbers, and the step not 0")
    return max(0, int(((stop - start) / step).to_integral_value(ROUND_CEILING)))


def _warn_of_rounding(override: Override, axis: RangeSweep) -> None:
    """Warn of a range of fractions that contains its end because rounding errors of the steps add up."""
    *values, last = sorted(map(float, axis.range()))
    if len(values) >= _count(override):
        log.warning(
            "%s: has %d values, %.12g to %.12g, since fractions are rounded; write choice(%s) to leave the end out",
            *(override.input_line, len(values) + 1, min(values), last, ",".join(map(written, values))),
        )


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Return the keys that differ between the jobs, in the order of the command line; not the seed."""
    words = [assigned(job.overrides) for job in jobs]
    keys = dict.fromkeys(key for values in words for key in values)
    return [key for key in keys if key != "seed" and len({values.get(key) for values in words}) > 1]


def value(experiment: Experiment, key: str) -> str:
    """Return the value of a swept key as tables show it: what the run really uses."""
    if key in experiment.choices:
        return experiment.choices[key]
    return written(setting(experiment.settings(), key, ABSENT))


def sweep_folder(jobs: Sequence[Job]) -> Path:
    """Return ``<output_dir>/sweeps/<swept keys>-<hash of the run ids>``: the same runs are the same sweep."""
    ids = sorted(job.experiment.run_id for job in jobs)
    identity = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:10]
    sweeps = Path(os.path.realpath(jobs[0].experiment.config["output_dir"])) / "sweeps"
    name = "+".join(short(swept_keys(jobs)).values()) or ("seed" if len(jobs) > 1 else "single")
    # As with runs, the identity decides, and the name before it is for people.
    return next(sweeps.glob(f"*-{identity}"), sweeps / f"{safe_name(name, LONGEST_NAME)}-{identity}")


def write_sweep(
    folder: Path, jobs: Sequence[Job], swept: Sequence[str] | None = None, baseline: str | None = None
) -> None:
    """Write ``sweep.json``: the command, the swept keys and the runs, in the order of the grid.

    ``swept`` are the keys where the jobs alone do not show them, and ``baseline`` is the id of the cell that a report
    compares the others with, if it is not one without mixing.
    """
    keys = swept_keys(jobs) if swept is None else list(swept)
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    content = {"command": command, "swept": keys, "runs": [_entry(job, keys, folder) for job in jobs]}
    content |= {"baseline": baseline} if baseline else {}
    data, file = encode_json(redacted(content)), folder / "sweep.json"
    with suppress(FileNotFoundError, DamagedError):
        if read(file) == data:  # a finished sweep can be read in a folder without write access
            return
    make_folder(folder)
    write(file, data)


def _entry(job: Job, keys: Sequence[str], folder: Path) -> dict[str, Any]:
    experiment, path = job.experiment, job.experiment.folder.path
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "seed": experiment.seed,
        "name": experiment.name,
        "folder": path.name if path.parent == folder.parents[1] / "runs" else str(path),  # `runs` is beside `sweeps`
        "overrides": list(job.overrides),
        "values": {key: value(experiment, key) for key in keys},
    }
