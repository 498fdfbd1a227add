"""A folder has the record of one sweep: another one that is given the same ``hydra.sweep.dir`` would replace it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from vicinal.analysis.load import SWEEP
from vicinal.errors import UserError
from vicinal.runs.files import DamagedError, read_json
from vicinal.runs.shapes import SWEEP as SHAPE

TRIALS = "trials"  # folder in that of a search, there before its first record
ADVICE = "hydra.sweep.dir needs one of its own"


def check_grid(folder: Path, runs: Collection[str]) -> None:
    """Raise UserError if a folder has the record of a search, or of a sweep with other runs than these ids.

    A grid may grow. What is in a damaged record is not known, and the sweep's command writes it again.
    """
    if (folder / TRIALS).is_dir():
        raise UserError(f"{folder}: is the folder of a search; {ADVICE}")
    with suppress(FileNotFoundError, DamagedError):
        record = read_json(folder / SWEEP, SHAPE)
        there = {entry["run_id"] for entry in record["runs"]}
        if lost := there - {*runs}:
            keys = ", ".join(record["swept"]) or "seed"
            other = f"swept: {keys}; runs: {len(there)}, not in this one: {len(lost)}"
            raise UserError(f"{folder}: is the folder of another sweep ({other}); {ADVICE}")


def check_search(folder: Path) -> None:
    """Raise UserError if a folder has the record of a grid; that of another search is told by its journal."""
    if (folder / SWEEP).exists() and not (folder / TRIALS).is_dir():
        raise UserError(f"{folder}: is the folder of a sweep that is no search; {ADVICE}")
