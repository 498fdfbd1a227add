"""How far a sweep is: the state of every run, the time left, and what a look costs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import filelock
import pytest

from vicinal.runs.folder import RunFolder

from ..following import EPOCHS, states, watch, worked_on


def test_the_state_of_every_run_is_what_its_folder_and_its_lock_say(sweep: Path, grid: dict[str, Path]) -> None:
    seen = watch(sweep)
    with worked_on(grid["running"]):
        progress = seen.look()
        assert states(progress) == ["completed", "failed", "running", "stopped", "planned"]
        assert [job.done for job in progress.jobs] == [EPOCHS, 0, 2, 1, 0]
        assert [job.score for job in progress.jobs] == [0.5, None, 0.5, 0.25, None]
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


def test_a_run_that_has_just_been_resumed_has_not_spent_its_pause(
    sweep: Path, grid: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(sweep)
    now = (grid["running"] / "metrics.jsonl").stat().st_mtime + 3600
    monkeypatch.setattr(time, "time", lambda: now)
    with worked_on(grid["running"]):
        [left] = [job.left for job in seen.look().jobs if job.run.status == "running"]
    assert left == pytest.approx(10.0 * 2 - 10)  # at most one epoch has passed


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
