"""Load the runs of a sweep or below a folder, all or those with certain options."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from vicinal.analysis.records import ABSENT, RUN_NAME, Run, flat, lookup, read, same
from vicinal.errors import UserError, suggest
from vicinal.runs.files import DamagedError, read_json
from vicinal.runs.remarks import summarise
from vicinal.runs.shapes import SWEEP as SHAPE

SWEEP = "sweep.json"  # file in the folder of a sweep: the command, the swept keys and the runs in grid order


@dataclass(frozen=True)
class RunSet:
    """The runs of a report."""

    title: str  # the sweep's name, the folder or the conditions
    runs: list[Run]  # in grid order; those of a folder are sorted
    swept: list[str] | None = None
    """Keys by which the runs are meant to differ, in the order of the command line; None for a folder."""
    values: dict[str, dict[str, str]] = field(default_factory=dict)  # {cell id: {swept key: text}}; empty for a folder
    notes: list[str] = field(default_factory=list)  # faults of the files, one line each
    baseline: str | None = None  # id of the cell that the others are compared with, where the sweep has said it


def load_runs(target: Path, where: Sequence[str] = ()) -> RunSet:
    """Load the runs of a sweep's folder, or all runs below another folder, that meet all conditions.

    A condition is ``key=value``, such as ``mixup=input`` or ``trainer.epochs=30``; 1 equals 1.0. Raises UserError if
    the folder, the key or such a run does not exist, or ``sweep.json`` is damaged.
    """
    if not target.is_dir():
        raise UserError(f"{target}: there is no such folder")
    found = _sweep(target) if (target / SWEEP).exists() else _folder(target)
    runs = reduce(_filtered, where, found.runs)
    title = f"{' '.join(where)} in {found.title}" if where else found.title
    notes = [*found.notes, *summarise((run.folder, line) for run in runs for line in run.damage)]
    return replace(found, title=title, runs=runs, notes=notes)


@dataclass(frozen=True)
class Sweep:
    """The part of ``sweep.json`` that a report reads; the runs are in grid order."""

    folder: Path
    swept: list[str]
    runs: list[dict[str, Any]]
    baseline: str | None = None  # id of the cell that the others are compared with, if the sweep has said it

    def folder_of(self, run: Mapping[str, Any]) -> Path:
        """Return the folder of a run, which is recorded relative to the sweep, so that both can be moved together."""
        return Path(os.path.normpath(Path(os.path.realpath(self.folder)).parents[1] / "runs" / run["folder"]))


def read_sweep(folder: Path) -> Sweep:
    """Read ``sweep.json``. Raises UserError if it is damaged."""
    try:
        content = read_json(folder / SWEEP, SHAPE)
    except DamagedError:
        raise _damaged(folder) from None
    swept, runs = content["swept"], content["runs"]
    for run in runs:
        if not set(swept) <= run["values"].keys() or run["run_id"] != f"{run['cell_id']}-s{run['seed']}":
            raise _damaged(folder)
    return Sweep(folder, swept, runs, content.get("baseline"))


def _damaged(folder: Path) -> UserError:
    return UserError(f"{folder / SWEEP} is damaged; the command of the sweep writes it again")


def _sweep(folder: Path) -> RunSet:
    sweep = read_sweep(folder)
    runs = [read(sweep.folder_of(entry), entry["cell_id"], entry["seed"], entry["name"]) for entry in sweep.runs]
    values = {entry["cell_id"]: entry["values"] for entry in sweep.runs}
    for run in runs:
        # A run that was made by an option of another name, with the same content, is the same run.
        for key in (key for key in sweep.swept if run.completed and key not in run.choices):
            shown, used = values[run.cell_id][key], lookup(run, key)
            if shown != ABSENT and used is not None and not same(shown, used):
                raise _damaged(folder)
    return RunSet(folder.resolve().name, runs, sweep.swept, values, baseline=sweep.baseline)


def _folder(folder: Path) -> RunSet:
    runs: dict[str, Run] = {}
    twice = []
    for run in sorted(map(read, _run_folders(folder)), key=_order):
        first = runs.setdefault(run.run_id, run)
        if first is not run:
            other = " and has other scores" if run.completed and run.test != first.test else ""
            twice.append(f"{run.run_id} is there twice: {first.folder} is used and {run.folder} is not{other}")
    if not runs:
        raise UserError(f"{folder}: there is neither a run nor a {SWEEP} in it")
    return RunSet(str(folder), list(runs.values()), notes=twice)


def _order(run: Run) -> tuple[Any, ...]:
    """Return a key by which a run's copies stand together, a completed one first."""
    return run.name, run.cell_id, run.seed, not run.completed, str(run.folder)


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield ``folder`` if it is a run's, else the runs' folders below it; no run is inside another."""
    for place, below, _ in os.walk(folder):
        if RUN_NAME.match(Path(os.path.realpath(place)).name):
            below.clear()
            yield Path(place)


def _filtered(runs: list[Run], condition: str) -> list[Run]:
    key, equals, text = condition.partition("=")
    if not equals:
        raise UserError(f"{condition}: a condition is key=value, such as mixup=input")
    values = {run.run_id: lookup(run, key) for run in runs}
    present = list(dict.fromkeys(value for value in values.values() if value is not None))
    if not present:
        group, dot, _ = key.partition(".")
        known = {name for run in runs for name in (flat({group: run.config.get(group, {})}) if dot else run.choices)}
        raise UserError(f"{condition}: no run has the key {key}; {suggest(key, sorted(known))}")
    kept = [run for run in runs if same(values[run.run_id] or "", text)]
    if not kept:
        raise UserError(f"{condition}: no such run; there are: {', '.join(present)}")
    return kept
