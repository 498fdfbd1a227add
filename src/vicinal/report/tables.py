"""A comparison as text: the same cells of text for the terminal, Markdown and LaTeX; CSV files with all digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.analysis.comparison import SCORES, Comparison, validation_of
from vicinal.analysis.summary import other_metrics
from vicinal.report.terminal import FAILED, Grid
from vicinal.runs.files import write
from vicinal.tasks import Metric
from vicinal.utils import escaping

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "-"


def grids(comparison: Comparison) -> list[Grid]:
    """Return the tables: cells; differences to the baseline, if there are any; choices by validation, if there were."""
    found = [_cells(comparison)]
    if comparison.pairs["difference"].notna().any():
        found.append(_pairs(comparison))
    if not comparison.chosen.empty and (comparison.chosen["of"] > 1).any():
        found.append(_chosen(comparison))
    return found


def write_csv(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``summary.csv``, ``pairs.csv`` and ``chosen.csv``: accuracies as fractions, with all their digits."""
    tables = {"summary": comparison.table, "pairs": comparison.pairs, "chosen": comparison.chosen}
    for name, table in tables.items():
        safe = table.map(escaping.csv).rename(columns=escaping.csv)
        write(folder / f"{name}.csv", safe.to_csv(index=False).encode())
    return [folder / f"{name}.csv" for name in tables]


def markdown(found: Sequence[Grid], notes: Sequence[str]) -> str:
    """Return tables as GitHub reads them, and the notes as a list."""
    parts = []
    for grid in found:
        rule = ["--:" if heading in grid.numbers else "---" for heading in grid.headings]
        lines = [grid.headings, rule, *grid.rows]
        rows = ["| " + " | ".join(map(escaping.markdown, line)) + " |" for line in lines]
        parts.append(f"{escaping.markdown(grid.title)}\n\n" + "\n".join(rows))
    listed = "\n".join(f"- {escaping.markdown(note)}" for note in notes)
    return "\n\n".join([*parts, *([listed] if notes else [])]) + "\n"


def latex(found: Sequence[Grid], notes: Sequence[str]) -> str:
    r"""Return tables for ``\usepackage{booktabs}``, without folders, and the notes as comments below them."""
    import pandas as pd

    parts = []
    for grid in found:
        kept = [index for index, heading in enumerate(grid.headings) if heading != "folder"]
        headings = [grid.headings[index] for index in kept]
        rows = [[escaping.latex(row[index]) for index in kept] for row in grid.rows]
        for row in rows:
            if row[0].startswith(("[", "*")):  # after the end of a row these would be read as its arguments
                row[0] = f"{{{row[0]}}}"
        columns = "".join("r" if heading in grid.numbers else "l" for heading in headings)
        table = pd.DataFrame(rows, columns=[escaping.latex(heading) for heading in headings])
        caption = escaping.latex(grid.title)
        parts.append(table.to_latex(index=False, column_format=columns, caption=caption, position="htbp"))
    return "\n".join([*parts, *(f"% {escaping.visible(note)}" for note in notes)]) + "\n"


def number(metric: Metric, value: float, sign: str = "") -> str:
    """Return a value of a metric: a share in percent, others with four significant digits; ``sign`` is "+" or ""."""
    if math.isnan(value):
        return NOTHING
    return f"{100 * value:{sign}.2f}" if metric.percent else f"{value:{sign}.4g}"


def mean_and_std(metric: Metric, mean: float, std: float) -> str:
    """Return a mean with its deviation, if it has one."""
    return number(metric, mean) if math.isnan(std) else f"{number(metric, mean)} ± {number(metric, std)}"


def interval(metric: Metric, low: float, high: float, sign: str = "") -> str:
    return NOTHING if math.isnan(low) else f"[{number(metric, low, sign)}, {number(metric, high, sign)}]"


def probability(p: float) -> str:
    """Return a p-value with three decimals."""
    if math.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cells(comparison: Comparison) -> Grid:
    """Return the scores of the selection metric, and the means of the other metrics for the score that is tested."""
    table, names, tested = comparison.table, comparison.headings, comparison.score
    selection, shown = _selection(comparison), _shown(table)
    others = {f"{tested}/{metric.key} mean": metric for metric in other_metrics(comparison.task)}
    others = {column: metric for column, metric in others.items() if table[column].notna().any()}
    bounds = f"95 % interval, {names[tested].removeprefix('test, ')}"
    headings = ["n"]
    for score in shown:
        headings += [names[score], bounds] if score == tested else [names[score]]
    headings += [metric.heading for metric in others.values()]
    failures = [FAILED] if (table[FAILED] != "").any() else []
    rows = []
    for row in table.to_dict("records"):
        texts = [*(str(row[key]) for key in comparison.swept), str(row["n"])]
        for score in shown:
            texts.append(_score(selection, row, score))
            if score == tested:
                texts.append(interval(selection, row[f"{score} low"], row[f"{score} high"]))
        texts += [number(metric, row[column]) for column, metric in others.items()]
        rows.append([*texts, *(row[name] for name in failures), Path(row["folder"]).name])
    what = f"mean ± std over n seeds, {'Wilson ' * selection.percent}interval of the mean"
    also = f"; other metrics: mean of '{names[tested]}'" if others else ""
    title = f"{selection.title}{_in(selection.unit)}, {what}{also} ({comparison.title})"
    spare = ["folder", *(metric.heading for metric in reversed(others.values()))]
    spare += [*(names[score] for score in shown if score != tested), bounds, "n", *reversed(comparison.swept[1:])]
    return Grid(title, [*comparison.swept, *headings, *failures, "folder"], headings, rows, spare)


def _pairs(comparison: Comparison) -> Grid:
    several = ["baseline"] if len(comparison.baselines) > 1 else []
    selection = _selection(comparison)
    headings = ["difference", "95 % interval", "p t-test", "p t-test, Holm", "p signed-rank", "p signed-rank, Holm"]
    rows = [
        [
            row["cell"],
            *(row[name] for name in several),
            str(row["n pairs"]),
            number(selection, row["difference"], "+"),
            interval(selection, row["low"], row["high"], "+"),
            *(probability(row[name]) for name in ("p t", "p t holm", "p wilcoxon", "p wilcoxon holm")),
        ]
        for row in comparison.pairs.to_dict("records")
    ]
    heading, unit = comparison.headings[comparison.score], "points" if selection.percent else selection.unit
    title = f"{heading}: difference to {comparison.compared_with}{_in(unit)}, on the same seeds"
    spare = ["p signed-rank", "p t-test", "p signed-rank, Holm", "p t-test, Holm", "pairs", "95 % interval", *several]
    return Grid(title, ["cell", *several, "pairs", *headings], ["pairs", *headings], rows, spare)


def _chosen(comparison: Comparison) -> Grid:
    chosen, names, shown = comparison.chosen, comparison.headings, _shown(comparison.table)
    selection = _selection(comparison)
    keys = list(chosen.columns[: chosen.columns.get_loc("of")])
    numbers = ["of", "n", *(names[score] for score in shown)]
    rows = [
        [*(str(row[key]) for key in (*keys, "of", "n")), *(_score(selection, row, score) for score in shown)]
        for row in chosen.to_dict("records")
    ]
    by = names[validation_of(comparison.score)]
    title = f"chosen on validation ({by}), the best of each strategy's cells; the test set had no part in it"
    others = [names[score] for score in shown if score != comparison.score]
    return Grid(title, [*keys, *numbers], numbers, rows, [*others, "of", "n", *reversed(keys[1:])])


def _selection(comparison: Comparison) -> Metric:
    return comparison.task.metric(comparison.task.selection)


def _shown(table: pd.DataFrame) -> list[str]:
    return [score for score in SCORES if table[f"{score} mean"].notna().any()]


def _score(metric: Metric, row: dict[str, Any], score: str) -> str:
    return mean_and_std(metric, row[f"{score} mean"], row[f"{score} std"])


def _in(unit: str) -> str:
    return f" in {unit}" if unit else ""
