"""A sweep that is still running: what its folders say, what the page and the terminal show of it, and how it ends."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from rich.console import Console

from vicinal.runs import mixed_sheet
from vicinal.runs.folder import RunFolder
from vicinal.sweeps import ledger, live_page, svg
from vicinal.sweeps.figures import Axis, Panel, Series, Style
from vicinal.sweeps.live import Live
from vicinal.sweeps.live_table import table
from vicinal.sweeps.progress import Job, Progress, Watch
from vicinal.sweeps.report import finish

TRAIN = Path(__file__).parents[2] / "train.py"
EPOCHS = 4
NUMBERS = ("n", "val mean", "test/last mean", "test/last std", "test/last low", "test/last high", "test/median10 mean")


@contextmanager
def worked_on(run: Path) -> Iterator[None]:
    """As if a process were training it."""
    with filelock.FileLock(run / ".lock"):
        yield


def begun(run: Path, accuracies: list[float], seconds: float = 10.0) -> None:
    """Epochs of a run that has no result yet."""
    rows = [
        {"epoch": epoch, "train/loss": 1 / epoch, "train/acc1": value / 2, "val/acc1": value, "seconds": seconds}
        for epoch, value in enumerate(accuracies, start=1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"half": ')


@pytest.fixture
def grid(runs: Any) -> dict[str, Path]:
    """A run in every state."""
    return {
        "completed": runs.add("none", None, 0, 0.75, val=0.5, trainer__epochs=EPOCHS),
        "failed": runs.add("none", None, 1, None, status="failed", about={"error": "no <memory>"}),
        "running": runs.add("input", 0.2, 0, None, status="stopped"),
        "stopped": runs.add("input", 0.2, 1, None, status="stopped"),
        "planned": runs.add("input", 0.4, 0, None, status="missing"),
    }


@pytest.fixture
def sweep(runs: Any, grid: dict[str, Path]) -> Path:
    begun(grid["running"], [0.25, 0.5])
    begun(grid["stopped"], [0.25])
    return runs.sweep("mixup", "mixup.alpha")  # type: ignore[no-any-return]


def watch(sweep: Path, waiting: tuple[str, ...] = ()) -> Watch:
    runs = json.loads((sweep / "sweep.json").read_text())["runs"]
    return Watch(sweep, {run["run_id"]: EPOCHS for run in runs}, waiting)


def states(progress: Progress) -> list[str]:
    return [job.run.status for job in progress.jobs]


def test_the_state_of_every_run_is_what_its_folder_and_its_lock_say(sweep: Path, grid: dict[str, Path]) -> None:
    seen = watch(sweep)
    with worked_on(grid["running"]):
        progress = seen.look()
        assert states(progress) == ["completed", "failed", "running", "stopped", "planned"]
        assert [job.done for job in progress.jobs] == [EPOCHS, 0, 2, 1, 0]
        assert [job.accuracy for job in progress.jobs] == [0.5, None, 0.5, 0.25, None]
        assert progress.jobs[1].run.error == "no <memory>"
    # The process is gone, without a word: nothing in the folder has changed.
    assert states(seen.look()) == ["completed", "failed", "stopped", "stopped", "planned"]


def test_what_waits_for_its_turn_is_planned_until_somebody_touches_it(sweep: Path, grid: dict[str, Path]) -> None:
    waiting = tuple(run["run_id"] for run in json.loads((sweep / "sweep.json").read_text())["runs"])
    seen = watch(sweep, waiting)  # as with rerun=true, which trains the completed one too
    assert states(seen.look()) == ["planned"] * 5
    assert [job.done for job in seen.look().jobs] == [0, 0, 2, 1, 0]  # what goes on begins where it was
    with worked_on(grid["failed"]):
        assert states(seen.look())[1] == "running"
    folder = RunFolder(grid["failed"])
    folder.fail(folder.read_result() or {}, "again")
    assert states(seen.look()) == ["planned", "failed", "planned", "planned", "planned"]
    assert states(seen.look(over=True)) == ["completed", "failed", "stopped", "stopped", "planned"]


def test_the_time_left_is_epochs_times_pace(
    sweep: Path, grid: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(sweep)
    now = (grid["running"] / "metrics.jsonl").stat().st_mtime + 4
    monkeypatch.setattr(time, "time", lambda: now)
    with worked_on(grid["running"]):
        progress = seen.look()
    of_all = (1.0 + 10.0 + 10.0) / 3  # a completed run's epochs take a second
    left = {job.run.status: job.left for job in progress.jobs}
    assert left["running"] == pytest.approx(10.0 * 2 - 4, abs=1e-3)
    assert left["stopped"] == 10.0 * 3
    assert left["planned"] == pytest.approx(of_all * EPOCHS)
    assert (left["completed"], left["failed"]) == (None, None)
    assert progress.left == pytest.approx(16 + 30 + of_all * EPOCHS, abs=1e-3)


def test_a_look_reads_only_what_has_changed(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch(sweep)
    first = seen.look()
    monkeypatch.setattr(Path, "read_bytes", lambda file: pytest.fail(f"{file} is read again"))
    assert [job.rows for job in seen.look().jobs] == [job.rows for job in first.jobs]


def test_looking_at_a_run_does_not_keep_others_from_it(sweep: Path, grid: dict[str, Path]) -> None:
    """A look takes the lock for a moment; a process with busy=skip must not take that for somebody at work."""
    held = filelock.FileLock(grid["stopped"] / ".lock", thread_local=False)
    held.acquire()
    threading.Timer(0.05, held.release).start()
    with RunFolder(grid["stopped"]).lock(wait=False):
        assert RunFolder(grid["stopped"]).locked()


# The page


def page_of(progress: Progress, sweep: Path, over: bool = False) -> str:
    return live_page.render(progress, sweep / "report/report.html", 10.0, over)


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
    shown = ledger.section({"none": [[{"train/loss": 1.0}]], "cutmix": [rows[:1], rows[1:]]})
    assert shown is not None
    values = dict(re.findall(r'data-column="mixing/(\w+)" data-value="([^"]*)"', shown))
    assert values.pop("target_entropy") == "0.375"
    assert values == {"lam_mean_partner": "0.5", "empty_boxes": "0.5", "same_class": "0.1", "unmixed": "0.5"}
    assert "input 7, block1 2" in shown
    assert 'data-counts="1 0 2 5"' in shown
    assert shown.count("<tr") == 2  # the head and cutmix
    full, bar = ledger.TALL, ledger.BAR
    assert f"M{3 * bar} {full}V0.0h" in shown  # 5 of 8, the most
    assert f"M0 {full * (1 - 0.25 / 0.625):.1f}h{bar}" in shown  # the law
    assert ledger.section({"none": [[{"train/loss": 1.0}]]}) is None


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_images_come_back_from_their_sheet(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, channels, 8, 8), dtype=np.uint8)
    mixed_sheet.write(tmp_path / "mixed.png", images, ["a", "é < b", "c"])
    rows = mixed_sheet.read(tmp_path / "mixed.png")
    assert [caption for _, caption in rows] == ["a", "é < b", "c"]
    for (png, _), tiles in zip(rows, images, strict=True):
        strip = np.asarray(Image.open(io.BytesIO(png)).convert("RGB" if channels == 3 else "L"))
        for place, tile in enumerate(tiles):
            shown = strip[:, place * 9 : place * 9 + 8]
            assert np.array_equal(shown, tile.transpose(1, 2, 0) if channels == 3 else tile[0])
    Image.new("L", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match="no captions"):
        mixed_sheet.read(tmp_path / "other.png")


# The terminal


def printed(progress: Progress, height: int = 40) -> list[list[str]]:
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(table(progress, height))
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]


def test_the_table_says_of_every_job_what_its_folder_says(sweep: Path, grid: dict[str, Path]) -> None:
    with worked_on(grid["running"]):
        progress = watch(sweep).look()
    assert [row[:-1] for row in printed(progress)] == [
        ["none", "-", "0", "completed", "4/4", "0.5000"],
        ["none", "-", "1", "failed", "0/4", "–"],
        ["input", "0.2", "0", "running", "2/4", "0.5000"],
        ["input", "0.2", "1", "stopped", "1/4", "0.2500"],
        ["input", "0.4", "0", "planned", "0/4", "–"],
    ]
    assert [row[-1] for row in printed(progress)] == ["–", "–", "20 s", "30 s", "28 s"]


def test_where_there_is_no_room_those_under_way_and_those_that_failed_are_shown(sweep: Path, runs: Any) -> None:
    progress = watch(sweep).look()
    jobs = [*progress.jobs * 3, Job(progress.jobs[0].run, progress.jobs[0].values, EPOCHS)]
    shown = printed(Progress("many", progress.swept, jobs, 0.0), height=16)
    assert [row[3] for row in shown] == ["failed", "stopped", "stopped"] * 3


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


# Real sweeps


def launch(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(TRAIN), *words, "trainer.threads=1", "wandb.mode=disabled", "-m"]
    with (folder / "out.txt").open("ab") as out:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def the_page(folder: Path, process: subprocess.Popen[bytes]) -> Path:
    """Where it is, once it is there."""
    while not (found := list(folder.glob("outputs/sweeps/*/report/report.html"))):
        assert process.poll() is None, (folder / "out.txt").read_text()
        time.sleep(0.02)
    return found[0]


def checked(page: Any) -> int:
    """How many of axe's rules hold; all others must not apply."""
    found = Axe().run(page).response
    problems = [(each["id"], [node["target"] for node in each["nodes"]]) for each in found["violations"]]
    assert problems == []
    return len(found["passes"])


def grown(page: Any, beyond: int) -> int:
    """Epochs that the page says are done, once they are more than these."""
    number = "document.querySelector('[data-column=\"epochs done\"]')?.dataset.value"
    limit = time.monotonic() + 60
    while int(page.evaluate(number)) <= beyond:
        assert time.monotonic() < limit
        page.wait_for_timeout(50)
    return int(page.evaluate(number))


@contextmanager
def opened(chromium: Any, file: Path, width: int = 1200, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    """The page in a browser without a network, and what it complained of."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.resolve().as_uri())
    yield page, complaints
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_an_open_tab_follows_a_sweep_to_its_report(chromium: Any, tmp_path: Path, launcher: str) -> None:
    words = ["mixup=none,cutmix", "seed=0,1", "trainer.epochs=60", f"hydra/launcher={launcher}"]
    process = launch(tmp_path, *words)
    try:
        file = the_page(tmp_path, process)
        with opened(chromium, file) as (page, complaints):
            first = grown(page, 0)
            page.locator("[role=region]:has(#jobs)").focus()
            where = """[document.activeElement.getAttribute('aria-labelledby'),
                        Math.round(document.activeElement.getBoundingClientRect().top)]"""
            page.evaluate("window.sameTab = true; document.body.style.minHeight = '5000px'; scrollTo(0, 150)")
            before = page.evaluate(where)
            assert first < grown(page, first) <= 240
            assert page.evaluate("window.sameTab")
            assert page.evaluate(where) == before
            assert before[0] == "jobs-caption"
            assert not page.locator("#stale").is_visible()
            states = page.eval_on_selector_all("#jobs tr[data-state]", "rows => rows.map(row => row.dataset.state)")
            assert states.count("running") in ((1, 2) if launcher == "parallel" else (0, 1))
            assert checked(page) > 15
            page.wait_for_selector("#scores", timeout=120_000)  # the report, without anybody's doing
            assert process.wait(60) == 0
            summary = pd.read_csv(file.with_name("summary.csv"), dtype=str, keep_default_na=False)
            for row in summary.to_dict("records"):
                cell = re.findall("[0-9a-f]{10}", row["folder"])[-1]
                for column in (
                    "n",
                    "val mean",
                    "test/last mean",
                    "test/last low",
                    "test/last high",
                    "test/median10 mean",
                ):
                    item = page.locator(f"#scores tr[data-cell='{cell}'] [data-column='{column}']")
                    assert (item.get_attribute("data-value") if item.count() else "") == row[column]
            assert len(summary) == 2
            page.wait_for_selector(".plot:not(:has(svg.main-svg))", state="detached")
            assert page.locator("iframe").count() == 0
            assert complaints == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (375, "light")])
@pytest.mark.parametrize("finished", [False, True])
def test_axe_finds_nothing(
    chromium: Any, sweep: Path, grid: dict[str, Path], width: int, scheme: str, finished: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 3, 8, 8), dtype=np.uint8)
    mixed_sheet.write(grid["completed"] / "mixed.png", images, [f"0.5 a + 0.5 {index}" for index in range(8)])
    if finished:
        file = finish(sweep, console=Console(file=io.StringIO())) / "report.html"
    else:
        file = sweep / "report.html"
        with worked_on(grid["running"]):
            file.write_text(page_of(watch(sweep).look(), sweep))
    with opened(chromium, file, width, scheme) as (page, complaints):
        page.wait_for_selector(".plot:not(:has(svg.main-svg))", state="detached")
        assert checked(page) > 15
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert complaints == []


def test_a_page_that_nobody_writes_any_more_says_so(chromium: Any, sweep: Path, grid: dict[str, Path]) -> None:
    file = sweep / "report.html"
    with worked_on(grid["running"]):
        progress = watch(sweep).look()
    file.write_text(page_of(replace(progress, at=time.time() - 3600), sweep))
    with opened(chromium, file) as (page, _):
        assert page.locator("#stale").inner_text().startswith("No news for 60 min")
        assert "scripts/report.py" in page.locator("#stale").inner_text()
        after = "getComputedStyle(document.querySelector('#jobs .state.running'), '::after').content"
        assert page.evaluate(after) == '" when last heard of"'
        file.write_text(page_of(watch(sweep).look(), sweep))  # the same command goes on
        page.wait_for_selector("#stale", state="hidden", timeout=30_000)


@pytest.mark.slow
def test_killed_at_random_moments_the_page_and_the_table_tell_the_truth(tmp_path: Path, chromium: Any) -> None:
    draw = random.Random(0)
    words = ["mixup=none,cutmix", "seed=0,1,2", "trainer.epochs=40", "dataset.train_size=200"]
    for kill in range(10):
        process = launch(tmp_path, *words, *(["hydra/launcher=parallel"] if kill % 2 else []))
        file = the_page(tmp_path, process)
        before = file.stat().st_mtime_ns
        while file.stat().st_mtime_ns == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 2.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_workers(file.parents[1])
        progress, text = watch(file.parents[1]).look(), file.read_text()
        if "data-written" not in text:  # it came too late: the report has taken the page's place
            assert set(states(progress)) == {"completed"}
            break
        rows = re.findall(r'<tr data-run="(\S+)" data-state="(\w+)">.*?data-column="epochs" data-value="(\d+)"', text)
        for (run_id, state, epochs), job in zip(rows, progress.jobs, strict=True):
            folder = RunFolder(job.run.folder, run_id)
            lines = folder.metrics.read_bytes().count(b"\n") if folder.metrics.exists() else 0
            assert int(epochs) <= lines == job.done  # as left, it has never said more than there is
            assert (state == "completed") <= (folder.completed() is not None)
            truth = "completed" if folder.completed() else "stopped" if folder.config.exists() else "planned"
            assert job.run.status == truth
        assert [row[-4] for row in printed(progress, 60)] == states(progress)
        assert "running" not in states(progress)
    file = finish(file.parents[1], console=Console(file=io.StringIO())) / "report.html"
    shown = re.findall(r'class="state (\w+)"', file.read_text())
    assert shown == [state.replace("planned", "missing") for state in states(progress)]


def wait_for_workers(sweep: Path) -> None:
    """Workers leave, and save, when whoever gave them their jobs is gone."""
    while any(job.run.status == "running" for job in watch(sweep).look().jobs):
        time.sleep(0.05)


# In a terminal


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_on_a_terminal_one_table_stays_below_the_lines(tmp_path: Path, launcher: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        words = [
            "mixup=none,cutmix",
            "seed=0,1",
            "trainer.epochs=20",
            f"hydra/launcher={launcher}",
            "wandb.mode=disabled",
        ]
        os.execve(sys.executable, [sys.executable, str(TRAIN), *words, "-m"], {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    received = b""
    try:
        while chunk := os.read(terminal, 65536):
            received += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    text = received.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    tables = [part.partition("┗")[0] for part in plain.split("┏") if "time left ┃" in part]
    rows = [
        [[cell.strip() for cell in line.split("│")[1:-1]] for line in part.split("\r\n") if line.startswith("│")]
        for part in tables
    ]
    epochs = [sum(int(row[3].split("/")[0]) for row in table) for table in rows]
    assert all(len(table) == 4 for table in rows)
    assert epochs == sorted(epochs)
    assert len(set(epochs)) >= 3
    assert {row[2] for table in rows for row in table} == {"planned", "running", "completed"}
    lines = [line for line in plain.split("\r\n") if "val acc1" in line]
    assert len(lines) == 4 * 20  # every epoch's line is there, whole
    assert all(re.search(r"epoch +\d+/20  loss [\d.]+ .* left$|epoch 20/20", line) for line in lines)
    assert "━━" not in plain.partition("follow it")[0]
    assert plain.index("top-1 accuracy") > plain.rindex("time left ┃")


def test_piped_there_are_plain_lines_and_no_table(tmp_path: Path) -> None:
    process = launch(tmp_path, "seed=0,1", "trainer.epochs=2", "dataset.train_size=200")
    assert process.wait(120) == 0
    printed = (tmp_path / "out.txt").read_text()
    assert "\x1b" not in printed
    assert "time left" not in printed
    assert len(re.findall(r"^epoch \d/2  loss", printed, re.MULTILINE)) == 4
