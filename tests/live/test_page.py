"""The page of a sweep that is still running, as text: its numbers, lines and pictures, and how it is kept."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicinal.live.monitor import Live
from vicinal.report.figure_types import Axis, Panel, Picture, Series, Style
from vicinal.report.html import drawing, mixing_stats, templating
from vicinal.runs import mixed_sheet
from vicinal.runs.files import DamagedError

from ..following import begun, page_of, watch, worked_on


def test_the_page_has_each_job_with_its_state_and_numbers(sweep: Path, grid: dict[str, Path]) -> None:
    with worked_on(grid["running"]):
        content = page_of(watch(sweep).look(), sweep)
    rows = re.findall(r'<tr data-run="(\S+)" data-state="(\w+)">(.*?)</tr>', content, re.DOTALL)
    assert [state for _, state, _ in rows] == ["completed", "failed", "running", "stopped", "planned"]
    values = [dict(re.findall(r'data-column="([^"]+)" data-value="([^"]*)"', row)) for _, _, row in rows]
    assert [row["score"] for row in values] == ["0.5", "", "0.5", "0.25", ""]
    assert [row["test/last"] for row in values] == ["0.75", "", "", "", ""]
    assert [row["epochs"] for row in values] == ["4", "0", "2", "1", "0"]
    assert 'data-column="epochs done" data-value="7">7</span> of 20 epochs' in content
    assert "failed: no &lt;memory&gt;" in content
    assert 'http-equiv="refresh"' in content


def test_text_from_configs_and_errors_is_never_markup(runs: Any) -> None:
    evil = """</script><script>alert('x')</script>"&"""
    begun(runs.add("input", 0.2, 0, None, status="stopped", model=evil), [0.5])
    runs.add("input", 0.2, 1, None, status="failed", model=evil, about={"error": evil})
    sweep = runs.sweep("model")
    content = page_of(watch(sweep).look(), sweep)
    escaped = "&lt;/script&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;"
    assert f'<th scope="row">{escaped}</th>' in content
    assert f"failed: {escaped}</li>" in content
    assert r"\u003c/script\u003e\u003cscript\u003ealert(\u0027x\u0027)" in content  # in the JSON for tooltips
    assert re.findall("</?script[^>]*>|alert.'", content) == ["<script>", "</script>"] * 2


def test_a_page_that_is_over_follows_nothing(sweep: Path) -> None:
    content = page_of(watch(sweep).look(over=True), sweep, over=True)
    assert 'http-equiv="refresh"' not in content
    assert 'data-over="true"' in content
    assert "The sweep has ended before all was done" in content
    assert 'data-state="running"' not in content


def test_the_page_of_many_runs_stays_small(runs: Any) -> None:
    for index in range(60):
        begun(runs.add("input", index / 100, 0, None, status="stopped"), [0.5] * 50)
    sweep = runs.sweep("mixup.alpha")
    assert len(page_of(watch(sweep).look(), sweep).encode()) < 400_000


def macro(template: str, name: str) -> Any:
    return getattr(templating.environment().get_template(template).module, name)


def drawn(panel: Panel) -> str:
    return str(macro("figures.html.j2", "figure")(drawing.figure(Picture("a", "A", "caption", (panel,)))))


def test_a_drawn_line_is_where_its_numbers_are() -> None:
    style = Style("#000000", "o", "-")
    series = Series("a", style, "line", x=(0.0, 1.0), y=(0.0, 1.0), low=(0.0, 0.5), high=(0.5, 1.0))
    panel = Panel(Axis("x", ends=(0.0, 1.0)), Axis("y", ends=(0.0, 1.0)), (series,))
    left, right, top = drawing.LEFT, drawing.WIDTH - drawing.RIGHT, drawing.TOP
    bottom = drawing.MIN_HEIGHT - drawing.BOTTOM
    middle = (top + bottom) / 2
    shown = drawn(panel)
    assert f'class="line" d="M{left:.1f} {bottom:.1f}L{right:.1f} {top:.1f}"' in shown
    band = f"M{left:.1f} {middle:.1f}L{right:.1f} {top:.1f}L{right:.1f} {middle:.1f}L{left:.1f} {bottom:.1f}Z"
    assert f'class="band" d="{band}"' in shown
    assert re.findall(r">([\d.]+)</text>", shown) == ["0", "0.2", "0.4", "0.6", "0.8", "1"] * 2
    assert re.findall(r'<use href="#marker-0" x="([\d.]+)" y="([\d.]+)"', shown) == [
        (f"{right:.1f}", f"{top:.1f}"), (f"{left:.1f}", f"{bottom:.1f}"),
    ]  # fmt: skip


def test_a_band_has_a_gap_where_there_is_no_interval() -> None:
    nan = float("nan")
    low, high = (0.0, 0.0, nan, 0.0, nan), (1.0, 1.0, nan, 1.0, nan)
    series = Series("a", Style("#000000", "o", "-"), "curve", x=(1, 2, 3, 4, 5), y=(0.5,) * 5, low=low, high=high)
    (panel,) = drawing.figure(Picture("a", "A", "", (Panel(Axis("x", whole=True), Axis("y"), (series,)),))).panels
    assert [path.count("L") for path in panel.series[0].band.split("M")[1:]] == [3, 1]
    assert panel.series[0].values["y"][1] == [0.0, 0.0, None, 0.0, None]


def test_an_interval_beyond_one_does_not_stretch_an_axis_of_accuracies() -> None:
    series = Series(
        "a", Style("#000000", "o", "-"), "line", x=(1.0, 2.0), y=(0.9, 0.95), low=(0.1,) * 2, high=(1.7,) * 2
    )
    shown = drawn(Panel(Axis("x"), Axis("y", percent=True), (series,)))
    assert re.findall(r">(\d+)%</text>", shown) == ["20", "40", "60", "80", "100"]


# What was mixed


def test_mixing_stats_are_the_means_of_the_epochs_and_the_sum_of_the_counts() -> None:
    law = [0.25] * 4
    rows = [
        {"mixing/lam_mean_partner": 0.25, "mixing/empty_boxes": 0.5, "mixing/same_class": 0.1, "mixing/unmixed": 0.0,
         "mixing/target_entropy": 0.5, "mixing/layer/input": 3, "mixing/lam": [1, 0, 2, 1], "mixing/lam_law": law},
        {"mixing/lam_mean_partner": 0.75, "mixing/unmixed": 1.0, "mixing/target_entropy": 0.25,
         "mixing/layer/input": 4, "mixing/layer/block1": 2, "mixing/lam": [0, 0, 0, 4]},
    ]  # fmt: skip
    stats = mixing_stats.collect({"none": [[{"train/loss": 1.0}]], "cutmix": [rows[:1], rows[1:]]})
    shown = macro("sections.html.j2", "mixing_stats")(stats, mixing_stats.SHARES)
    values = dict(re.findall(r'data-column="mixing/(\w+)" data-value="([^"]*)"', shown))
    assert values.pop("target_entropy") == "0.375"
    assert values == {"lam_mean_partner": "0.5", "empty_boxes": "0.5", "same_class": "0.1", "unmixed": "0.5"}
    assert "input 7, block1 2" in shown
    assert 'data-counts="1 0 2 5"' in shown
    assert shown.count("<tr") == 2  # the head and cutmix
    bars = re.findall(r'<rect class="bar" x="([\d.]+)" y="([\d.]+)" width="6" height="([\d.]+)"/>', shown)
    assert bars == [("0", "38.4", "9.6"), ("7", "48.0", "0.0"), ("14", "28.8", "19.2"), ("21", "0.0", "48.0")]
    assert 'class="law" d="M0 28.8h7L7 28.8h7L14 28.8h7L21 28.8h7"' in shown  # 0.25, where 48 is 5/8
    assert mixing_stats.collect({"none": [[{"train/loss": 1.0}]]}) == []
    assert macro("sections.html.j2", "mixing_stats")([], mixing_stats.SHARES).strip() == ""


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_images_come_back_from_their_sheet(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, channels, 8, 8), dtype=np.uint8)
    mixed_sheet.write(tmp_path / "mixed.png", images, ["a", "é < b", "c"])
    rows = mixed_sheet.read(tmp_path / "mixed.png", 8)
    assert [caption for _, caption in rows] == ["a", "é < b", "c"]
    for (png, _), tiles in zip(rows, images, strict=True):
        strip = np.asarray(Image.open(io.BytesIO(png)).convert("RGB" if channels == 3 else "L"))
        for place, tile in enumerate(tiles):
            shown = strip[:, place * 9 : place * 9 + 8]
            assert np.array_equal(shown, tile.transpose(1, 2, 0) if channels == 3 else tile[0])
    Image.new("L", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(DamagedError, match=r"other\.png is damaged: it is not what was written"):
        mixed_sheet.read(tmp_path / "other.png", 8)


def test_as_many_mixed_images_as_are_wanted_come_from_all_over_the_sheet(tmp_path: Path) -> None:
    images = np.zeros((17, 4, 1, 8, 8), dtype=np.uint8)
    mixed_sheet.write(tmp_path / "mixed.png", images, [str(index) for index in range(17)])
    for most, captions in {1: [0], 2: [0, 8], 8: [0, 2, 4, 6, 8, 10, 12, 14], 20: [*range(17)]}.items():
        found = [int(caption) for _, caption in mixed_sheet.read(tmp_path / "mixed.png", most)]
        assert found == captions


# The thread


def test_what_goes_wrong_with_the_page_stops_nothing(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(sweep, {}, ())
    with live.shown():
        monkeypatch.setattr(live._watch, "look", lambda over=False: 1 / 0)
        limit = time.monotonic() + 30
        while not caplog.messages and time.monotonic() < limit:
            time.sleep(0.01)
    assert set(caplog.messages) == {"the sweep's page cannot be kept up to date: ZeroDivisionError: division by zero"}
    assert live.page.exists()


def test_a_folder_that_cannot_be_written_to_stops_nothing(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sweep / "report").write_text("a file where the folder should be")
    with Live(sweep, {}, ()).shown():
        pass
    assert (sweep / "report").read_text() == "a file where the folder should be"


def test_a_page_ends_with_an_interruption_and_else_waits_for_the_report(sweep: Path) -> None:
    live = Live(sweep, {}, ())
    with live.shown():
        pass
    assert 'data-over="false"' in live.page.read_text()
    with pytest.raises(KeyboardInterrupt), Live(sweep, {}, ()).shown():
        raise KeyboardInterrupt
    assert 'data-over="true"' in live.page.read_text()
