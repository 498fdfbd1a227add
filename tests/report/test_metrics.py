"""A metric that is in the table of a task is in every output, and any metric can be the one that selects."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import SCORES
from vicinal.dashboards.sections import sections
from vicinal.errors import UserError
from vicinal.jobs.run import _verdict
from vicinal.report.figures import pictures
from vicinal.report.report import finish
from vicinal.report.tables import grids
from vicinal.tasks import CLASSIFICATION, TASKS, Metric, Task

ALPHA = ("mixup", "mixup.alpha")
SPREAD = Metric("sharpness_of_output", "sharpness of the output", "nats", "lower", short="sharpness")


class Regression(Task):
    score_key = "rmse"


REGRESSION = Regression(
    name="regression",
    metrics=(
        Metric("rmse", "root mean square error", "m", "lower", short="RMSE"),
        Metric("r2", "explained variance", "", "higher"),
    ),
    selection="rmse",
)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """A metric that is in the table alone: nothing else knows of it."""
    task = replace(CLASSIFICATION, metrics=(*CLASSIFICATION.metrics, SPREAD))
    monkeypatch.setitem(TASKS, task.name, task)
    return SPREAD


def with_scores(value: dict[str, float]) -> dict[str, Any]:
    """Entries of a result in which all scores are these."""
    return {"val": value, "val_best": value, "test": {"last": value, "best_val": value, "median10": value}}


def fill(runs: Any) -> None:
    for seed in range(3):
        runs.add("none", None, seed, 0.5 + seed / 8, about={**with_scores(scores(0.5 + seed / 8, 0.25))})
        runs.add("input", 0.2, seed, 0.7 + seed / 30, about={**with_scores(scores(0.7 + seed / 30, 1.5))})


def scores(accuracy: float, spread: float) -> dict[str, float]:
    others = {metric.key: accuracy for metric in CLASSIFICATION.computed}
    return {**others, SPREAD.key: spread}


def test_a_metric_of_the_table_is_in_every_output(runs: Any, added: Metric) -> None:
    fill(runs)
    stream = io.StringIO()
    report = finish(runs.sweep(*ALPHA), console=Console(file=stream, width=300))
    heading = "sharpness (nats) ↓"
    assert {"sharpness", "(nats)"} <= set(stream.getvalue().split())  # the heading of a narrow column is folded
    assert heading in (report / "table.md").read_text()
    assert r"sharpness (nats) $\downarrow$" in (report / "table.tex").read_text()
    assert f'<th scope="col">{heading}</th>' in (report / "report.html").read_text()
    table = pd.read_csv(report / "summary.csv")
    for score in SCORES:
        assert table[f"{score}/{added.key} mean"].tolist() == [0.25, 1.5]
    comparison = compare(runs.found(*ALPHA))
    (cells, *_) = grids(comparison)
    assert [row[cells.headings.index(heading)] for row in cells.rows] == ["0.2500", "1.500"]
    assert not [note for note in comparison.notes if "older version" in note]
    panel = pictures(comparison)[-1].panels[-2]
    assert panel.y.title == "sharpness of the output, nats"
    assert [series.y for series in panel.series] == [(0.25,), (1.5,)]
    keys = {key for plots in sections(comparison.task).values() for plot in plots for key in plot.keys}
    assert {f"val/{added.key}", f"test/best_val/{added.key}"} <= keys


def test_results_from_before_the_metric_have_an_empty_cell_and_a_note(runs: Any, added: Metric) -> None:
    fill(runs)
    runs.add("cutmix", 1.0, 0, 0.5)
    comparison = compare(runs.found(*ALPHA))
    assert math.isnan(comparison.table[f"test/last/{added.key} mean"].iloc[2])
    line = f"results of an older version lack {added.key}, and are left out of its column: cutmix alpha=1 seed 0"
    assert line in comparison.notes
    assert grids(comparison)[0].rows[2][-2] == "-"


def test_a_metric_of_some_trainings_is_shown_where_one_has_it(runs: Any) -> None:
    """And a result that lacks it is no older one."""
    few = CLASSIFICATION.metric("acc_few")
    fill(runs)
    balanced = compare(runs.found(*ALPHA))
    for seed in range(3):
        runs.add("cutmix", 1.0, seed, 0.5, about=with_scores({**scores(0.5, 0.5), few.key: 0.25}))
    comparison = compare(runs.found(*ALPHA))
    assert few.heading == "few-shot (%) ↑"
    for found, cells in ((balanced, None), (comparison, ["-", "-", "25.00"])):
        grid = grids(found)[0]
        column = grid.headings.index(few.heading) if few.heading in grid.headings else None
        assert (column and [row[column] for row in grid.rows]) == cells
        keys = {key for plots in sections(found.task).values() for plot in plots for key in plot.keys}
        assert (f"val/{few.key}" in keys) == (f"val/{few.key} mean" in found.table) == (cells is not None)
        assert not [note for note in found.notes if few.key in note]


def test_the_other_metrics_make_room_first(runs: Any) -> None:
    fill(runs)
    sweep = runs.sweep(*ALPHA)
    stream = io.StringIO()
    others = [metric.heading for metric in CLASSIFICATION.computed[1:]]
    finish(sweep, console=Console(file=stream, width=120, force_terminal=True, color_system=None, legacy_windows=False))
    line = next(line for line in stream.getvalue().splitlines() if line.startswith("not shown"))
    assert line == f"not shown, for lack of room: {'; '.join(others)}; folder"


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch, runs: Any) -> Any:
    """Runs of a task whose best score is the smallest, and has no upper limit."""
    monkeypatch.setitem(TASKS, REGRESSION.name, REGRESSION)
    for seed in range(3):
        for alpha, error in ((None, 20.0), (0.2, 5.0), (0.4, 9.0)):
            value = {"rmse": error + seed**2, "r2": 0.5}
            about = {"task": "regression", **with_scores(value)}
            runs.add("none" if alpha is None else "input", alpha, seed, 0.5, about=about)
    return runs


def test_a_metric_can_be_better_when_it_is_lower_and_have_no_limit(regression: Any) -> None:
    for file in regression.outputs.glob("runs/*/result.json"):
        assert '"rmse"' in file.read_text()
    comparison = compare(regression.found(*ALPHA))
    assert comparison.task is REGRESSION
    assert comparison.chosen["mixup.alpha"].tolist() == ["-", "0.2"]
    assert comparison.table["val mean"].tolist() == pytest.approx([20 + 5 / 3, 5 + 5 / 3, 9 + 5 / 3])
    cells, pairs, _ = grids(comparison)
    assert cells.title.startswith("root mean square error in m, lower is better, mean ± std over n seeds, interval")
    assert cells.headings[-2] == "explained variance ↑"
    assert cells.rows[0][3] == "21.67 ± 2.08"
    assert pairs.title == "test, last epoch: difference to none in m, on the same seeds; below 0 is better"
    assert [row[2] for row in pairs.rows] == ["-15.00", "-11.00"]
    assert [picture.title for picture in pictures(comparison)] == [
        "Root mean square error against mixup.alpha", "Learning curves", "Other metrics against root mean square error",
    ]  # fmt: skip
    assert pictures(comparison)[0].panels[0].y.title == "val, last epoch, RMSE, m"


def test_differences_of_unlimited_metrics_are_not_cut(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, REGRESSION.name, REGRESSION)
    own, others = [9.0, 7.0, 11.0], [20.0, 21.0, 23.0]
    for seed in range(3):
        for mixup, values in (("none", others), ("input", own)):
            about = {"task": "regression", **with_scores({"rmse": values[seed], "r2": 0.5})}
            runs.add(mixup, None if mixup == "none" else 0.2, seed, 0.5, about=about)
    (row,) = compare(runs.found(*ALPHA)).pairs.to_dict("records")
    limits = stats.ttest_rel(own, others).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(limits))
    assert row["low"] < -1


def test_runs_of_several_tasks_have_no_common_report(regression: Any) -> None:
    regression.add("cutmix", 1.0, 0, 0.5)
    with pytest.raises(UserError, match=r"these runs are of several tasks \(classification, regression\): choose one"):
        compare(regression.found(*ALPHA))


def test_the_last_line_of_a_run_is_about_the_metric_that_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, REGRESSION.name, REGRESSION)
    test = {"last": {"rmse": 12.5}, "best_val": None, "median10": {"rmse": 13.0}}
    line = _verdict({"task": "regression", "epochs": 20, "test": test})
    assert line == "test rmse: last epoch 12.5000, median of last 10 13.0000"
    test = {"last": {"acc1": 0.5}, "best_val": {"acc1": 0.25}, "median10": {"acc1": 0.75}}
    line = _verdict({"epochs": 2, "test": test})
    assert line == "test acc1: last epoch 0.5000, best by validation 0.2500, median of last 2 0.7500"
