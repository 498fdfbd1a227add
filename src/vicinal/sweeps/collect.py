"""From the jobs of a sweep to a table of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vicinal.errors import written
from vicinal.runs.folder import RunFolder

SCORES = ("val", "test/last", "test/best_val", "test/median10")
ABSENT = "-"
"""A swept key that a cell has no use for, such as alpha under ``none``."""


@dataclass(frozen=True)
class Job:
    """One point of a grid: the words that ask for it, and what they mean.

    Attributes:
        overrides: of the command line.
        name: readable, the same for all seeds of a cell.
        cell_id: the identity without the seed.
        seed: of the run.
        folder: of the run.
        choices: {group: option}.
        settings: {group: {key: value}} of the keys that have an effect.
    """

    overrides: tuple[str, ...]
    name: str
    cell_id: str
    seed: int
    folder: RunFolder
    choices: Mapping[str, str]
    settings: Mapping[str, Any]


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys that differ between the jobs, in the order of the command line; not the seed."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for override in job.overrides:
            key, _, value = override.partition("=")
            values.setdefault(key.lstrip("+"), set()).add(value)
    return [key for key in values if len(values[key]) > 1 and key != "seed"]


def collect(jobs: Sequence[Job]) -> pd.DataFrame:
    """A row a cell, in the order of the grid.

    Columns: the swept keys; ``n``, seeds completed; ``<score> mean`` and ``<score> std`` of acc1 for the validation
    split and the three ways to read the test set (sample standard deviation over seeds, NaN for one); ``failed``, the
    reasons by seed; ``folder``, with ``*`` for the seed.
    """
    keys = swept_keys(jobs)
    rows = [_row(job, keys) for job in jobs]
    cells = pd.DataFrame(rows).groupby("cell", sort=False)
    table = cells[[*keys, "folder"]].first()
    table["n"] = cells["completed"].sum()
    for score in SCORES:
        table[f"{score} mean"] = cells[score].mean()
        table[f"{score} std"] = cells[score].std(ddof=1)
    table["failed"] = cells["failed"].agg(lambda reasons: "; ".join(filter(None, reasons)))
    means = [f"{score} {statistic}" for score in SCORES for statistic in ("mean", "std")]
    return table[[*keys, "n", *means, "failed", "folder"]].reset_index(drop=True)


def _row(job: Job, keys: Sequence[str]) -> dict[str, Any]:
    result = job.folder.read_result() or {
        "status": "missing",
        "error": "no result: not started, interrupted or killed",
    }
    completed = result["status"] == "completed"
    row: dict[str, Any] = {key: _value(job, key) for key in keys}
    row["cell"] = job.cell_id
    row["completed"] = completed
    row["failed"] = "" if completed else f"seed {job.seed}: {result['error']}"
    row["folder"] = str(job.folder.path.with_name(f"{job.name}-{job.cell_id}-s*"))
    for score in SCORES:
        part, _, which = score.partition("/")
        scores = (result[part][which] if which else result[part]) if completed else None
        row[score] = scores["acc1"] if scores else float("nan")
    return row


def _value(job: Job, key: str) -> str:
    if key in job.choices:
        return job.choices[key]
    value: Any = job.settings
    for name in key.split("."):
        value = value.get(name, ABSENT) if isinstance(value, Mapping) else ABSENT
    return written(value)
