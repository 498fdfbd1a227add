"""What a reader must know before believing a table: one line each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from vicinal.analysis.cells import STRATEGY, effective, fullest, group_of
from vicinal.analysis.comparison import MEDIAN, Cell, headings, validation_of
from vicinal.analysis.records import Run
from vicinal.analysis.statistics import DECIMALS, FEWEST, least_wilcoxon
from vicinal.analysis.summary import METRICS, folder, mean_of

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
    "torchvision": "",
    "numpy": "",
    "pillow": "",
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
            if value := _made_with(run, name):
                made.setdefault(value, []).append(f"{cell.label} seed {run.seed}")
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


def missing_metrics(cells: Sequence[Cell]) -> list[str]:
    """Runs whose results lack a metric that a table shows, as those of older versions may."""
    lines = []
    for metric in METRICS:
        lacking = [
            f"{cell.label} seed {run.seed}"
            for cell in cells
            for run in cell.completed
            if any(metric not in scores for scores in run.scored())
        ]
        if lacking:
            lines.append(f"results of an older version lack {metric}, and are left out of its column: {_some(lacking)}")
    return lines


def baseline(cells: Sequence[Cell], against: Mapping[str, Cell], unmatched: Sequence[str], score: str) -> list[str]:
    """What cells are compared with, if that is not one cell with scores."""
    lines = []
    if unmatched:
        first = next(against[cell.cell_id].label for cell in cells if cell.label in unmatched)
        lines.append(f"not one baseline agrees in all but the mixing, so compared with {first}: {_some(unmatched)}")
    for base in {base.cell_id: base for base in against.values()}.values():
        if not base.scores(score):
            those = [cell.label for cell in cells if against.get(cell.cell_id) is base]
            lines.append(
                f"the baseline {base.label} has no score '{headings(cells)[score]}', so there is no difference to it: "
                f"{_some(those)}"
            )
    return lines


def few_seeds(cells: Sequence[Cell], against: Mapping[str, Cell], pairs: pd.DataFrame) -> list[str]:
    """Too few for an interval, for a test, or for a claim."""
    lines = []
    meanings = {
        "no completed seed means no scores": 0,
        "one completed seed means no deviation, no interval and no test": 1,
        f"two completed seeds mean no interval, which needs {FEWEST}": 2,
    }
    for meaning, n in meanings.items():
        if those := [cell.label for cell in cells if len(cell.completed) == n]:
            lines.append(f"{meaning}: {_some(those)}")
    seeds = {cell.cell_id: {run.seed for run in cell.completed} for cell in cells}
    own = [cell for cell in cells if cell.cell_id in against]
    if uneven := [cell.label for cell in own if seeds[cell.cell_id] != seeds[against[cell.cell_id].cell_id]]:
        lines.append(f"differences use the seeds that a cell shares with the baseline, not all: {_some(uneven)}")
    counts = {row["cell"]: row["n pairs"] for row in pairs.to_dict("records") if row["n pairs"] >= 2}
    needed = 1 + math.ceil(math.log2(max(1, len(counts)) / LEVEL))
    for n in sorted(set(counts.values())):
        # Those with more pairs may all have smaller p-values; Holm multiplies the least of the rest by their number.
        least = min(1.0, sum(count <= n for count in counts.values()) * least_wilcoxon(n))
        if least >= LEVEL:
            lines.append(
                f"too few seeds for the signed-rank test: with {n} pairs and {_count(len(counts))} its corrected p is "
                f"at least {least:.3g}{_of([label for label, count in counts.items() if count == n], counts)}; "
                f"{needed} seeds in each cell allow p < {LEVEL:g}"
            )
    if few := [label for label, count in counts.items() if count < FEW]:
        lines.append(
            f"too few seeds for a claim by the t-test alone: fewer than {FEW} pairs cannot show that differences are "
            f"normal{_of(few, counts)}"
        )
    return lines


def equal_scores(cells: Sequence[Cell], table: pd.DataFrame) -> list[str]:
    """Seeds that do not differ tell nothing about how much they would."""
    equal: dict[tuple[int, str], list[str]] = {}
    for score, heading in headings(cells).items():
        found: dict[int, list[str]] = {}
        for cell, std in zip(cells, table[f"{score} std"], strict=True):
            if (n := len(cell.scores(score))) > 1 and std < 10.0**-DECIMALS:
                found.setdefault(n, []).append(cell.label)
        for n, labels in found.items():
            equal.setdefault((n, _some(labels)), []).append(heading)
    return [
        f"equal scores in all {n} seeds: no interval for {labels} ({'; '.join(names)})"
        for (n, labels), names in equal.items()
    ]


def short_medians(cells: Sequence[Cell]) -> list[str]:
    """Medians of fewer epochs than those of other cells."""
    found: dict[int, list[str]] = {}
    for cell in cells:
        for epochs in {min(run.epochs, MEDIAN) for run in cell.completed}:
            found.setdefault(epochs, []).append(cell.label)
    if len(found) < 2:
        return []
    return [
        f"the median is of all {n} epochs, not of the last {MEDIAN}: {_some(labels)}"
        for n, labels in found.items()
        if n < MEDIAN
    ]


def tests(cells: Sequence[Cell], against: Mapping[str, Cell], pairs: pd.DataFrame) -> list[str]:
    """What the p-values are about, and what they are not."""
    lines = []
    for row in pairs.to_dict("records"):
        if row["why"] and row["n pairs"] >= 2:
            lines.append(f"{row['cell']}: {row['why']}")
    mixed: dict[str, list[str]] = {}
    for cell in (cell for cell in cells if cell.cell_id in against):
        usual = against[cell.cell_id].values
        keys = [key for key, text in cell.values.items() if text != usual[key]]
        if len(keys) > 1 and any(group_of(key) != STRATEGY for key in keys):
            mixed.setdefault(" and ".join(keys), []).append(cell.label)
    for names, labels in mixed.items():
        lines.append(f"effects of {names} are not told apart in the difference to the baseline: {_some(labels)}")
    family = int((pairs["n pairs"] >= 2).sum())
    if family:
        heading = headings(cells)[pairs["score"][0]]
        lines.append(
            f"p-values are corrected (Holm) for {_count(family)} of '{heading}', each of the two tests for itself"
        )
    return lines


def choice(cells: Sequence[Cell], chosen: pd.DataFrame, score: str) -> list[str]:
    """What was chosen, and how safely."""
    completed, by = [cell for cell in cells if cell.completed], validation_of(score)
    if chosen.empty:
        if not completed:
            return []
        if any(cell.scores("val") for cell in completed):
            return [f"results of an older version have no '{headings(cells)[by]}': nothing is chosen"]
        return [
            "no validation split (dataset.val_size=0): nothing is chosen, since that is not what the test set is for"
        ]
    lines = []
    if without := [cell.label for cell in completed if not cell.scores(by)]:
        lines.append(f"without a score on validation, so never chosen: {_some(without)}")
    labels = set(chosen["cell"])
    for best in (cell for cell in cells if cell.label in labels):
        of = [cell for cell in completed if cell.strategy == best.strategy and cell.scores(by)]
        if ties := [cell.label for cell in of if cell is not best and mean_of(cell, by) == mean_of(best, by)]:
            lines.append(f"{best.label} is chosen as the first of equals on validation: {_some(ties)}")
        if len({frozenset(cell.scores(by)) for cell in of}) > 1:
            lines.append(f"{best.strategy} is chosen by means over different seeds")
    return lines


def _made_with(run: Run, name: str) -> str:
    return str(run.hardware.get(name) or run.versions.get(name) or run.environment().get(name) or "")


def _some(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _of(labels: Sequence[str], every: Iterable[str]) -> str:
    """Which ones, if not all."""
    return "" if set(labels) == set(every) else f" ({_some(labels)})"


def _count(family: int) -> str:
    return "one comparison" if family == 1 else f"{family} comparisons"
