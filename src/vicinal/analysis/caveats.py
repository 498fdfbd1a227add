"""Facts that a reader must know before relying on a table: one line each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vicinal.analysis.cells import STRATEGY, effective, fullest, group_of
from vicinal.analysis.comparison import MEDIAN_EPOCHS, Cell, common_task, headings, validation_of
from vicinal.analysis.records import Run, grouped
from vicinal.analysis.statistics import FEWEST, least_wilcoxon, negligible
from vicinal.analysis.summary import eligible, folder, rivals
from vicinal.runs.source import few

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # significance level
FEWEST_FOR_T = 5  # pairs below which one cannot see whether differences are normal, as the t-test assumes
HIDDEN = {
    "device": "trainer.device",
    "device_name": "trainer.device",
    "precision": "trainer.precision",
    "tf32": "",
    "threads": "trainer.threads",
    "compile": "trainer.compile",
    "torch": "",
    "torchvision": "",
    "numpy": "",
    "pillow": "",
    "scikit-learn": "",
    "transformers": "",
    "tokenizers": "",
}
"""{fact about the machine: key that asks for it, if there is one}."""


def unfinished(cells: Sequence[Cell]) -> list[str]:
    """Name the runs without scores, with the reason."""
    lines = []
    for cell in cells:
        reasons = grouped((f"{run.status}: {run.error}", run) for run in cell.runs if not run.completed)
        for reason, runs in reasons.items():
            seeds = ", ".join(str(run.seed) for run in runs)
            where = runs[0].folder if len(runs) == 1 else folder(cell)
            lines.append(f"{cell.label}, seed{'s' * (len(runs) > 1)} {seeds}: {reason} ({where})")
    return lines


def hidden_differences(cells: Sequence[Cell], swept: Sequence[str]) -> list[str]:
    """Name differences of machines and versions between the runs, and cells whose configs do not differ."""
    lines = []
    runs = [(cell, run) for cell in cells for run in cell.completed]
    for name, key in HIDDEN.items():
        values = grouped((_machine_fact(run, name), f"{cell.label} seed {run.seed}") for cell, run in runs)
        values.pop("", None)
        if len(values) > 1 and (not key or key not in swept):
            parts = "; ".join(f"{value} in {few(labels)}" for value, labels in values.items())
            lines.append(f"not all runs were made with the same {name.replace('_', ' ')}: {parts}")
    for cell, run in runs:
        lines += [f"{cell.label}, seed {run.seed}: changed when it was resumed: {text}" for text in run.changed]
    equal = grouped((str(sorted(effective(fullest(cell.runs)).items())), cell.label) for cell in cells if cell.config)
    lines += [
        f"{', '.join(labels)} differ in nothing that their configs say, perhaps in the data's files"
        for labels in equal.values()
        if len(labels) > 1
    ]
    return lines


def simple_models(cells: Sequence[Cell]) -> list[str]:
    """Name what a simple model reaches on the same data, where a task has one."""
    metric = common_task(cells).selected
    found = grouped(
        ((run.baseline["name"], f"{run.baseline['test'][metric.key]:.4g}"), cell.label)
        for cell in cells
        for run in cell.completed[:1]
        if run.baseline and metric.key in run.baseline["test"]
    )
    unit = f" {metric.unit}" if metric.unit else ""
    return [
        f"{name} on the same samples has a test {metric.short or metric.title} of {score}{unit}"
        f"{_unless_all(labels, [cell.label for cell in cells])}"
        for (name, score), labels in found.items()
    ]


def missing_metrics(cells: Sequence[Cell]) -> list[str]:
    """Name the runs whose results lack a metric of the task, as those of older versions may."""
    lines = []
    runs = [(f"{cell.label} seed {run.seed}", run.scored()) for cell in cells for run in cell.completed]
    for metric in common_task(cells).computed:
        if labels := [label for label, parts in runs if any(metric.key not in scores for scores in parts)]:
            lines.append(
                f"results of an older version lack {metric.key}, and are left out of its column: {few(labels)}"
            )
    return lines


def baseline(cells: Sequence[Cell], against: Mapping[str, Cell], unmatched: Sequence[str], score: str) -> list[str]:
    """Name cells without a baseline of their own, and baselines without scores."""
    lines = []
    if unmatched:
        first = next(against[cell.cell_id].label for cell in cells if cell.label in unmatched)
        lines.append(
            f"no baseline, or several, agree in all but the mixing, so compared with {first}: {few(unmatched)}"
        )
    for base in {base.cell_id: base for base in against.values()}.values():
        if not base.scores(score):
            labels = [cell.label for cell in cells if against.get(cell.cell_id) is base]
            lines.append(
                f"the baseline {base.label} has no score '{headings(cells)[score]}', so there is no difference to it: "
                f"{few(labels)}"
            )
    return lines


def few_seeds(cells: Sequence[Cell], against: Mapping[str, Cell], pairs: pd.DataFrame) -> list[str]:
    """Name cells with too few seeds for an interval, a test or a claim."""
    lines = []
    by_count = grouped((len(cell.completed), cell.label) for cell in cells)
    meanings = (
        "no completed seed means no scores",
        "one completed seed means no deviation, no interval and no test",
        f"two completed seeds mean no interval, which needs {FEWEST}",
    )
    lines += [f"{meaning}: {few(by_count[n])}" for n, meaning in enumerate(meanings) if n in by_count]
    seeds = {cell.cell_id: {run.seed for run in cell.completed} for cell in cells}
    own = [cell for cell in cells if cell.cell_id in against]
    both = {cell.label: (seeds[cell.cell_id], seeds[against[cell.cell_id].cell_id]) for cell in own}
    if uneven := [label for label, (own_seeds, others) in both.items() if own_seeds != others and own_seeds & others]:
        lines.append(f"differences use the seeds that a cell shares with the baseline, not all: {few(uneven)}")
    lacking = ("no seed in common with the baseline, so no difference", "one seed in common, so no test")
    for n, meaning in enumerate(lacking):
        if short := [label for label, pair in both.items() if len(set.intersection(*pair)) == n < min(map(len, pair))]:
            lines.append(f"{meaning}: {few(short)}")
    counts = {row["cell"]: row["n pairs"] for row in pairs.to_dict("records") if row["n pairs"] >= 2}
    needed = 1 + math.ceil(math.log2(max(1, len(counts)) / LEVEL))
    for n in sorted(set(counts.values())):
        # Cells with more pairs may all have smaller p-values; Holm multiplies the least of the rest by their number.
        least = min(1.0, sum(count <= n for count in counts.values()) * least_wilcoxon(n))
        if least >= LEVEL:
            lines.append(
                f"too few seeds for the signed-rank test: with {n} pairs and {_comparisons(len(counts))} its corrected "
                f"p is at least {least:.3g}{_unless_all([label for label in counts if counts[label] == n], counts)}; "
                f"{needed} seeds in each cell allow p < {LEVEL:g}"
            )
    if short := [label for label, count in counts.items() if count < FEWEST_FOR_T]:
        lines.append(
            f"too few seeds for a claim by the t-test alone: fewer than {FEWEST_FOR_T} pairs cannot show that "
            f"differences are normal{_unless_all(short, counts)}"
        )
    return lines


def equal_scores(cells: Sequence[Cell], table: pd.DataFrame) -> list[str]:
    """Name cells whose seeds have equal scores, which do not show how much further seeds would vary."""
    equal: dict[tuple[int, str], list[str]] = {}
    for score, heading in headings(cells).items():
        counts = [(len(cell.scores(score)), cell.label) for cell in cells]
        rows = zip(counts, table[f"{score} std"], table[f"{score} mean"], strict=True)
        for n, labels in grouped(count for count, *row in rows if count[0] > 1 and negligible(*row)).items():
            equal.setdefault((n, few(labels)), []).append(heading)
    return [
        f"equal scores in all {n} seeds: no interval for {labels} ({'; '.join(names)})"
        for (n, labels), names in equal.items()
    ]


def short_medians(cells: Sequence[Cell]) -> list[str]:
    """Name cells whose median is of fewer epochs than that of other cells."""
    epochs = [(cell.label, {min(run.epochs, MEDIAN_EPOCHS) for run in cell.completed}) for cell in cells]
    labels_of = grouped((n, label) for label, counts in epochs for n in counts)
    return [
        f"the median is of all {n} epochs, not of the last {MEDIAN_EPOCHS}: {few(labels)}"
        for n, labels in labels_of.items()
        if n < MEDIAN_EPOCHS and len(labels_of) > 1
    ]


def tests(cells: Sequence[Cell], against: Mapping[str, Cell], pairs: pd.DataFrame) -> list[str]:
    """Say how p-values were corrected, which are missing, and which differences have several causes."""
    tested = pairs[pairs["n pairs"] >= 2]
    lines = [f"{row['cell']}: {row['why']}" for row in tested.to_dict("records") if row["why"]]
    differing = []
    for cell in (cell for cell in cells if cell.cell_id in against):
        usual = against[cell.cell_id].values
        keys = [key for key, text in cell.values.items() if text != usual[key]]
        if len(keys) > 1 and any(group_of(key) != STRATEGY for key in keys):
            differing.append((" and ".join(keys), cell.label))
    for keys_text, labels in grouped(differing).items():
        lines.append(f"effects of {keys_text} are not told apart in the difference to the baseline: {few(labels)}")
    if len(tested):
        heading = headings(cells)[pairs["score"][0]]
        lines.append(
            f"p-values are corrected (Holm) for {_comparisons(len(tested))} of '{heading}', each of the two tests for "
            "itself"
        )
    return lines


def choice(cells: Sequence[Cell], chosen: pd.DataFrame, score: str) -> list[str]:
    """Say why nothing was chosen, or which choices are between equals or by means over different seeds."""
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
        lines.append(f"without a score on validation, so never chosen: {few(without)}")
    labels = set(chosen["cell"])
    for group in rivals(cells, score):
        left = eligible(group, score)
        best = next(cell for cell in left if cell.label in labels)
        mean = best.summary(by).mean
        if ties := [cell.label for cell in left if cell is not best and cell.summary(by).mean == mean]:
            lines.append(f"{best.label} is chosen as the first of equals on validation: {few(ties)}")
        if len({frozenset(cell.scores(by)) for cell in left}) > 1:
            lines.append(f"{best.label} is chosen by means over different seeds")
        if fewer := [cell.label for cell in group if cell not in left]:
            lines.append(f"fewer seeds than {best.label}, so not chosen: {few(fewer)}")
    return lines


def _machine_fact(run: Run, name: str) -> str:
    known: dict[str, Any] = {**run.versions, **run.hardware}
    fact = known[name] if known.get(name) is not None else run.environment().get(name)
    return "" if fact is None else str(fact)


def _unless_all(labels: Sequence[str], every: Iterable[str]) -> str:
    return "" if set(labels) == set(every) else f" ({few(labels)})"


def _comparisons(count: int) -> str:
    return "one comparison" if count == 1 else f"{count} comparisons"
