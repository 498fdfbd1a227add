"""Cells compared: seeds summarised, differences to a baseline tested, a winner chosen on validation, doubts noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vicinal.analysis.records import Run

if TYPE_CHECKING:
    import pandas as pd

VALIDATION = ("val", "val_best")
"""Top-1 accuracy on validation: of the last epoch and of the best."""
TESTED = ("test/last", "test/best_val", "test/median10")
"""Three ways to read the test set."""
SCORES = VALIDATION + TESTED
"""The columns of top-1 accuracy."""
MEDIAN = 10
"""Epochs at the end that the median is of."""


def validation_of(score: str) -> str:
    """The validation score of the epoch that a test score is of: by it cells are chosen."""
    return "val_best" if score == "test/best_val" else "val"


def headings(cells: Sequence[Cell]) -> dict[str, str]:
    """{score: what a table calls it}; a short training has no ten epochs to take the median of."""
    median, last = f"median of last {MEDIAN}", {min(run.epochs, MEDIAN) for cell in cells for run in cell.completed}
    if short := last - {MEDIAN}:
        median += " or fewer"
        if len(last) == 1:
            median = f"median of all {n} epochs" if (n := short.pop()) > 1 else "median of one epoch"
    names = ("val, last epoch", "val, best epoch", "test, last epoch", "test, best by val", f"test, {median}")
    return dict(zip(SCORES, names, strict=True))


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


class Shown(Protocol):
    """What pictures are drawn of: a finished comparison, or a sweep that is still running."""

    @property
    def swept(self) -> Sequence[str]: ...
    @property
    def cells(self) -> Sequence[Cell]: ...
    @property
    def score(self) -> str: ...
    @property
    def headings(self) -> dict[str, str]: ...
    @property
    def best(self) -> Sequence[str]: ...
    def curves(self, cell: Cell) -> list[list[dict[str, Any]]]: ...


@dataclass(frozen=True)
class Comparison:
    """What a report says, as data. All outputs are written from it, so that their numbers agree.

    Attributes:
        title: the sweep's name, the folder or the conditions.
        swept: the keys by which the cells are meant to differ.
        cells: in grid order.
        baseline: the cell that the others are compared with, or the first of several; None if there is no cell.
        score: the one of TESTED that is tested.
        table: a row a cell, in the order of ``cells``: swept keys, ``n``, for each of SCORES ``<score> mean``, ``std``
            (n - 1), ``low``, ``high`` (95 % interval of the mean) of acc1, then ``<score>/nll mean`` and
            ``<score>/ece mean``, ``failed`` (reasons by seed), ``folder`` ("*" for the seed). NaN where there is none.
        pairs: a row for each cell but the baselines: ``cell`` (label), ``cell id``, ``baseline`` (label), ``score``,
            ``n pairs``, ``difference`` (mean over the common seeds), ``low``, ``high``, ``p t``, ``p t holm``,
            ``p wilcoxon``, ``p wilcoxon holm``, ``why`` (there is no p; "" if there is).
        chosen: a row a strategy: ``mixup``, the other swept keys, ``of`` (candidates), ``cell`` (label), ``n``, the
            columns of the scores as in ``table``, ``folder``. Empty without a validation split.
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

    @property
    def headings(self) -> dict[str, str]:
        """{score: what a table calls it}."""
        return headings(self.cells)

    @property
    def best(self) -> list[str]:
        """Labels of the cells that validation chose, of each strategy one."""
        return [] if self.chosen.empty else list(self.chosen["cell"])

    def curves(self, cell: Cell) -> list[list[dict[str, Any]]]:
        """The epochs of the cell's completed runs."""
        return [run.rows() for run in cell.completed]

    @property
    def baselines(self) -> list[str]:
        """Labels of all cells that others are compared with."""
        return list(dict.fromkeys(self.pairs["baseline"]))

    @property
    def compared_with(self) -> str:
        """The baseline in words, also where there are several."""
        if len(self.baselines) > 1:
            return "the baseline of each"
        return self.baseline.label if self.baseline else "nothing"
