"""What the table and the page say of runs in Slurm's queue, by what a real squeue (22.05) has printed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vicinal.launch import slurm
from vicinal.launch.queue_states import STATES, Queue, states

SQUEUE = """\
#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
*--Format=*) cat {folder}/times ;;
*) cat {folder}/queue ;;
esac
"""
JOBS = {"aaa-s0": "7_0", "aaa-s1": "7_1", "bbb-s0": "7_2", "ccc-s0": "9"}


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "squeue").write_text(SQUEUE.format(folder=tmp_path))
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_preempted_run_is_told_apart_in_its_grace_time(squeue: Path, tmp_path: Path) -> None:
    (squeue / "queue").write_text("7_0|RUNNING|n03\n7_1|RUNNING|n04\n7_2|PENDING|(BeginTime)\n9|COMPLETING|n05\n")
    (squeue / "times").write_text("7_0|2026-11-27T19:37:45|\n7_1|N/A|\n7_2|N/A|\n9|N/A|\n")
    Queue(tmp_path, JOBS).look(10)
    assert states(tmp_path) == {
        "aaa-s0": "preempted on n03",
        "aaa-s1": "running on n04",
        "bbb-s0": "queued (BeginTime)",
        "ccc-s0": "completing",
    }


def test_states_that_nobody_keeps_fresh_are_not_believed(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was interrupted, and the sweep goes on without Slurm."""
    (squeue / "queue").write_text("7_2|PENDING|(Priority)\n")
    Queue(tmp_path, JOBS).look(10)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert states(tmp_path) == {"bbb-s0": "queued (Priority)"}
    monkeypatch.setattr(time, "time", lambda: now + 100)
    assert states(tmp_path) == {}
    (tmp_path / STATES).write_text('{"bbb-s0": "queued"}')
    assert states(tmp_path) == {}


def test_it_is_asked_only_where_something_runs(squeue: Path, tmp_path: Path) -> None:
    (squeue / "queue").write_text("7_2|PENDING|(Priority)\n9|PREEMPTED|n05\n")
    (squeue / "times").write_text("")
    Queue(tmp_path, JOBS).look(10)
    assert states(tmp_path) == {"bbb-s0": "queued (Priority)", "ccc-s0": "preempted"}
    assert "--Format" not in (squeue / "asked").read_text()


def test_a_squeue_that_does_not_know_the_time_tells_of_none(squeue: Path) -> None:
    (squeue / "times").write_text("")
    assert slurm.preempted() == set()
    (squeue / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert slurm.preempted() == set()
