"""The cells of a sweep, and a comparison of them: the data that all outputs are written from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vicinal.analysis.records import Run, shown_task, task_of
from vicinal.analysis.statistics import Summary, summarise
from vicinal.tasks import Metric, Task

if TYPE_CHECKING:
    import pandas as pd

VALIDATION = ("val", "val_best")  # scores on validation: of the last epoch and of the best
TESTED = ("test/last", "test/best_val", "test/median10")  # three ways to read the test set
SCORES = VALIDATION + TESTED
MEDIAN_EPOCHS = 10  # epochs at the end of a run whose median is ``test/median10``


def validation_of(score: str) -> str:
    """Return the validation score of the epoch that a test score is of: cells are chosen by it."""
    return "val_best" if score == "test/best_val" else "val"


def headings(cells: Sequence[Cell]) -> dict[str, str]:
    """Return {score: heading}; a short training has fewer than ten epochs to take the median of."""
    median, epochs = f"median of last {MEDIAN_EPOCHS}", {run.epochs for cell in cells for run in cell.completed}
    if any(n < MEDIAN_EPOCHS for n in epochs):
        median += " or fewer"
        if len(epochs) == 1:
            median = f"median of all {n} epochs" if (n := epochs.pop()) > 1 else "median of one epoch"
    names = ("val, last epoch", "val, best epoch", "test, last epoch", "test, best by val", f"test, {median}")
    return dict(zip(SCORES, names, strict=True))


def common_task(cells: Iterable[Cell]) -> Task:
    """Return the task of all cells, with the metrics that any of them has. Raises UserError if there are several."""
    return shown_task([run for cell in cells for run in cell.runs])


@dataclass(frozen=True)
class Cell:
    """A point of the grid without its seed."""

    cell_id: str
    label: str  # short and unique within a comparison, such as "input alpha=0.2"
    values: dict[str, str]  # {swept key: text}, "-" where the key has no effect
    choices: dict[str, str]  # {group: option} of one of its runs; empty if unknown
    config: dict[str, Any]  # of one of its runs; empty if unknown
    runs: list[Run]  # of all seeds, completed or not

    @property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.completed]

    @property
    def strategy(self) -> str:
        """Option of ``mixup``; "?" if no run of the cell is known."""
        return self.values.get("mixup") or self.choices.get("mixup", "?")

    def scores(self, name: str, metric: str = "") -> dict[int, float]:
        """Return {seed: number} for one of SCORES and the key of a metric, by default the one that selects."""
        found = {run.seed: run.score(name, metric) for run in self.completed}
        return {seed: value for seed, value in found.items() if value is not None}

    def summary(self, name: str, metric: str = "") -> Summary:
        """Summarise what ``scores`` returns."""
        task = task_of(self.runs)
        return summarise(list(self.scores(name, metric).values()), task.metric(metric or task.selection).limit)

    def seconds(self) -> Summary:
        """Summarise the seconds of training, without evaluation, of the completed runs that say it."""
        found = [run.seconds["train"] for run in self.completed if "train" in run.seconds]
        return summarise(found, math.inf)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Cells as figures show them: those of a finished comparison, or of a sweep that is still running."""

    swept: Sequence[str]  # the keys by which the cells are meant to differ
    cells: Sequence[Cell]  # in grid order
    score: str = TESTED[0]  # the one of TESTED that is tested

    @property
    def task(self) -> Task:
        return common_task(self.cells)

    @property
    def metric(self) -> Metric:
        """The task's selection metric, which scores are of."""
        return self.task.selected

    @property
    def headings(self) -> dict[str, str]:
        """{score: heading}."""
        return headings(self.cells)

    @property
    def best(self) -> Sequence[str]:
        """Labels of the cells that validation chose, one per strategy and data."""
        return ()

    def curves(self, cell: Cell) -> list[list[dict[str, Any]]]:
        """Return the epochs of the cell's completed runs."""
        return [run.rows() for run in cell.completed]


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown):
    """A report as data. All outputs are written from it, so that their numbers agree."""

    title: str  # the sweep's name, the folder or the conditions
    baseline: Cell | None
    """The cell that the others are compared with, or the first of several; None if there is no cell."""
    table: pd.DataFrame
    """One row per cell, in the order of ``cells``: swept keys, ``n``; for each of SCORES ``<score> mean``, ``std`` (n -
    1), ``low`` and ``high`` (95 % interval of the mean) of the task's selection metric; for each of SCORES and each
    other metric ``<score>/<metric> mean``; ``failed`` (reasons by seed), ``folder`` ("*" for the seed). NaN where
    there is no value."""
    pairs: pd.DataFrame
    """One row per cell that is not a baseline: ``cell`` (label), ``cell id``, ``baseline`` (label), ``score``, ``n
    pairs``, ``difference`` (mean over the common seeds), ``low``, ``high``, ``p t``, ``p t holm``, ``p wilcoxon``,
    ``p wilcoxon holm``, ``why`` (what is missing and why, or "")."""
    chosen: pd.DataFrame
    """One row per strategy and data: ``mixup``, the other swept keys, ``of`` (number of candidates), ``cell`` (label),
    ``n``, the columns of SCORES as in ``table``, ``folder``. Empty without a validation split."""
    notes: list[str]  # caveats, one line each

    @property
    def best(self) -> Sequence[str]:
        return [] if self.chosen.empty else list(self.chosen["cell"])

    @property
    def compared(self) -> bool:
        """Whether any cell has a difference to its baseline."""
        return bool(self.pairs["difference"].notna().any())

    @property
    def picked(self) -> list[str]:
        """Labels of the cells that were chosen among several."""
        return [] if self.chosen.empty else list(self.chosen["cell"][self.chosen["of"] > 1])

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
