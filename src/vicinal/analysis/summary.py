"""The three tables of a comparison: cells, differences to the baseline, and what validation chose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vicinal.analysis.comparison import SCORES, Cell, validation_of
from vicinal.analysis.records import ABSENT
from vicinal.analysis.statistics import compare, holm, summarise

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("acc1", "nll", "ece")
"""What the tables have of each score."""


def cell_table(cells: Sequence[Cell], swept: Sequence[str]) -> pd.DataFrame:
    """A row a cell: :attr:`~vicinal.analysis.comparison.Comparison.table`."""
    import pandas as pd

    rows = []
    for cell in cells:
        others = {
            f"{score}/{metric} mean": summarise(list(cell.scores(score, metric).values())).mean
            for score in SCORES
            for metric in METRICS[1:]
        }
        failed = "; ".join(f"seed {run.seed}: {run.error}" for run in cell.runs if not run.completed)
        rows.append({**_values(cell, swept), **_scores(cell), **others, "failed": failed, "folder": folder(cell)})
    return pd.DataFrame(rows)


def pair_table(cells: Sequence[Cell], against: Mapping[str, Cell], score: str) -> pd.DataFrame:
    """A row for each cell that has a baseline: :attr:`~vicinal.analysis.comparison.Comparison.pairs`.

    The comparisons that have at least two pairs are the family that Holm's correction is for.
    """
    import pandas as pd

    columns = ["cell", "cell id", "baseline", "score", "n pairs", "difference", "low", "high"]
    columns += ["p t", "p t holm", "p wilcoxon", "p wilcoxon holm", "why"]
    rows = []
    for cell in cells:
        if (baseline := against.get(cell.cell_id)) is None:
            continue
        own, other = cell.scores(score), baseline.scores(score)
        seeds = sorted(own.keys() & other.keys())
        pair = compare([own[seed] for seed in seeds], [other[seed] for seed in seeds])
        names = (cell.label, cell.cell_id, baseline.label, score, pair.n, pair.difference, pair.low, pair.high)
        rows.append([*names, pair.p_t, math.nan, pair.p_wilcoxon, math.nan, pair.why])
    table = pd.DataFrame(rows, columns=columns)
    tested = table["n pairs"] >= 2
    for test in ("p t", "p wilcoxon"):
        table[f"{test} holm"] = table[f"{test} holm"].astype(float)
        table.loc[tested, f"{test} holm"] = holm(table.loc[tested, test].tolist())
    return table


def chosen_table(cells: Sequence[Cell], swept: Sequence[str], score: str) -> pd.DataFrame:
    """A row a strategy, the cell with the best mean validation accuracy: the test scores had no part in the choice.

    The validation accuracy is of the epoch that ``score`` is of. Of equals, the first in grid order. A strategy none of
    whose cells has it has no row.
    """
    import pandas as pd

    others, by = [key for key in swept if key != "mixup"], validation_of(score)
    candidates: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.scores(by):
            candidates.setdefault(cell.strategy, []).append(cell)
    rows = []
    for strategy, of in candidates.items():
        best = max(of, key=lambda cell: mean_of(cell, by))
        about = {"mixup": strategy, **_values(best, others), "of": len(of), "cell": best.label}
        rows.append({**about, **_scores(best), "folder": folder(best)})
    return pd.DataFrame(rows)


def mean_of(cell: Cell, score: str) -> float:
    """Mean accuracy over the completed seeds; NaN without any."""
    return summarise(list(cell.scores(score).values())).mean


def folder(cell: Cell) -> str:
    """Of all its runs, with ``*`` for the seed."""
    run = cell.runs[0]
    return str(run.folder.with_name(f"{run.name}-{cell.cell_id}-s*"))


def _scores(cell: Cell) -> dict[str, Any]:
    columns: dict[str, Any] = {"n": len(cell.completed)}
    for score in SCORES:
        about = summarise(list(cell.scores(score).values()))
        columns |= {f"{score} {name}": getattr(about, name) for name in ("mean", "std", "low", "high")}
    return columns


def _values(cell: Cell, keys: Sequence[str]) -> dict[str, str]:
    return {key: cell.values.get(key, ABSENT) for key in keys}
