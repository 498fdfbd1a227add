"""The three tables of a comparison: cells, differences to the baseline, and the cells that validation chose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vicinal.analysis.cells import group_of
from vicinal.analysis.comparison import SCORES, Cell, common_task, validation_of
from vicinal.analysis.records import ABSENT, grouped
from vicinal.analysis.statistics import compare, holm

if TYPE_CHECKING:
    import pandas as pd


def cell_table(cells: Sequence[Cell], swept: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell, as :attr:`~vicinal.analysis.comparison.Comparison.table` describes it."""
    import pandas as pd

    others = [(score, metric.key) for score in SCORES for metric in common_task(cells).others]
    rows = []
    for cell in cells:
        means = {f"{score}/{key} mean": cell.summary(score, key).mean for score, key in others}
        failed = "; ".join(f"seed {run.seed}: {run.error}" for run in cell.runs if not run.completed)
        rows.append({**_values(cell, swept), **_scores(cell), **means, "failed": failed, "folder": folder(cell)})
    return pd.DataFrame(rows)


def pair_table(cells: Sequence[Cell], against: Mapping[str, Cell], score: str) -> pd.DataFrame:
    """Return one row per cell that has a baseline: :attr:`~vicinal.analysis.comparison.Comparison.pairs`.

    Holm's correction is for the comparisons that have at least two pairs.
    """
    import pandas as pd

    columns = ["cell", "cell id", "baseline", "score", "n pairs", "difference", "low", "high"]
    columns += ["p t", "p t holm", "p wilcoxon", "p wilcoxon holm", "why"]
    limit = common_task(cells).selected.limit
    rows = []
    for cell in cells:
        if (baseline := against.get(cell.cell_id)) is None:
            continue
        own, other = cell.scores(score), baseline.scores(score)
        seeds = sorted(own.keys() & other.keys())
        pair = compare([own[seed] for seed in seeds], [other[seed] for seed in seeds], limit)
        names = (cell.label, cell.cell_id, baseline.label, score, pair.n, pair.difference, pair.low, pair.high)
        rows.append([*names, pair.p_t, math.nan, pair.p_wilcoxon, math.nan, pair.why])
    table = pd.DataFrame(rows, columns=columns)
    tested = table["n pairs"] >= 2
    for test in ("p t", "p wilcoxon"):
        table[f"{test} holm"] = table[f"{test} holm"].astype(float)
        table.loc[tested, f"{test} holm"] = holm(table.loc[tested, test].tolist())
    return table


def rivals(cells: Sequence[Cell], score: str) -> list[list[Cell]]:
    """Group the cells between which validation chooses: those of one strategy on the same data.

    Swept keys of the data, such as their noise, are not chosen: easier data have better scores. Validation scores are
    of the epoch that ``score`` is of; cells without one are left out.
    """
    by = validation_of(score)
    return [*grouped((_kind(cell), cell) for cell in cells if cell.scores(by)).values()]


def _kind(cell: Cell) -> tuple[str, ...]:
    return cell.strategy, *(text for key, text in cell.values.items() if group_of(key) == "dataset")


def eligible(cells: Sequence[Cell], score: str) -> list[Cell]:
    """Return the rivals with the most seeds: a mean over the seeds that did not diverge is too good."""
    seeds = [len(cell.scores(validation_of(score))) for cell in cells]
    return [cell for cell, count in zip(cells, seeds, strict=True) if count == max(seeds)]


def chosen_table(cells: Sequence[Cell], swept: Sequence[str], score: str) -> pd.DataFrame:
    """Return one row per group of ``rivals``, for the cell with the best mean on validation.

    The choice does not use test scores. Of equal cells, the first in grid order is chosen.
    """
    import pandas as pd

    by = validation_of(score)
    sign = 1 if common_task(cells).selected.better == "higher" else -1
    rows = []
    for group in rivals(cells, score):
        best = max(eligible(group, score), key=lambda cell: sign * cell.summary(by).mean)
        values = _values(best, [key for key in swept if key != "mixup"])
        rows.append({"mixup": best.strategy, **values, "of": len(group), "cell": best.label, **_scores(best)})
        rows[-1]["folder"] = folder(best)
    return pd.DataFrame(rows)


def folder(cell: Cell) -> str:
    """Return the folder of all runs of a cell, with ``*`` for the seed."""
    run = cell.runs[0]
    return str(run.folder.with_name(f"{run.name}-{cell.cell_id}-s*"))


def _scores(cell: Cell) -> dict[str, Any]:
    summaries = {score: cell.summary(score) for score in SCORES}
    columns = {
        f"{score} {name}": getattr(summary, name)
        for score, summary in summaries.items()
        for name in ("mean", "std", "low", "high")
    }
    return {"n": len(cell.completed), **columns}


def _values(cell: Cell, keys: Sequence[str]) -> dict[str, str]:
    return {key: cell.values.get(key, ABSENT) for key in keys}
