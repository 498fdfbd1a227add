"""Sweeps followed while they run: in a browser to the report, on a terminal, in a pipe, and killed at any moment."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from vicinal.report.report import finish
from vicinal.runs import mixed_sheet
from vicinal.runs.folder import RunFolder

from ..following import page_of, printed, states, watch, worked_on
from ..forked import Forked

TRAIN = Path(__file__).parents[2] / "train.py"
SMALL = ("dataset.train_size=200", "dataset.val_size=100")
"""An epoch then takes a quarter of the time."""
PLAIN = ("trainer.threads=1", "wandb.mode=disabled", "-m")


def launch(folder: Path, *words: str) -> Forked:
    return Forked([*words, *PLAIN], folder, folder / "out.txt")


def the_page(folder: Path, process: Forked) -> Path:
    """Where it is, once it is there."""
    while not (found := list(folder.glob("outputs/sweeps/*/report/report.html"))):
        assert process.poll() is None, (folder / "out.txt").read_text()
        time.sleep(0.02)
    return found[0]


def checked(page: Any) -> int:
    """How many of axe's rules hold; all others must not apply."""
    from axe_playwright_python.sync_playwright import Axe

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
@pytest.mark.parametrize(("launcher", "epochs"), [("basic", 60), ("parallel", 250)])
def test_an_open_tab_follows_a_sweep_to_its_report(chromium: Any, tmp_path: Path, launcher: str, epochs: int) -> None:
    words = ["mixup=none,cutmix", "seed=0,1", f"trainer.epochs={epochs}", f"hydra/launcher={launcher}"]
    process = launch(tmp_path, *words, *SMALL)
    try:
        file = the_page(tmp_path, process)
        with opened(chromium, file) as (page, complaints):
            first = grown(page, 0)
            page.locator("[role=region]:has(#jobs)").focus()
            where = """[document.activeElement.getAttribute('aria-labelledby'),
                        Math.round(document.activeElement.getBoundingClientRect().top)]"""
            page.evaluate("window.sameTab = true; document.body.style.minHeight = '5000px'; scrollTo(0, 150)")
            before = page.evaluate(where)
            assert first < grown(page, first) <= 4 * epochs
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
        file.write_text(page_of(watch(sweep).look(), sweep))  # as a resumed command does
        page.wait_for_selector("#stale", state="hidden", timeout=30_000)


@pytest.mark.slow
def test_killed_at_random_moments_the_page_and_the_table_tell_the_truth(tmp_path: Path, chromium: Any) -> None:
    draw = random.Random(0)
    words = ["mixup=none,cutmix", "seed=0,1,2", "trainer.epochs=40", *SMALL]
    seen: dict[str, int] = {}
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
        rows = re.findall(
            r'<tr data-run="(\S+)" data-state="(\w+)">.*?data-column="epochs" data-value="(\d+)"', text, re.DOTALL
        )
        for (run_id, state, epochs), job in zip(rows, progress.jobs, strict=True):
            folder = RunFolder(job.run.folder, run_id)
            lines = folder.metrics.read_bytes().count(b"\n") if folder.metrics.exists() else 0
            assert lines == job.done
            # As left, it has never said more than there was: a run that goes on returns to its checkpoint first.
            assert int(epochs) <= max(lines, seen.get(run_id, 0))
            seen[run_id] = lines
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
            "trainer.epochs=40",
            *SMALL,
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
    assert len(lines) == 4 * 40  # every epoch's line is there, whole
    assert all(re.search(r"epoch +\d+/40  loss [\d.]+ .* left$|epoch 40/40", line) for line in lines)
    assert "━━" not in plain.partition("follow it")[0]
    assert plain.index("top-1 accuracy") > plain.rindex("time left ┃")


def test_piped_there_are_plain_lines_and_no_table(tmp_path: Path) -> None:
    command = [sys.executable, str(TRAIN), "seed=0,1", "trainer.epochs=2", "dataset.train_size=200", *PLAIN]
    ended = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = ended.stdout
    assert ended.returncode == 0, printed
    assert "\x1b" not in printed
    assert "time left" not in printed
    assert len(re.findall(r"^epoch \d/2  loss", printed, re.MULTILINE)) == 4
