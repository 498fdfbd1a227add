"""W&B out of order, for real: no network, no disk, no process. Training must not notice."""

import dataclasses
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb import client
from vicinal.tracking.wandb import record as wandb_record
from vicinal.tracking.wandb import tracker as module
from vicinal.tracking.wandb.tracker import WandbTracker

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


def core_process(host: int) -> int:
    """The id of a process's wandb-core."""
    command = ["pgrep", "-P", str(host), "-f", "wandb-core"]
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
    assert time.perf_counter() - began < 30  # wandb's own start-up included; it would try for 90 s
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
    in_the_process: Callable[[str], None],
) -> None:
    in_the_process("from vicinal.tracking.wandb import calls; calls.INIT_SECONDS = 3.0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.perf_counter()
        with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
            assert train(tracker, 1, 1) < 0.1
        assert time.perf_counter() - began < 30
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


def test_a_home_that_cannot_be_written_costs_no_table(
    info: RunInfo,
    wandb_tracker: Build,
    read_offline_run: Read,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not even by root, who runs many a container. W&B's own place for tables is below it."""
    monkeypatch.setenv("HOME", "/proc")
    for name in [name for name in os.environ if name.startswith(("WANDB_", "XDG_"))]:
        monkeypatch.delenv(name)
    labels = np.array([0, 1, 1])
    with wandb_tracker() as tracker:
        tracker.predictions(Predictions(labels, np.array([0, 1, 0]), np.array([0.9, 0.8, 0.7]), ("cat", "dog")))
        tracker.epoch({"epoch": info.epochs, "train/loss": 0.5})
        tracker.finish({"test/last/acc1": 2 / 3})
    assert warnings(caplog) == []
    run = read_offline_run(info.folder)
    assert run.tables["test/class_accuracy_table"] == [
        {"class": "cat", "accuracy": 1.0},
        {"class": "dog", "accuracy": 0.5},
    ]
    assert (run.exit_code, run.summary["test/last/acc1"]) == (0, 2 / 3)
    assert [path.parts[-2:] for path in info.folder.rglob("staging")] == [("artifacts", "staging")]


@pytest.mark.parametrize("victim", ["wandb-core", "its parent"])
def test_a_killed_process_is_one_warning_and_the_next_run_has_another(
    info: RunInfo,
    wandb_tracker: Build,
    settled: Settled,
    read_offline_run: Read,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    host_pid: Callable[[], int],
    victim: str,
) -> None:
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        settled(tracker)
        time.sleep(1.2)
        os.kill(core_process(host_pid()) if victim == "wandb-core" else host_pid(), signal.SIGKILL)
        assert train(tracker, 3, 6) < 0.1
        tracker.finish({"test/last/acc1": 0.5})
    (folder,) = info.folder.glob("wandb/offline-run-*")
    (line,) = warnings(caplog)
    reason = "" if victim == "wandb-core" else "its process has ended with exit code -9; "
    assert line.startswith(f"W&B stopped, the run goes on without it: {reason}")
    assert line.endswith(f"to upload what it has: wandb sync --yes {folder}")
    assert [row["epoch"] for row in read_offline_run(info.folder).history][:2] == [1, 2]
    second = dataclasses.replace(info, folder=tmp_path / "second")
    with wandb_tracker(info=second) as tracker:
        train(tracker, 1, 2)
    assert len(warnings(caplog)) == 1
    assert len(read_offline_run(second.folder).history) == 2


def test_wandb_core_killed_between_two_runs(
    info: RunInfo,
    wandb_tracker: Build,
    read_offline_run: Read,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    host_pid: Callable[[], int],
) -> None:
    with wandb_tracker():
        pass
    os.kill(core_process(host_pid()), signal.SIGKILL)
    second = dataclasses.replace(info, folder=tmp_path / "second")
    with wandb_tracker(info=second) as tracker:
        train(tracker, 1, 2)
    assert warnings(caplog) == []
    assert len(read_offline_run(second.folder).history) == 2


def test_a_process_that_ends_before_it_begins_says_why(
    wandb_tracker: Build, caplog: pytest.LogCaptureFixture, in_the_process: Callable[[str], None]
) -> None:
    in_the_process("raise ImportError('no such thing')")
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
    assert warnings(caplog) == ["W&B is off for this run: ImportError: no such thing"]
    assert (tracker.mode, tracker.id) == ("disabled", None)


def test_a_variable_that_wandb_alone_understands_is_named_and_the_run_is_remembered(
    info: RunInfo, wandb_tracker: Build, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_HTTP_TIMEOUT", "a-secret")
        with wandb_tracker() as tracker:
            train(tracker, 1, 2)
    (line,) = warnings(caplog)
    assert line == (
        "W&B is off for this run: its setting x_graphql_timeout_seconds: "
        "Input should be a valid number, unable to parse string as a number"
    )
    assert (tracker.mode, tracker.id) == ("disabled", None)
    assert wandb_record.unfinished(info.folder) is not None
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
    assert (len(warnings(caplog)), wandb_record.unfinished(info.folder)) == (1, None)


def test_without_wandb_there_is_one_warning(
    wandb_tracker: Build, caplog: pytest.LogCaptureFixture, in_the_process: Callable[[str], None]
) -> None:
    in_the_process("import sys; sys.modules['wandb'] = None")
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
    assert warnings(caplog) == ["W&B is off for this run: import of wandb halted; None in sys.modules"]
    assert (tracker.mode, tracker.id) == ("disabled", None)


def test_no_process_can_be_started(
    wandb_tracker: Build, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        tracker.finish({})
    assert warnings(caplog) == ["W&B is off for this run: [Errno 2] No such file or directory: '/nowhere/python'"]
    assert (tracker.mode, tracker.id) == ("disabled", None)


def test_a_stuck_process_of_wandb_holds_the_end_of_the_run_for_a_bounded_time(
    wandb_tracker: Build,
    settled: Settled,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    host_pid: Callable[[], int],
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.5)
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
        settled(tracker)
        pid = host_pid()
        os.kill(pid, signal.SIGSTOP)
        assert train(tracker, 3, 2000) < 0.1  # more than a pipe takes
        began = time.perf_counter()
    assert 1 <= time.perf_counter() - began < 10
    (line,) = warnings(caplog)
    assert re.match(r"W&B stopped, the run goes on without it: not at its end within \d+ s; to upload ", line), line
    assert not Path(f"/proc/{pid}").exists()


SETTINGS = """
SETTINGS = dict.fromkeys(("entity", "name", "group", "notes"))
SETTINGS |= {"mode": "offline", "project": "p", "tags": [], "images": 4}
"""
STUCK = """
import logging, os, pathlib, signal, subprocess, sys, time
from vicinal.tracking.wandb import client as wandb_host
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker
logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
short = "from vicinal.tracking.wandb import calls; calls.CALL_SECONDS = calls.FINISH_SECONDS = 1.0"
wandb_host.MAIN = f"{short}; {wandb_host.MAIN}"
tracker = WandbTracker()
tracker.start(RunInfo("n", "r", "c", {"wandb": SETTINGS}, {}, None, None, pathlib.Path(sys.argv[1]), 1))
tracker.epoch({"epoch": 1})
assert wandb_host.process().flush(60)
pgrep = ["pgrep", "-P", str(wandb_host.process()._process.pid), "-f", "wandb-core"]
stuck = subprocess.run(pgrep, capture_output=True, text=True).stdout
pathlib.Path(sys.argv[1]).with_name("stuck").write_text(stuck)
os.kill(int(stuck), signal.SIGSTOP)
tracker.finish({"test/last/acc1": 0.5})
tracker.close(None)
"""


@pytest.mark.slow
def test_stuck_wandb_core_holds_neither_the_run_nor_the_exit_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SETTINGS + STUCK, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    os.kill(int((tmp_path / "stuck").read_text()), signal.SIGKILL)  # it does not even see that its parent has left
    assert done.returncode == 0
    (folder,) = tmp_path.rglob("offline-run-*")
    assert done.stdout == (
        "W&B stopped, the run goes on without it: no answer within 2 s; to upload what it has: "
        f"wandb sync --yes {folder}\n"
    )
    assert done.stderr == ""


def test_a_wandb_core_that_fails_to_start_is_one_warning(
    wandb_tracker: Build, caplog: pytest.LogCaptureFixture, in_the_process: Callable[[str], None]
) -> None:
    """wandb 0.31 by itself would wait for ever."""
    in_the_process("from wandb.sdk.lib.service import service_process as s; s.get_core_path = lambda: '/bin/false'")
    began = time.perf_counter()
    with wandb_tracker() as tracker:
        train(tracker, 1, 2)
    assert time.perf_counter() - began < 30
    assert warnings(caplog) == ["W&B is off for this run: wandb-core exited with code 1"]
    assert (tracker.mode, tracker.id) == ("disabled", None)


NEVER_READY = """
import logging, pathlib, sys
from vicinal.tracking.wandb import client as wandb_host
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker
logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
folder = pathlib.Path(sys.argv[1])
core = folder / "wandb-core"
core.write_text("#!/bin/sh\\nexec sleep 8")
core.chmod(0o755)
wandb_host.MAIN = f'''
from vicinal.tracking.wandb import calls
from wandb.sdk.lib.service import service_process
calls.CALL_SECONDS = calls.START_SECONDS = 1.0
service_process.get_core_path = lambda: {str(core)!r}
{wandb_host.MAIN}'''
for name in ("first", "second"):
    tracker = WandbTracker()
    tracker.start(RunInfo("n", "r", "c", {"wandb": SETTINGS}, {}, None, None, folder / name, 1))
    tracker.epoch({"epoch": 1})
    tracker.close(None)
"""


@pytest.mark.slow
def test_a_wandb_core_that_is_never_ready_holds_neither_runs_nor_the_exit_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SETTINGS + NEVER_READY, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (0, "W&B is off for this run: no answer within 1 s\n" * 2)
