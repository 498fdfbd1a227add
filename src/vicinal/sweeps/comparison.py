"""Cells compared: seeds summarised, differences to a baseline tested, a winner chosen on validation, doubts noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vicinal.sweeps.records import Run

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("val", "test/last", "test/best_val", "test/median10")
"""The columns of top-1 accuracy; three ways to read the test set."""
HEADINGS = dict(zip(SCORES, ("val", "test, last epoch", "test, best by val", "test, median of last 10"), strict=True))


@dataclass(frozen=True)
class Cell:
    """A point of the grid without its seed.

    Attributes:
        label: short and unique within a comparison, such as "input alpha=0.2".
        values: {swept key: text}, "-" where the key has no effect.
        choices: {group: option}; empty if no run of it is known.
        config: of one of its runs; empty likewise.
        runs: of all seeds, completed or not.
    """

    cell_id: str
    label: str
    values: dict[str, str]
    choices: dict[str, str]
    config: dict[str, Any]
    runs: list[Run]

    @property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.completed]

    @property
    def strategy(self) -> str:
        """The option of ``mixup``; "?" if no run of the cell is known."""
        return self.values.get("mixup") or self.choices.get("mixup", "?")

    def scores(self, name: str, metric: str = "acc1") -> dict[int, float]:
        """{seed: number} of the completed runs that have it; ``name`` is one of SCORES."""
        found = {run.seed: run.score(name, metric) for run in self.completed}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """What a report says, as data. All outputs are written from it, so that their numbers agree.

    Attributes:
        title: the sweep's name, the folder or the conditions.
        swept: the keys by which the cells are meant to differ.
        cells: in grid order.
        baseline: the cell that the others are compared with; None if there is no cell.
        score: the one of SCORES that is tested.
        table: a row a cell, in the order of ``cells``: swept keys, ``n``, for each of SCORES ``<score> mean``, ``std``
            (n - 1), ``low``, ``high`` (95 % t-interval of the mean) of acc1, then ``<score>/nll mean`` and
            ``<score>/ece mean``, ``failed`` (reasons by seed), ``folder`` ("*" for the seed). NaN where there is none.
        pairs: a row for each cell but the baseline: ``cell`` (label), ``cell id``, ``baseline`` (label), ``score``,
            ``n pairs``, ``difference`` (mean over the common seeds), ``low``, ``high``, ``p t``, ``p t holm``,
            ``p wilcoxon``, ``p wilcoxon holm``, ``why`` (there is no p; "" if there is).
        chosen: a row a strategy: ``mixup``, the other swept keys, ``of`` (candidates), ``cell`` (label), ``n``, the
            columns of the four scores as in ``table``, ``folder``. Empty without a validation split.
        notes: doubts, one line each.
    """

    title: str
    swept: list[str]
    cells: list[Cell]
    baseline: Cell | None
    score: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    chosen: pd.DataFrame
    notes: list[str]
