"""Pictures as files, and what matplotlib was made to draw."""

import math
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import Comparison
from vicinal.report.figure_types import COLORS, Axis, Panel, Picture, Series, Style
from vicinal.report.figures import pictures
from vicinal.report.matplotlib_plots import MAX_LABEL_CHARACTERS, draw, figure

NAN = math.nan


@pytest.fixture
def comparison(runs: Any) -> Comparison:
    for seed in range(3):
        runs.add("none", None, seed, 0.5 + seed / 16, val=0.5 + seed / 32)
        for index, alpha in enumerate((0.2, 0.4, 1.0)):
            runs.add("input", alpha, seed, 0.5 + (seed + index) / 32, val=0.5 + seed * index / 32)
            runs.add("cutmix", alpha, seed, 0.75 - (seed + index) / 32, val=0.5 - seed * index / 32)
    return compare(runs.found("mixup", "mixup.alpha"))


def test_lines_and_bands_are_at_the_numbers_of_the_table(comparison: Comparison) -> None:
    axes = figure(pictures(comparison)[0]).axes[1]
    lines = {len(line.get_xdata()): line for line in axes.lines}
    table = comparison.table
    for strategy in ("input", "cutmix"):
        rows = table[table["mixup"] == strategy]
        (line,) = (line for line in axes.lines if list(line.get_ydata()) == rows["test/last mean"].tolist())
        assert list(line.get_xdata()) == [0.2, 0.4, 1.0]
        color = to_hex(line.get_color()).upper()
        assert color in COLORS
        (band,) = (each for each in axes.collections if to_hex(each.get_facecolor()[0][:3]).upper() == color)
        (path,) = band.get_paths()
        corners = {(float(x), float(y)) for x, y in path.vertices}
        for alpha, low, high in zip((0.2, 0.4, 1.0), rows["test/last low"], rows["test/last high"], strict=True):
            assert {(alpha, low), (alpha, high)} <= corners
    level = lines[2]
    (none,) = table[table["mixup"] == "none"].to_dict("records")
    assert list(level.get_ydata()) == [none["test/last mean"]] * 2
    assert list(level.get_xdata()) == list(axes.get_xlim())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.2", "0.4", "1"]


def test_no_two_lines_have_the_same_colour_and_marker(comparison: Comparison) -> None:
    for picture in pictures(comparison):
        for axes in figure(picture).axes:
            looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines]
            assert len(set(looks)) == len(looks)


def test_whiskers_reach_from_low_to_high_both_ways(comparison: Comparison) -> None:
    picture = pictures(comparison)[-1]
    axes = figure(picture).axes[0]
    ends = [tuple(map(tuple, segment)) for lines in axes.collections for segment in lines.get_segments()]
    for series in picture.panels[0].series:
        (x,), (y,) = series.x, series.y
        assert ((x, series.low[0]), (x, series.high[0])) in ends
        assert ((series.x_low[0], y), (series.x_high[0], y)) in ends


def test_the_same_comparison_gives_the_same_bytes_and_what_is_no_longer_drawn_goes(
    comparison: Comparison, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "cells.png").write_bytes(b"of an earlier comparison")
    (tmp_path / "second" / "mine.png").write_bytes(b"not ours")
    first, second = draw(comparison, tmp_path / "first"), draw(comparison, tmp_path / "second")
    names = [f"{name}.{suffix}" for name in ("response", "learning", "metrics") for suffix in ("png", "svg")]
    assert [file.name for file in first] == [file.name for file in second] == names
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert {file.name for file in (tmp_path / "second").iterdir()} == {*names, "mine.png"}


def test_the_files_are_pictures_of_the_same_shape_and_carry_no_date(comparison: Comparison, tmp_path: Path) -> None:
    for png, svg in zip(*[iter(draw(comparison, tmp_path))] * 2, strict=True):
        with Image.open(png) as image:
            width, height = image.size
            assert len(image.getcolors(1 << 24) or []) > 50
            assert "Software" not in image.info
        root = ET.parse(svg).getroot()
        assert width > 1000
        assert float(root.attrib["viewBox"].split()[2]) * 150 / 72 == pytest.approx(width, abs=1)
        assert float(root.attrib["viewBox"].split()[3]) * 150 / 72 == pytest.approx(height, abs=1)
        assert "date" not in svg.read_text()


def one(series: Series, x: Axis = Axis("x"), y: Axis = Axis("y")) -> Picture:  # noqa: B008
    return Picture("one", "a $title$ with_ $", "", (Panel(x, y, (series,)),))


def test_a_point_without_an_interval_leaves_a_gap_in_the_band() -> None:
    style = Style(COLORS[0], "o", "-")
    series = Series("a", style, "line", (1, 2, 3, 4, 5), (1, 1, 1, 1, 1), (0, 0, NAN, 0, 0), (2, 2, NAN, 2, 2))
    (axes,) = figure(one(series)).axes
    (band,) = axes.collections
    assert [sorted({x for x, _ in path.vertices}) for path in band.get_paths()] == [[1, 2], [4, 5]]


@pytest.mark.parametrize("name", ["$x$", "_hidden", "a $ b", "<script>"])
def test_names_are_shown_as_they_are(name: str, tmp_path: Path) -> None:
    series = Series(name, Style(COLORS[0], "o", "-"), "dots", (0.5,), (1.0,), x_low=(NAN,), x_high=(NAN,))
    drawn = figure(one(series))
    assert [text.get_text().replace(r"\$", "$") for text in drawn.legends[0].texts] == [name]
    with mpl.rc_context({"svg.fonttype": "none"}):
        drawn.savefig(tmp_path / "one.svg")
    texts = [text.text for text in ET.parse(tmp_path / "one.svg").getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert name in texts
    assert "a $title$ with_ $" in texts


@pytest.mark.parametrize("script", ["input, with a key and its value", "输入"])
def test_long_names_and_other_scripts_leave_room_for_the_cells(script: str, runs: Any, tmp_path: Path) -> None:
    for index in range(3):
        runs.add("input", 0.1 * index, 0, 0.5, val=None, optimizer=f"{script} {index}".ljust(70, "x") + str(index))
    draw(compare(runs.found("optimizer")), tmp_path)
    drawn = figure(pictures(compare(runs.found("optimizer")))[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the glyphs, which ``draw`` keeps from the terminal
        drawn.savefig(tmp_path / "long.svg")
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert len({*labels}) == 3
    assert all(len(label) == MAX_LABEL_CHARACTERS for label in labels)
    assert min(axes.get_position().width for axes in drawn.axes) > 0.25


def test_forty_cells_on_both_kinds_of_axis_fit(runs: Any, tmp_path: Path) -> None:
    for index in range(40):
        runs.add("input", 1 + index / 10, 0, 0.5 + index / 100, val=0.9 - index / 100)
    for comparison in (compare(runs.found("mixup.alpha")), compare(runs.found())):
        for picture in pictures(comparison):
            drawn = figure(picture)
            drawn.savefig(tmp_path / "forty.png", dpi=50)  # the layout is made when it is drawn
            inner = [axes.get_position() for axes in drawn.axes]
            assert len(inner) == len(picture.panels)
            assert min(box.width for box in inner) > 0.25
            assert min(box.height for box in inner) * len({round(box.y0, 3) for box in inner}) > 0.5
            if picture.name == "cells":
                assert [any(text.get_visible() for text in axes.get_yticklabels()) for axes in drawn.axes] == [
                    True,
                    False,
                ]


def test_a_logarithmic_axis_has_its_ticks_at_the_values_and_no_others(runs: Any) -> None:
    for alpha in (0.0, 0.1, 0.4, 3.2):
        runs.add("input", alpha, 0, 0.5)
    axes = figure(pictures(compare(runs.found("mixup.alpha")))[0]).axes[0]
    assert axes.get_xscale() == "log"
    assert np.allclose(axes.get_xticks(), [0.025, 0.1, 0.4, 3.2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.1", "0.4", "3.2"]
    assert list(axes.get_xticks(minor=True)) == []


def test_a_users_own_style_changes_nothing_and_is_left_alone(comparison: Comparison, tmp_path: Path) -> None:
    plain = [file.read_bytes() for file in draw(comparison, tmp_path)]
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red"}):
        assert [file.read_bytes() for file in draw(comparison, tmp_path)] == plain
        assert mpl.rcParams["font.size"] == 30
