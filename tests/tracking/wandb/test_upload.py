"""``scripts/sync.py`` with wandb's own ``wandb sync`` against a server of our own, which fails when it is told to."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.config.schema import CONF
from vicinal.runs.folder import RunFolder
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.record import offline_records
from vicinal.tracking.wandb.tracker import WandbTracker

Server = Any  # the one of conftest.py
Build = Callable[..., WandbTracker]


def sync(*words: object, **environment: str) -> tuple[int, list[str]]:
    command = [sys.executable, CONF.parent / "scripts" / "sync.py", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def runs(tmp_path: Path, info: RunInfo, wandb_tracker: Build) -> list[str]:
    """Three offline runs, ``first`` to ``third``; their W&B ids."""
    ids = []
    for name in ("first", "second", "third"):
        with wandb_tracker(info=dataclasses.replace(info, folder=tmp_path / "runs" / name)) as tracker:
            for epoch in (1, 2, 3):
                tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
        assert tracker.id is not None
        ids.append(tracker.id)
    return ids


@pytest.mark.slow
def test_it_goes_on_after_a_failure_and_the_next_time_does_only_what_is_left(
    server: Server, runs: list[str], tmp_path: Path
) -> None:
    first, second, third = runs
    server.refused = {second}
    code, lines = sync(tmp_path)
    assert code == 1
    assert [lines[0], lines[2]] == [f"1/3 first ({first}): uploaded", f"3/3 third ({third}): uploaded"]
    assert lines[1].startswith(f"2/3 second ({second}): failed: ")
    assert lines[3:] == ["3 offline runs, 2 uploaded, 1 failed"]
    assert {upsert["name"] for upsert in server.upserts} == {first, third}

    server.refused = set()
    code, lines = sync(tmp_path)
    assert (code, lines) == (
        0,
        [
            f"1/3 first ({first}): already uploaded",
            f"2/3 second ({second}): uploaded",
            f"3/3 third ({third}): already uploaded",
            "3 offline runs, 1 uploaded, 0 failed",
        ],
    )
    names = [upsert["name"] for upsert in server.upserts]
    assert names.index(second) > max(names.index(first), names.index(third))
    assert [row["epoch"] for row in server.sent] == [1, 2, 3] * 3  # each run's once
    assert server.exit_code == 0


def test_without_a_network_each_fails_at_once(runs: list[str], tmp_path: Path) -> None:
    code, lines = sync(tmp_path, WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    reason = "failed: http://127.0.0.1:9 cannot be reached (Connection refused)"
    assert code == 1
    assert lines[:3] == [
        f"{index}/3 {name} ({run}): {reason}"
        for index, (name, run) in enumerate(zip(("first", "second", "third"), runs, strict=True), start=1)
    ]
    assert not any(run.uploaded for run in offline_records(tmp_path))


def test_dry_run_lists_and_a_run_that_is_worked_on_waits(server: Server, runs: list[str], tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "second").lock(wait=False):
        code, lines = sync(tmp_path, "--dry-run")
    assert code == 0
    assert lines[0] == f"1/3 first ({runs[0]}): would be uploaded"
    assert lines[1].startswith(f"2/3 second ({runs[1]}): skipped, ")
    assert lines[3] == "3 offline runs, 0 uploaded, 0 failed"
    assert server.upserts == []


def test_without_a_login_the_reason_is_said(runs: list[str], server: Server, tmp_path: Path) -> None:
    code, lines = sync(tmp_path / "runs" / "first", WANDB_API_KEY="")
    assert (code, len(lines)) == (1, 2)
    assert lines[0].startswith(f"1/1 first ({runs[0]}): failed: ")


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, CONF.parent / "scripts" / "sync.py", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {tmp_path}/none: there is no such folder\n")
