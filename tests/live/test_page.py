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
from vicinal.report.figure_types import Axis, Panel, Series, Style
from vicinal.report.html import mixing_stats, svg
from vicinal.runs import mixed_sheet
from vicinal.runs.files import DamagedError

from ..following import begun, page_of, watch, worked_on


def test_the_page_has_each_job_with_its_state_and_numbers(sweep: Path, grid: dict[str, Path]) -> None:
    with worked_on(grid["running"]):
        content = page_of(watch(sweep).look(), sweep)
    rows = re.findall(r'<tr data-run="(\S+)" data-state="(\w+)">(.*?)</tr>', content)
    assert [state for _, state, _ in rows] == ["completed", "failed", "running", "stopped", "planned"]
    values = [dict(re.findall(r'data-column="([^"]+)" data-value="([^"]*)"', row)) for _, _, row in rows]
    assert [row["accuracy"] for row in values] == ["0.5", "", "0.5", "0.25", ""]
    assert [row["test/last"] for row in values] == ["0.75", "", "", "", ""]
    assert [row["epochs"] for row in values] == ["4", "0", "2", "1", "0"]
    assert 'data-column="epochs done" data-value="7">7</span> of 20 epochs' in content
    assert "failed: no &lt;memory&gt;" in content
    assert 'http-equiv="refresh"' in content


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


def test_a_drawn_line_is_where_its_numbers_are() -> None:
    style = Style("#000000", "o", "-")
    series = Series("a", style, "line", x=(0.0, 1.0), y=(0.0, 1.0), low=(0.0, 0.5), high=(0.5, 1.0))
    panel = Panel(Axis("x", ends=(0.0, 1.0)), Axis("y", ends=(0.0, 1.0)), (series,))
    drawn = svg.draw(panel, "words")
    left, right, top, bottom = svg.LEFT, svg.WIDTH - svg.RIGHT, svg.TOP, svg.HEIGHT - svg.BOTTOM
    middle = (top + bottom) / 2
    assert f'd="M{left:.1f} {bottom:.1f}L{right:.1f} {top:.1f}" fill="none"' in drawn
    band = f"M{left:.1f} {middle:.1f}L{right:.1f} {top:.1f}L{right:.1f} {middle:.1f}L{left:.1f} {bottom:.1f}Z"
    assert f'd="{band}"' in drawn
    assert re.findall(r">([\d.]+)</text>", drawn) == ["0", "0.2", "0.4", "0.6", "0.8", "1"] * 2


def test_an_interval_beyond_one_does_not_stretch_an_axis_of_accuracies() -> None:
    series = Series(
        "a", Style("#000000", "o", "-"), "line", x=(1.0, 2.0), y=(0.9, 0.95), low=(0.1,) * 2, high=(1.7,) * 2
    )
    drawn = svg.draw(Panel(Axis("x"), Axis("y", percent=True), (series,)), "words")
    assert re.findall(r">(\d+)%</text>", drawn) == ["20", "40", "60", "80", "100"]


# What was mixed


def test_the_ledger_is_the_mean_of_the_epochs_and_the_sum_of_the_counts() -> None:
    law = [0.25] * 4
    rows = [
        {"mixing/lam_mean_partner": 0.25, "mixing/empty_boxes": 0.5, "mixing/same_class": 0.1, "mixing/unmixed": 0.0,
         "mixing/target_entropy": 0.5, "mixing/layer/input": 3, "mixing/lam": [1, 0, 2, 1], "mixing/lam_law": law},
        {"mixing/lam_mean_partner": 0.75, "mixing/unmixed": 1.0, "mixing/target_entropy": 0.25,
         "mixing/layer/input": 4, "mixing/layer/block1": 2, "mixing/lam": [0, 0, 0, 4]},
    ]  # fmt: skip
    shown = mixing_stats.section({"none": [[{"train/loss": 1.0}]], "cutmix": [rows[:1], rows[1:]]})
    assert shown is not None
    values = dict(re.findall(r'data-column="mixing/(\w+)" data-value="([^"]*)"', shown))
    assert values.pop("target_entropy") == "0.375"
    assert values == {"lam_mean_partner": "0.5", "empty_boxes": "0.5", "same_class": "0.1", "unmixed": "0.5"}
    assert "input 7, block1 2" in shown
    assert 'data-counts="1 0 2 5"' in shown
    assert shown.count("<tr") == 2  # the head and cutmix
    full, bar = mixing_stats.TALL, mixing_stats.BAR
    assert f"M{3 * bar} {full}V0.0h" in shown  # 5 of 8, the most
    assert f"M0 {full * (1 - 0.25 / 0.625):.1f}h{bar}" in shown  # the law
    assert mixing_stats.section({"none": [[{"train/loss": 1.0}]]}) is None


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
    with Live(sweep, {}, ()) as live:
        monkeypatch.setattr(live._watch, "look", lambda over=False: 1 / 0)
        limit = time.monotonic() + 30
        while not caplog.messages and time.monotonic() < limit:
            time.sleep(0.01)
    assert set(caplog.messages) == {"the sweep's page cannot be kept up to date: ZeroDivisionError: division by zero"}
    assert live.page.exists()


def test_a_folder_that_cannot_be_written_to_stops_nothing(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sweep / "report").write_text("a file where the folder should be")
    with Live(sweep, {}, ()):
        pass
    assert (sweep / "report").read_text() == "a file where the folder should be"


def test_a_page_ends_with_an_interruption_and_else_waits_for_the_report(sweep: Path) -> None:
    with Live(sweep, {}, ()) as live:
        pass
    assert 'data-over="false"' in live.page.read_text()
    with pytest.raises(KeyboardInterrupt), Live(sweep, {}, ()):
        raise KeyboardInterrupt
    assert 'data-over="true"' in live.page.read_text()
