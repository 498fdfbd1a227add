"""The numbers that a report's pictures are made of."""

import math
from typing import Any

import numpy as np
import pytest

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import Comparison
from vicinal.analysis.statistics import summarise
from vicinal.report.figure_types import COLORS, Picture, Series
from vicinal.report.figures import axis_key, pictures
from vicinal.tasks import CLASSIFICATION

SEEDS = range(3)


def drawn(seed: int, *, cell: int) -> list[float]:
    """Test scores: last, best by validation, median."""
    return [round(float(each), 3) for each in np.random.default_rng([seed, cell]).uniform(0.5, 0.9, size=3)]


def alpha_sweep(runs: Any, alphas: tuple[float, ...] = (0.2, 0.4, 1.0), **settings: Any) -> Comparison:
    for seed in SEEDS:
        runs.add("none", None, seed, drawn(seed, cell=0), val=0.5 + seed / 10)
    for strategy in ("input", "cutmix"):
        for index, alpha in enumerate(alphas):
            for seed in SEEDS:
                runs.add(strategy, alpha, seed, drawn(seed, cell=index), val=0.6 + seed / 20, **settings)
    return compare(runs.found("mixup", "mixup.alpha"))


def by_name(picture: Picture, panel: int) -> dict[str, Series]:
    return {series.name: series for series in picture.panels[panel].series}


def test_a_line_a_strategy_over_alpha_and_a_level_for_none_with_the_tables_numbers(runs: Any) -> None:
    comparison = alpha_sweep(runs)
    response = pictures(comparison)[0]
    assert [panel.y.title for panel in response.panels] == ["val, last epoch, top-1", "test, last epoch, top-1"]
    for panel, score in enumerate(("val", "test/last")):
        found = by_name(response, panel)
        assert {name: series.kind for name, series in found.items()} == {
            "none": "level",
            "input": "line",
            "cutmix": "line",
        }
        for strategy in ("input", "cutmix"):
            rows = comparison.table[comparison.table["mixup"] == strategy]
            series = found[strategy]
            assert series.x == (0.2, 0.4, 1.0)
            assert [*series.y] == rows[f"{score} mean"].tolist()
            assert [*series.low] == rows[f"{score} low"].tolist()
            assert [*series.high] == rows[f"{score} high"].tolist()
        (none,) = comparison.table[comparison.table["mixup"] == "none"].to_dict("records")
        assert found["none"].x == response.panels[panel].x.ends
        assert found["none"].y == (none[f"{score} mean"],) * 2
        assert found["none"].low == (none[f"{score} low"],) * 2
        assert found["none"].high == (none[f"{score} high"],) * 2


def test_the_other_metrics_are_the_mean_and_the_interval_of_the_results(runs: Any) -> None:
    comparison = alpha_sweep(runs)
    picture = pictures(comparison)[-1]
    assert picture.name == "metrics"
    assert len(picture.panels) == len(CLASSIFICATION.computed)
    for panel, metric in enumerate(("acc5", "nll", "ece")):
        for index, series in enumerate(picture.panels[panel].series):
            cell, row = comparison.cells[index], comparison.table.iloc[index]
            values = [run.test["last"][metric] for run in cell.runs]  # type: ignore[index]
            over = summarise(values, limit=math.inf if metric == "nll" else 1.0)
            assert (series.name, series.x, series.y) == (cell.label, (row["test/last mean"],), (over.mean,))
            assert (series.low, series.high) == ((over.low,), (over.high,))
            assert series.y == (row[f"test/last/{metric} mean"],)
            assert (series.x_low, series.x_high) == ((row["test/last low"],), (row["test/last high"],))


def test_the_time_of_training_is_drawn_against_the_score(runs: Any) -> None:
    comparison = alpha_sweep(runs)
    panel = pictures(comparison)[-1].panels[-1]
    assert panel.y.title == "seconds of training"
    found = {series.name: (series.x, series.y) for series in panel.series}
    rows = zip(comparison.cells, comparison.table["test/last mean"], strict=True)
    assert found == {cell.label: ((mean,), (2.0,)) for cell, mean in rows}


def test_no_training_takes_less_than_no_time(runs: Any) -> None:
    """Student's interval of three very different times has a lower end below 0."""
    for seed, seconds in enumerate((1.0, 2.0, 30.0)):
        runs.add("input", 0.2, seed, 0.5 + seed / 10, about={"seconds": {"train": seconds}})
        runs.add("none", None, seed, 0.5 + seed / 20)
    panel = pictures(compare(runs.found("mixup")))[-1].panels[-1]
    [(low,)] = [series.low for series in panel.series if series.name.startswith("input")]
    assert low == 0


def test_curves_are_means_and_ranges_over_the_completed_seeds(runs: Any) -> None:
    for seed, (score, val) in enumerate([(0.5, 0.25), (0.75, 0.5), (1.0, 1.0)]):
        runs.add("input", 0.2, seed, score, val=val, trainer__epochs=4)
    runs.add("input", 0.2, 3, None, status="failed", trainer__epochs=4)
    learning = pictures(compare(runs.found("mixup")))[1]
    accuracy, loss = (by_name(learning, panel)["input"] for panel in (0, 1))
    assert learning.name == "learning"
    assert accuracy.x == loss.x == (1, 2, 3, 4)
    assert accuracy.y == pytest.approx((1.75 / 3,) * 4, rel=1e-15)
    assert (accuracy.low, accuracy.high) == ((0.25,) * 4, (1.0,) * 4)
    assert loss.y == (2, 1, 2 / 3, 0.5)
    assert accuracy.hover[0] == "input, n = 3"


def test_one_seed_has_points_and_no_interval_anywhere(runs: Any) -> None:
    runs.add("input", 0.2, 0, 0.5)
    runs.add("input", 0.4, 0, 0.75)
    found = pictures(compare(runs.found("mixup.alpha")))
    assert [picture.name for picture in found] == ["response", "learning", "metrics"]
    for series in (series for picture in found for panel in picture.panels for series in panel.series):
        assert all(map(math.isfinite, series.y))
        assert all(map(math.isnan, (*series.low, *series.high, *series.x_low, *series.x_high)))


def test_without_a_validation_split_only_test_is_drawn(runs: Any) -> None:
    for alpha in (0.2, 0.4):
        runs.add("input", alpha, 0, 0.5, val=None)
    response, learning, _ = pictures(compare(runs.found("mixup.alpha")))
    assert [panel.y.title for panel in response.panels] == ["test, last epoch, top-1"]
    assert [panel.y.title for panel in learning.panels] == ["train loss, as trained", "train, as trained, top-1"]


def test_cells_without_scores_are_left_out_and_without_any_there_is_no_picture(runs: Any) -> None:
    runs.add("input", 0.2, 0, 0.5)
    runs.add("input", 0.4, 0, 0.5)
    runs.add("input", 1.0, 0, None, status="failed")
    runs.add("input", 2.0, 0, None, status="missing")
    assert by_name(pictures(compare(runs.found("mixup.alpha")))[0], 0)["input"].x == (0.2, 0.4)
    nothing = type(runs)(runs.outputs / "nothing")
    nothing.add("input", 0.2, 0, None, status="failed")
    nothing.add("input", 0.4, 0, None, status="missing")
    assert pictures(compare(nothing.found("mixup.alpha"))) == []


def test_a_level_line_is_explained_by_what_it_is(runs: Any) -> None:
    assert pictures(alpha_sweep(runs))[0].caption.endswith(" A level line is a cell in which the key has no effect.")
    for clip in ("null", 0.5, 5.0):
        runs.add("input", 0.2, 0, 0.5, trainer__clip_grad_norm=clip)
    response = pictures(compare(runs.found("trainer.clip_grad_norm")))[0]
    assert response.caption.endswith(" A level line is a cell in which the key has no effect or is null.")


def test_without_a_number_on_the_axis_there_is_a_dot_a_cell_from_top_to_bottom(runs: Any) -> None:
    for strategy in ("none", "input", "cutmix"):
        for seed in SEEDS:
            alpha = None if strategy == "none" else 0.2
            runs.add(strategy, alpha, seed, drawn(seed, cell=1), val=0.5 + seed / 10)
    comparison = compare(runs.found("mixup"))
    cells = pictures(comparison)[0]
    assert cells.name == "cells"
    assert cells.panels[1].y.ticks == ((3.0, "none"), (2.0, "input"), (1.0, "cutmix"))
    for index, series in enumerate(cells.panels[1].series):
        row = comparison.table.iloc[index]
        assert (series.x, series.y) == ((row["test/last mean"],), (3.0 - index,))
        assert (series.x_low, series.x_high) == ((row["test/last low"],), (row["test/last high"],))


def test_alpha_is_on_x_whatever_else_is_swept_and_the_rest_names_the_lines(runs: Any) -> None:
    for batch in (16, 32, 64):
        for alpha in (0.2, 0.4):
            runs.add("input", alpha, 0, 0.5, trainer__batch_size=batch)
    comparison = compare(runs.found("trainer.batch_size", "mixup.alpha"))
    assert axis_key(comparison) == "mixup.alpha"
    names = ["trainer.batch_size=16", "trainer.batch_size=32", "trainer.batch_size=64"]
    assert list(by_name(pictures(comparison)[0], 0)) == names


def test_a_wide_range_is_logarithmic_with_a_place_for_zero_left_of_the_rest(runs: Any) -> None:
    for alpha in (0.0, 0.1, 0.2, 1.6):
        runs.add("input", alpha, 0, 0.5)
    x = pictures(compare(runs.found("mixup.alpha")))[0].panels[0].x
    assert x.log
    assert x.ticks == ((pytest.approx(0.05), "0"), (0.1, "0.1"), (0.2, "0.2"), (1.6, "1.6"))
    assert x.ends is not None
    assert 0 < x.ends[0] < 0.05
    assert x.ends[1] > 1.6


def test_many_values_keep_only_the_ticks_that_have_room(runs: Any) -> None:
    for index in range(40):
        runs.add("input", 1 + index / 10, 0, 0.5)
    x = pictures(compare(runs.found("mixup.alpha")))[0].panels[0].x
    assert not x.log
    places = [place for place, _ in x.ticks]
    assert 10 <= len(places) <= 15
    assert min(np.diff(places)) >= 3.9 / 14


def test_forty_cells_are_told_apart_by_safe_colours_and_markers(runs: Any) -> None:
    for strategy in ("input", "cutmix"):
        for index in range(20):
            runs.add(strategy, (1 + index) / 20, 0, 0.5 + index / 50, val=0.9 - index / 50)
    comparison = compare(runs.found("mixup", "mixup.alpha"))
    _, learning, metrics = pictures(comparison)
    styles = [series.style for series in metrics.panels[0].series]
    assert len(set(styles)) == len(styles) == 40
    assert {style.color for style in styles} <= set(COLORS)
    assert [series.name for series in learning.panels[0].series if series.shown] == list(comparison.chosen["cell"])
    assert "validation chose" in learning.caption


def test_the_colours_are_okabe_and_itos() -> None:
    # Okabe & Ito 2008, Color Universal Design, without black
    theirs = [
        (0, 114, 178),
        (213, 94, 0),
        (0, 158, 115),
        (204, 121, 167),
        (230, 159, 0),
        (86, 180, 233),
        (240, 228, 66),
    ]
    assert [tuple(bytes.fromhex(color[1:])) for color in COLORS] == theirs
