"""A comparison as text: the same cells of text for the terminal, Markdown and LaTeX; CSV files with all digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.analysis.comparison import SCORES, Comparison, validation_of
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
    if comparison.compared:
        found.append(_pairs(comparison))
    if comparison.picked:
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


def other_columns(comparison: Comparison) -> dict[Metric, str]:
    """Return {metric: column of its means in ``comparison.table``} of the other metrics that any cell has."""
    columns = {metric: f"{comparison.score}/{metric.key} mean" for metric in comparison.task.others}
    return {metric: column for metric, column in columns.items() if comparison.table[column].notna().any()}


def number(metric: Metric, value: float, sign: str = "") -> str:
    """Return a value of a metric: a share in percent, others with four significant digits; ``sign`` is "+" or ""."""
    if math.isnan(value):
        return NOTHING
    return f"{100 * value:{sign}.2f}" if metric.percent else f"{value:{sign}#.4g}".removesuffix(".")


def mean_and_std(metric: Metric, mean: float, std: float) -> str:
    """Return a mean with its deviation, if it has one, which has as many decimals, and two digits at least."""
    text = number(metric, mean)
    if math.isnan(std):
        return text
    if metric.percent or "e" in text:
        return f"{text} ± {number(metric, std)}"
    decimals = len(text.partition(".")[2])
    return f"{text} ± {std:.{decimals}f}" if std >= 10 ** (1 - decimals) or std == 0 else f"{text} ± {std:#.2g}"


def interval(metric: Metric, low: float, high: float, sign: str = "") -> str:
    return NOTHING if math.isnan(low) else f"[{number(metric, low, sign)}, {number(metric, high, sign)}]"


def probability(p: float) -> str:
    """Return a p-value with three decimals."""
    if math.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cells(comparison: Comparison) -> Grid:
    """Return the scores of the selection metric, and the means of the other metrics for the score that is tested."""
    names, tested, selection = comparison.headings, comparison.score, comparison.metric
    shown, rows = _shown(comparison.table), comparison.table.to_dict("records")
    others = other_columns(comparison)
    bounds = f"95 % interval, {names[tested].removeprefix('test, ')}"
    columns = {key: [str(row[key]) for row in rows] for key in (*comparison.swept, "n")}
    for score in shown:
        columns[names[score]] = [_score(selection, row, score) for row in rows]
        if score == tested:
            columns[bounds] = [interval(selection, row[f"{score} low"], row[f"{score} high"]) for row in rows]
    columns |= {metric.heading: [number(metric, row[column]) for row in rows] for metric, column in others.items()}
    numbers = list(columns)[len(comparison.swept) :]
    if any(row[FAILED] for row in rows):
        columns[FAILED] = [row[FAILED] for row in rows]
    columns["folder"] = [Path(row["folder"]).name for row in rows]
    also = f"; other metrics: mean of '{names[tested]}'" if others else ""
    lower = ", lower is better" if selection.better == "lower" else ""
    title = f"{selection.title}{_in(selection.unit)}{lower}, mean ± std over n seeds, "
    title += f"{'Wilson ' * selection.percent}interval of the mean{also} ({comparison.title})"
    spare = ["folder", *(metric.heading for metric in reversed(others))]
    spare += [*(names[score] for score in shown if score != tested), bounds, "n", *reversed(comparison.swept[1:])]
    return _grid(title, columns, numbers, spare)


def _pairs(comparison: Comparison) -> Grid:
    rows, selection = comparison.pairs.to_dict("records"), comparison.metric
    several = ["baseline"] if len(comparison.baselines) > 1 else []
    columns = {name: [row[name] for row in rows] for name in ("cell", *several)}
    columns["pairs"] = [str(row["n pairs"]) for row in rows]
    columns["difference"] = [number(selection, row["difference"], "+") for row in rows]
    columns["95 % interval"] = [interval(selection, row["low"], row["high"], "+") for row in rows]
    for heading, test in (("p t-test", "p t"), ("p signed-rank", "p wilcoxon")):
        columns[heading] = [probability(row[test]) for row in rows]
        columns[f"{heading}, Holm"] = [probability(row[f"{test} holm"]) for row in rows]
    unit = "points" if selection.percent else selection.unit
    heading, baseline = comparison.headings[comparison.score], comparison.compared_with
    title = f"{heading}: difference to {baseline}{_in(unit)}, on the same seeds"
    title += "; below 0 is better" if selection.better == "lower" else ""
    spare = ["p signed-rank", "p t-test", "p signed-rank, Holm", "p t-test, Holm", "pairs", "95 % interval", *several]
    return _grid(title, columns, list(columns)[1 + len(several) :], spare)


def _chosen(comparison: Comparison) -> Grid:
    rows, names = comparison.chosen.to_dict("records"), comparison.headings
    shown, selection = _shown(comparison.table), comparison.metric
    keys = list(comparison.chosen.columns[: comparison.chosen.columns.get_loc("of")])
    columns = {key: [str(row[key]) for row in rows] for key in (*keys, "of", "n")}
    columns |= {names[score]: [_score(selection, row, score) for row in rows] for score in shown}
    by = names[validation_of(comparison.score)]
    title = (
        f"chosen on validation ({by}), the best of each strategy's cells, per data set; the test set had no part in it"
    )
    others = [names[score] for score in shown if score != comparison.score]
    return _grid(title, columns, list(columns)[len(keys) :], [*others, "of", "n", *reversed(keys[1:])])


def _grid(title: str, columns: dict[str, list[str]], numbers: list[str], spare: list[str]) -> Grid:
    return Grid(title, list(columns), numbers, [list(row) for row in zip(*columns.values(), strict=True)], spare)


def _shown(table: pd.DataFrame) -> list[str]:
    return [score for score in SCORES if table[f"{score} mean"].notna().any()]


def _score(metric: Metric, row: dict[str, Any], score: str) -> str:
    return mean_and_std(metric, row[f"{score} mean"], row[f"{score} std"])


def _in(unit: str) -> str:
    return f" in {unit}" if unit else ""
