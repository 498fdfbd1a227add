"""A comparison as text: the same cells of text for the terminal, Markdown and LaTeX; CSV files with all digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.analysis.comparison import SCORES, Comparison, validation_of
from vicinal.report.terminal import Grid
from vicinal.runs.files import write
from vicinal.utils import escaping

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "-"


def grids(comparison: Comparison) -> list[Grid]:
    """The cells; differences to the baseline, if there are any; what validation chose, if there was a choice."""
    found = [_cells(comparison)]
    if comparison.pairs["difference"].notna().any():
        found.append(_pairs(comparison))
    if not comparison.chosen.empty and (comparison.chosen["of"] > 1).any():
        found.append(_chosen(comparison))
    return found


def write_csv(comparison: Comparison, folder: Path) -> list[Path]:
    """``summary.csv``, ``pairs.csv`` and ``chosen.csv``: accuracies as fractions, with all their digits."""
    tables = {"summary": comparison.table, "pairs": comparison.pairs, "chosen": comparison.chosen}
    for name, table in tables.items():
        safe = table.map(escaping.csv).rename(columns=escaping.csv)
        write(folder / f"{name}.csv", safe.to_csv(index=False).encode())
    return [folder / f"{name}.csv" for name in tables]


def markdown(found: Sequence[Grid], notes: Sequence[str]) -> str:
    """Tables as GitHub reads them, and the notes as a list."""
    parts = []
    for grid in found:
        rule = ["--:" if heading in grid.numbers else "---" for heading in grid.headings]
        lines = [grid.headings, rule, *grid.rows]
        rows = ["| " + " | ".join(map(escaping.markdown, line)) + " |" for line in lines]
        parts.append(f"{escaping.markdown(grid.title)}\n\n" + "\n".join(rows))
    listed = "\n".join(f"- {escaping.markdown(note)}" for note in notes)
    return "\n\n".join([*parts, *([listed] if notes else [])]) + "\n"


def latex(found: Sequence[Grid], notes: Sequence[str]) -> str:
    r"""Tables for ``\usepackage{booktabs}``, without folders; the notes are comments below them."""
    import pandas as pd

    parts = []
    for grid in found:
        kept = [index for index, heading in enumerate(grid.headings) if heading != "folder"]
        headings = [grid.headings[index] for index in kept]
        rows = [[escaping.latex(row[index]) for index in kept] for row in grid.rows]
        for row in rows:
            if row[0].startswith(("[", "*")):  # after a row's end they would belong to it
                row[0] = f"{{{row[0]}}}"
        columns = "".join("r" if heading in grid.numbers else "l" for heading in headings)
        table = pd.DataFrame(rows, columns=[escaping.latex(heading) for heading in headings])
        caption = escaping.latex(grid.title)
        parts.append(table.to_latex(index=False, column_format=columns, caption=caption, position="htbp"))
    return "\n".join([*parts, *(f"% {escaping.visible(note)}" for note in notes)]) + "\n"


def percent(mean: float, std: float) -> str:
    """A fraction's mean and deviation in percent."""
    if math.isnan(mean):
        return NOTHING
    return f"{100 * mean:.2f}" if math.isnan(std) else f"{100 * mean:.2f} ± {100 * std:.2f}"


def interval(low: float, high: float, sign: str = "") -> str:
    """Limits of a fraction in percent."""
    return NOTHING if math.isnan(low) else f"[{100 * low:{sign}.2f}, {100 * high:{sign}.2f}]"


def probability(p: float) -> str:
    """A p-value."""
    if math.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cells(comparison: Comparison) -> Grid:
    table, shown, names = comparison.table, _shown(comparison.table), comparison.headings
    tested = f"95 % interval, {names[comparison.score].removeprefix('test, ')}"
    headings = [*comparison.swept, "n"]
    for score in shown:
        headings += [names[score], tested] if score == comparison.score else [names[score]]
    failures = ["failed"] if (table["failed"] != "").any() else []
    rows = []
    for row in table.to_dict("records"):
        texts = [*(str(row[key]) for key in comparison.swept), str(row["n"])]
        for score in shown:
            texts.append(_score(row, score))
            if score == comparison.score:
                texts.append(interval(row[f"{score} low"], row[f"{score} high"]))
        rows.append([*texts, *(row[name] for name in failures), Path(row["folder"]).name])
    title = f"top-1 accuracy in %, mean ± std over n seeds, Wilson interval of the mean ({comparison.title})"
    others = [names[score] for score in shown if score != comparison.score]
    spare = ["folder", *others, tested, "n", *reversed(comparison.swept[1:])]
    return Grid(title, [*headings, *failures, "folder"], headings[len(comparison.swept) :], rows, spare)


def _pairs(comparison: Comparison) -> Grid:
    several = ["baseline"] if len(comparison.baselines) > 1 else []
    headings = ["difference", "95 % interval", "p t-test", "p t-test, Holm", "p signed-rank", "p signed-rank, Holm"]
    rows = [
        [
            row["cell"],
            *(row[name] for name in several),
            str(row["n pairs"]),
            NOTHING if math.isnan(row["difference"]) else f"{100 * row['difference']:+.2f}",
            interval(row["low"], row["high"], "+"),
            *(probability(row[name]) for name in ("p t", "p t holm", "p wilcoxon", "p wilcoxon holm")),
        ]
        for row in comparison.pairs.to_dict("records")
    ]
    heading = comparison.headings[comparison.score]
    title = f"{heading}: difference to {comparison.compared_with} in points, on the same seeds"
    spare = ["p signed-rank", "p t-test", "p signed-rank, Holm", "p t-test, Holm", "pairs", "95 % interval", *several]
    return Grid(title, ["cell", *several, "pairs", *headings], ["pairs", *headings], rows, spare)


def _chosen(comparison: Comparison) -> Grid:
    chosen, names, shown = comparison.chosen, comparison.headings, _shown(comparison.table)
    keys = list(chosen.columns[: chosen.columns.get_loc("of")])
    numbers = ["of", "n", *(names[score] for score in shown)]
    rows = [
        [*(str(row[key]) for key in keys), str(row["of"]), str(row["n"]), *(_score(row, score) for score in shown)]
        for row in chosen.to_dict("records")
    ]
    by = names[validation_of(comparison.score)]
    title = f"chosen on validation ({by}), the best of each strategy's cells; the test set had no part in it"
    others = [names[score] for score in shown if score != comparison.score]
    return Grid(title, [*keys, *numbers], numbers, rows, [*others, "of", "n", *reversed(keys[1:])])


def _shown(table: pd.DataFrame) -> list[str]:
    return [score for score in SCORES if table[f"{score} mean"].notna().any()]


def _score(row: dict[str, Any], score: str) -> str:
    return percent(row[f"{score} mean"], row[f"{score} std"])
