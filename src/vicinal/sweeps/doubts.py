"""What a reader must know before believing a table: one line each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vicinal.sweeps.cells import STRATEGY, effective, fullest
from vicinal.sweeps.comparison import HEADINGS, Cell
from vicinal.sweeps.records import Run
from vicinal.sweeps.statistics import least_wilcoxon
from vicinal.sweeps.summaries import VALIDATION, folder, validation

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
FEW = 5
"""Fewer seeds than this cannot show whether differences are normal, which the t-test takes for granted."""
HIDDEN = {
    "device": "trainer.device",
    "device_name": "trainer.device",
    "precision": "trainer.precision",
    "threads": "trainer.threads",
    "torch": "",
    "source": "",
}
"""What the machine made of a request, and the key that asks for it."""


def unfinished(cells: Sequence[Cell]) -> list[str]:
    """Runs without scores, with the reason."""
    lines = []
    for cell in cells:
        reasons: dict[str, list[Run]] = {}
        for run in cell.runs:
            if not run.completed:
                reasons.setdefault(f"{run.status}: {run.error}", []).append(run)
        for reason, runs in reasons.items():
            seeds = ", ".join(str(run.seed) for run in runs)
            where = runs[0].folder if len(runs) == 1 else folder(cell)
            lines.append(f"{cell.label}, seed{'s' * (len(runs) > 1)} {seeds}: {reason} ({where})")
    return lines


def hidden_differences(cells: Sequence[Cell], swept: Sequence[str]) -> list[str]:
    """Where and with what the runs were made, if that is not the same for all; and cells that only look the same."""
    lines = []
    runs = [(cell, run) for cell in cells for run in cell.completed]
    for name, key in HIDDEN.items():
        if key and key in swept:
            continue
        made: dict[str, list[str]] = {}
        for cell, run in runs:
            made.setdefault(_made_with(run, name), []).append(f"{cell.label} seed {run.seed}")
        if len(made) > 1:
            parts = "; ".join(f"{value} in {_some(where)}" for value, where in made.items())
            lines.append(f"not all runs were made with the same {name.replace('_', ' ')}: {parts}")
    for cell, run in runs:
        lines += [f"{cell.label}, seed {run.seed}: changed when it was resumed: {text}" for text in run.changed]
    same: dict[str, list[str]] = {}
    for cell in cells:
        if cell.config:
            same.setdefault(str(sorted(effective(fullest(cell.runs)).items())), []).append(cell.label)
    for labels in same.values():
        if len(labels) > 1:
            lines.append(f"{', '.join(labels)} differ in nothing that their configs say, perhaps in the data's files")
    return lines


def few_seeds(cells: Sequence[Cell], baseline: Cell | None, pairs: pd.DataFrame) -> list[str]:
    """Too few for an interval, for a test, or for a claim."""
    lines = []
    seeds = {cell.label: len(cell.completed) for cell in cells}
    for n, meaning in {0: "no scores", 1: "no deviation, no interval and no test"}.items():
        if those := [label for label, count in seeds.items() if count == n]:
            lines.append(f"{'one' if n else 'no'} completed seed means {meaning}: {_some(those)}")
    if baseline is None or pairs.empty:
        return lines
    ours = {run.seed for run in baseline.completed}
    if uneven := [cell.label for cell in cells if {run.seed for run in cell.completed} != ours]:
        lines.append(f"differences use the seeds that a cell shares with the baseline, not all: {_some(uneven)}")
    tested = pairs[pairs["n pairs"] >= 2]
    if tested.empty:
        return lines
    family, n = len(tested), int(tested["n pairs"].min())
    needed = 1 + math.ceil(math.log2(family / LEVEL))
    if n < needed:
        least = min(1.0, family * least_wilcoxon(n))
        lines.append(
            f"too few seeds for the signed-rank test: with {n} pairs and {_count(family)} its corrected p is at least "
            f"{least:.3g}; p < {LEVEL:g} takes {needed} seeds"
        )
    if n < FEW:
        lines.append(
            f"too few seeds for a claim by the t-test alone: {n} pairs cannot show that differences are normal"
        )
    return lines


def tests(cells: Sequence[Cell], baseline: Cell | None, pairs: pd.DataFrame) -> list[str]:
    """What the p-values are about, and what they are not."""
    lines = []
    for row in pairs.to_dict("records"):
        if row["why"] and row["n pairs"] >= 2:
            lines.append(f"{row['cell']}: {row['why']}")
    mixed: dict[str, list[str]] = {}
    usual = baseline.values if baseline else {}
    for cell in cells:
        keys = [key for key, text in cell.values.items() if text != usual[key]]
        if len(keys) > 1 and any(key.partition(".")[0] != STRATEGY for key in keys):
            mixed.setdefault(" and ".join(keys), []).append(cell.label)
    for names, labels in mixed.items():
        lines.append(f"effects of {names} are not told apart in the difference to the baseline: {_some(labels)}")
    family = int((pairs["n pairs"] >= 2).sum())
    if family:
        heading = HEADINGS[pairs["score"][0]]
        lines.append(
            f"p-values are corrected (Holm) for {_count(family)} of '{heading}', each of the two tests for itself"
        )
    return lines


def choice(cells: Sequence[Cell], chosen: pd.DataFrame) -> list[str]:
    """What was chosen, and how safely."""
    completed = [cell for cell in cells if cell.completed]
    if chosen.empty:
        if not completed:
            return []
        return [
            "no validation split (dataset.val_size=0): nothing is chosen, since that is not what the test set is for"
        ]
    lines = []
    if without := [cell.label for cell in completed if not cell.scores(VALIDATION)]:
        lines.append(f"without a validation split, so never chosen: {_some(without)}")
    labels = set(chosen["cell"])
    for best in (cell for cell in cells if cell.label in labels):
        of = [cell for cell in completed if cell.strategy == best.strategy and cell.scores(VALIDATION)]
        if ties := [cell.label for cell in of if cell is not best and validation(cell) == validation(best)]:
            lines.append(f"{best.label} is chosen as the first of equals on validation: {_some(ties)}")
        if len({frozenset(cell.scores(VALIDATION)) for cell in of}) > 1:
            lines.append(f"{best.strategy} is chosen by means over different seeds")
    return lines


def _made_with(run: Run, name: str) -> str:
    return str(run.hardware.get(name) or run.versions.get(name) or run.environment().get(name) or "unknown")


def _some(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(family: int) -> str:
    return "one comparison" if family == 1 else f"{family} comparisons"
