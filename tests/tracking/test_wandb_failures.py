"""W&B out of order, for real: no network, no disk, no process. Training must not notice."""

import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vicinal.tracking import RunInfo, WandbTracker
from vicinal.tracking import wandb_tracker as module

Build = Callable[..., WandbTracker]
Settled = Callable[[WandbTracker], None]
Read = Callable[[Path], Any]
KEY = "0123456789abcdef" * 2 + "deadbeef"


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("vicinal")]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (record for record in caplog.records if record.name.startswith("vicinal"))
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def train(tracker: WandbTracker, first: int, last: int) -> float:
    """Reports some epochs; returns the seconds that the slowest report took."""
    slowest = 0.0
    for epoch in range(first, last + 1):
        began = time.perf_counter()
        tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
        slowest = max(slowest, time.perf_counter() - began)
    return slowest


def core_process() -> int:
    """The process id of this process's wandb-core."""
    command = ["pgrep", "-P", str(os.getpid()), "-f", "wandb-core"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_unreachable_server_becomes_offline_at_once(
    info: RunInfo,
    wandb_tracker: Build,
    read_offline_run: Read,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.perf_counter()
    with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
        assert train(tracker, 1, 3) < 0.1
    assert time.perf_counter() - began < 3  # wandb's own start-up included; it would try for 90 s
    assert tracker.mode == "offline"
    (line,) = messages(caplog)
    assert "http://127.0.0.1:9 cannot be reached (Connection refused)" in line
    run = read_offline_run(info.folder)
    assert ([row["epoch"] for row in run.history], run.exit_code) == ([1, 2, 3], 0)


@pytest.mark.slow
def test_server_that_never_answers_becomes_offline_in_time(
    info: RunInfo,
    wandb_tracker: Build,
    read_offline_run: Read,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "INIT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.perf_counter()
        with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
            assert train(tracker, 1, 1) < 0.1
        assert time.perf_counter() - began < 12
    assert tracker.mode == "offline"
    (line,) = messages(caplog)
    assert "W&B is offline (" in line
    assert read_offline_run(info.folder).history == [{"epoch": 1, "train/loss": 1.0}]


def test_a_file_where_the_folder_should_be(
    info: RunInfo, wandb_tracker: Build, caplog: pytest.LogCaptureFixture
) -> None:
    info.folder.write_text("in the way")
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        tracker.finish({"test/last/acc1": 0.5})
    (line,) = warnings(caplog)
    assert line == f"W&B is off for this run: [Errno 17] File exists: '{info.folder}'"
    assert (tracker.mode, tracker.id) == ("disabled", None)


@pytest.fixture
def disk(info: RunInfo) -> Iterator[Path]:
    """A disk of 1 MiB at the run's folder."""
    info.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "vicinal-test", str(info.folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here: {error}")
    yield info.folder
    subprocess.run(["umount", "-l", str(info.folder)], check=True)


def fill(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(bytes(2**21))


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_no_disk_at_the_start(disk: Path, wandb_tracker: Build, caplog: pytest.LogCaptureFixture, trouble: str) -> None:
    if trouble == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        tracker.finish({})
    (line,) = warnings(caplog)
    assert {"full": "No space left on device", "read-only": "Read-only file system"}[trouble] in line
    assert tracker.mode == "disabled"


def test_disk_that_fills_up_during_the_run(
    disk: Path,
    wandb_tracker: Build,
    settled: Settled,
    read_offline_run: Read,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with wandb_tracker() as tracker:
        train(tracker, 1, 3)
        settled(tracker)
        time.sleep(1.2)  # what was flushed before is safe
        fill(disk)
        train(tracker, 4, 6)
        tracker.finish({"test/last/acc1": 0.5})
    (line,) = warnings(caplog)
    assert line.startswith("W&B stopped, the run goes on without it: [Errno 28] No space left on device; to upload ")
    assert "Traceback" not in capfd.readouterr().err
    assert [row["epoch"] for row in read_offline_run(disk).history] == [1, 2, 3]


def test_killed_wandb_core(
    info: RunInfo,
    wandb_tracker: Build,
    settled: Settled,
    read_offline_run: Read,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        settled(tracker)
        time.sleep(1.2)
        os.kill(core_process(), signal.SIGKILL)
        assert train(tracker, 3, 6) < 0.1
        tracker.finish({"test/last/acc1": 0.5})
    (line,) = warnings(caplog)
    assert line.startswith("W&B stopped, the run goes on without it: ")
    assert [row["epoch"] for row in read_offline_run(info.folder).history][:2] == [1, 2]
    # The next run of the sweep is not taken along.
    second = dataclasses.replace(info, folder=tmp_path / "second")
    with wandb_tracker(info=second) as tracker:
        train(tracker, 1, 2)
    assert len(warnings(caplog)) == 1
    assert len(read_offline_run(second.folder).history) == 2


def test_wandb_core_killed_between_two_runs(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with wandb_tracker():
        pass
    os.kill(core_process(), signal.SIGKILL)
    second = dataclasses.replace(info, folder=tmp_path / "second")
    with wandb_tracker(info=second) as tracker:
        train(tracker, 1, 2)
    assert warnings(caplog) == []
    assert len(read_offline_run(second.folder).history) == 2


STUCK = """
import logging, os, pathlib, signal, subprocess, sys, time
from vicinal.tracking import RunInfo, WandbTracker, wandb_guard, wandb_tracker
logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
wandb_guard.CALL_SECONDS = wandb_tracker.CALL_SECONDS = wandb_tracker.FINISH_SECONDS = 1.0
info = RunInfo("n", "r", "c", {}, {}, None, None, pathlib.Path(sys.argv[1]), 1, 1, 1)
with WandbTracker(info, mode="offline", project="p", entity=None, tags=[], images=4) as tracker:
    tracker.epoch({"epoch": 1})
    while not list(info.folder.glob("wandb/offline-run-*/*.wandb")):
        time.sleep(0.01)
    time.sleep(0.5)
    pgrep = ["pgrep", "-P", str(os.getpid()), "-f", "wandb-core"]
    os.kill(int(subprocess.run(pgrep, capture_output=True, text=True).stdout), signal.SIGSTOP)
    tracker.finish({"test/last/acc1": 0.5})
"""


@pytest.mark.slow
def test_stuck_wandb_core_holds_neither_the_run_nor_the_exit_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUCK, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0
    (folder,) = tmp_path.rglob("offline-run-*")
    assert done.stdout == (
        "W&B stopped, the run goes on without it: no answer within 2 s; to upload what it has: "
        f"wandb sync --yes {folder}\n"
    )
    assert done.stderr == ""


def test_a_wandb_core_that_fails_to_start_is_one_warning(
    info: RunInfo, wandb_tracker: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """wandb 0.31 by itself would wait for ever."""
    monkeypatch.setattr("wandb.sdk.lib.service.service_process.get_core_path", lambda: "/bin/false")
    began = time.perf_counter()
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
    assert time.perf_counter() - began < 5
    assert warnings(caplog) == ["W&B is off for this run: wandb-core exited with code 1"]
    assert (tracker.mode, tracker.id) == ("disabled", None)


NEVER_READY = """
import logging, pathlib, sys, time
from vicinal.tracking import RunInfo, WandbTracker, wandb_guard
logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
wandb_guard.CALL_SECONDS = wandb_guard.START_SECONDS = 1.0
from wandb.sdk.lib.service import service_process
folder = pathlib.Path(sys.argv[1])
core = folder / "wandb-core"
core.write_text("#!/bin/sh\\nexec sleep 8")
core.chmod(0o755)
service_process.get_core_path = lambda: str(core)
for name in ("first", "second"):
    info = RunInfo("n", "r", "c", {}, {}, None, None, folder / name, 1, 1, 1)
    with WandbTracker(info, mode="offline", project="p", entity=None, tags=[], images=4) as tracker:
        tracker.epoch({"epoch": 1})
"""


@pytest.mark.slow
def test_a_wandb_core_that_is_never_ready_holds_neither_runs_nor_the_exit_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NEVER_READY, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (0, "W&B is off for this run: no answer within 1 s\n" * 2)
