"""Stop a run of a search that is behind the others at the same epoch. It can be resumed, by a command without a search.

The decision depends on the rows that the runs have written, and on nothing else: so a run that was killed while it was
decided on is decided on again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vicinal.analysis.load import SWEEP, read_sweep
from vicinal.errors import UserError
from vicinal.runs.folder import RunFolder
from vicinal.training.checkpointer import Stop

ETA = 3  # of ASHA: one of so many is kept
PARTS = 9  # of the epochs; nothing is stopped before the first part is over
ENOUGH = 5  # runs that a median needs
Rows = Sequence[Mapping[str, Any]]


def asha(own: Rows, others: Sequence[Rows], key: str, higher: bool, epochs: int) -> bool:
    """Return whether a run is not among the best third at one of the epochs r, 3 r, 9 r...: asynchronous successive
    halving (Li et al. 2020, arXiv 1810.05934) without suspended runs.

    Args:
        own: rows of the run.
        others: rows of the others that have begun.
        key: of the score in a row.
        higher: whether a larger one is better.
        epochs: of a whole run; r is a ninth of it.
    """
    epoch, rung = len(own), max(1, epochs // PARTS)
    while rung < epoch:
        rung *= ETA
    if epoch != rung:
        return False
    rivals = [_value(rows, epoch, key, higher) for rows in others if len(rows) >= epoch]
    value = _value(own, epoch, key, higher)
    kept = sorted([*rivals, value], reverse=True)[: max(1, (len(rivals) + 1) // ETA)]
    return value < kept[-1]


def median(own: Rows, others: Sequence[Rows], key: str, higher: bool, epochs: int) -> bool:
    """Return whether the best score of a run so far is below the median of the whole ones at the same epoch.

    Arguments as those of :func:`asha`.
    """
    epoch = len(own)
    rivals = [_value(rows, epoch, key, higher) for rows in others if len(rows) >= epochs]
    if len(rivals) < ENOUGH or epoch < max(1, epochs // PARTS):
        return False
    return max(_value(own, each, key, higher) for each in range(1, epoch + 1)) < statistics.median(rivals)


PRUNERS = {"asha": asha, "median": median}


def _value(rows: Rows, epoch: int, key: str, higher: bool) -> float:
    """Return the score of an epoch, of which a larger one is better."""
    value = float(rows[epoch - 1][key])
    return value if higher else -value


def stopper(sweep: Path, run_id: str, epochs: int, pruner: str, key: str, higher: bool) -> Stop | None:
    """Return what a run of a search asks before each epoch; None for a run that is none of its trials.

    Raises UserError if ``sweep.json`` of the search is damaged.
    """
    if not (sweep / SWEEP).exists() or run_id not in {run["run_id"] for run in read_sweep(sweep).runs}:
        return None

    def stop(rows: Rows) -> str | None:
        epoch = len(rows)
        if not 1 <= epoch < epochs:
            return None
        content = read_sweep(sweep)  # others may have begun
        folders = [RunFolder(content.folder_of(run)) for run in content.runs if run["run_id"] != run_id]
        try:
            behind = PRUNERS[pruner](rows, [folder.rows() for folder in folders], key, higher, epochs)
        except KeyError:
            raise UserError(f"a run of {sweep} has no {key}, by which hydra.sweeper.pruner={pruner} decides") from None
        return f"stopped at epoch {epoch} of {epochs} by {pruner}" if behind else None

    return stop
