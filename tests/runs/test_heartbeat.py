"""``lock.json``: who works on a run, for machines between which a file lock does not hold."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vicinal.errors import UserError
from vicinal.runs import heartbeat, run_lock
from vicinal.runs.folder import RunFolder
from vicinal.runs.heartbeat import HEARTBEAT, TakenOverError, Worker
from vicinal.runs.run_lock import BusyError

HOLD = """
import sys, pathlib
from vicinal.runs import heartbeat
heartbeat.PERIOD = 0.05
from vicinal.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock(wait=False):
    print("locked", flush=True)
    sys.stdin.readline()
"""
OTHER = Worker("n03", 12, "another-boot", "", 0, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "_offsets", {})
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    return run


@pytest.fixture
def holder(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """A real process that works on the run, with a heartbeat each 50 ms."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder.path], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def write(folder: RunFolder, age: float = 0.0, **values: Any) -> Path:
    """A heartbeat of another machine, as old as that by the file server's clock."""
    file = folder.path / HEARTBEAT
    file.write_text(json.dumps({**vars(OTHER), **values}))
    os.utime(file, (time.time() - age,) * 2)
    return file


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_holder_says_who_it_is_and_stays_fresh(folder: RunFolder, holder: subprocess.Popen[str]) -> None:
    file = folder.path / HEARTBEAT
    content = json.loads(file.read_text())
    boot = Path("/proc/sys/kernel/random/boot_id")
    assert content.pop("at")
    assert content == {
        "host": platform.node(),
        "pid": holder.pid,
        "boot_id": boot.read_text().strip() if boot.exists() else "",
        "slurm_job_id": "",
        "restart_count": 0,
    }
    os.utime(file, (0, 0))
    until(lambda: file.stat().st_mtime > time.time() - 60)
    assert folder.locked() == f"process {holder.pid} on {platform.node()}"
    file.unlink()
    until(file.exists)  # it says it again
    holder.communicate("end\n")
    assert not file.exists()
    assert folder.locked() is None
    assert [each.name for each in folder.path.iterdir()] == [".lock"]


def test_of_a_process_that_was_killed_here_the_file_lock_decides(
    folder: RunFolder, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (folder.path / HEARTBEAT).exists()
    assert folder.locked() is None
    began = time.monotonic()
    with folder.lock(wait=False):
        assert heartbeat.read(folder.path) == Worker(**json.loads((folder.path / HEARTBEAT).read_text()))
        assert heartbeat.read(folder.path).pid == os.getpid()  # type: ignore[union-attr]
    assert time.monotonic() - began < 2
    assert not (folder.path / HEARTBEAT).exists()


def test_a_fresh_heartbeat_of_another_machine_counts_as_a_lock(folder: RunFolder) -> None:
    file = write(folder)
    assert folder.locked() == "process 12 on n03"
    with pytest.raises(BusyError, match=rf"^{folder.path}: process 12 on n03 works on this run$"):
        folder.lock(wait=False).__enter__()
    assert file.read_text() == json.dumps(vars(OTHER))
    write(folder, slurm_job_id="7_1")
    assert folder.locked() == "job 7_1 on node n03"
    with RunFolder(folder.path.with_name("free")).lock(wait=False):  # the lock has been let go
        pass


def test_a_stale_one_is_of_a_dead_process(folder: RunFolder) -> None:
    write(folder, age=heartbeat.STALE + 5)
    assert folder.locked() is None
    with folder.lock(wait=False):
        assert json.loads((folder.path / HEARTBEAT).read_text())["pid"] == os.getpid()
    assert not (folder.path / HEARTBEAT).exists()


def test_one_that_waits_goes_on_when_the_heart_has_stopped(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(heartbeat, "STALE", 1.0)
    write(folder, slurm_job_id="7_1")
    began = time.monotonic()
    with folder.lock(wait=True):
        assert time.monotonic() - began > 0.5
    line = f"waiting for job 7_1 on node n03, which works on this run: {folder.path} (busy=skip would not wait)"
    assert caplog.messages == [line]


def test_it_goes_on_as_soon_as_the_other_has_left(folder: RunFolder) -> None:
    file = write(folder)
    threading.Timer(0.3, file.unlink).start()
    began = time.monotonic()
    with folder.lock(wait=True):
        assert 0.2 < time.monotonic() - began < 10


@pytest.mark.parametrize("wait", [True, False])
def test_a_requeued_job_waits_for_its_own_former_self_alone(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wait: bool
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(heartbeat, "STALE", 1.0)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    write(folder, slurm_job_id="7_1", restart_count=1)
    assert folder.locked() is None  # busy=skip does not skip it
    began = time.monotonic()
    with folder.lock(wait=wait):
        assert time.monotonic() - began > 0.5
        content = json.loads((folder.path / HEARTBEAT).read_text())
        assert (content["slurm_job_id"], content["restart_count"]) == ("7_1", 2)
    assert caplog.messages == [
        f"waiting until it is sure that job 7_1 on node n03, where this job was before, is dead: {folder.path}"
    ]
    write(folder, slurm_job_id="7_1", restart_count=3)  # of a later one: we are the former self
    assert folder.locked() == "job 7_1 on node n03"


def test_one_machine_has_one_boot_whatever_its_containers_are_called(folder: RunFolder) -> None:
    here = Worker.here()
    write(folder, boot_id=here.boot_id, host="container")
    assert folder.locked() is None
    write(folder, boot_id="", host=here.host)
    assert folder.locked() is None
    write(folder, boot_id="another-boot", host=here.host)  # two machines of one name, or a boot ago
    assert folder.locked() == f"process 12 on {here.host}" if here.boot_id else True


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_ages_are_of_the_file_servers_clock(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """The own clock is an hour off."""
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + ahead)
    file = write(folder)
    os.utime(file)
    assert folder.locked() == "process 12 on n03"
    os.utime(file, (clock() - heartbeat.STALE - 5,) * 2)
    assert folder.locked() is None
    assert [each.name for each in folder.path.iterdir()] == [HEARTBEAT]  # nothing is left of the measuring


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', json.dumps({**vars(OTHER), "pid": "x"})])
def test_what_is_no_heartbeat_holds_nobody_up(folder: RunFolder, content: str) -> None:
    (folder.path / HEARTBEAT).write_text(content)
    assert folder.locked() is None
    with folder.lock(wait=False):
        assert json.loads((folder.path / HEARTBEAT).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_nothing_is_written_through_something_else(folder: RunFolder, kind: str, tmp_path: Path) -> None:
    precious, file = tmp_path / "precious", folder.path / HEARTBEAT
    precious.write_text(json.dumps(vars(OTHER)))
    {"link": lambda: file.symlink_to(precious), "folder": file.mkdir, "pipe": lambda: os.mkfifo(file)}[kind]()
    assert folder.locked() is None
    with folder.lock(wait=False):
        assert folder.locked() is not None
    assert precious.read_text() == json.dumps(vars(OTHER))


def test_a_process_that_was_taken_for_dead_says_so_and_leaves_the_other_alone(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "PERIOD", 0.05)
    line = f"{folder.path}: process 12 on n03 has taken over this run while this process stood still as if it were dead"
    with folder.lock(wait=False):
        folder.check_lock()
        file = write(folder)
        until(lambda: taken_over(folder))
        with pytest.raises(TakenOverError, match=f"^{re.escape(line)}$"):
            folder.fail({}, "of what came after")
    folder.check_lock()  # it has no lock to lose
    assert file.read_text() == json.dumps(vars(OTHER))
    assert [each.name for each in folder.path.iterdir() if each.name != ".lock"] == [HEARTBEAT]
    assert not caplog.messages


def taken_over(folder: RunFolder) -> bool:
    try:
        folder.check_lock()
    except TakenOverError:
        return True
    return False


@pytest.mark.parametrize("seconds", [heartbeat.STALE - 10, heartbeat.STALE + 10])
def test_one_that_may_be_dead_looks_before_it_writes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """It need not wait for its next heartbeat; and who has gone again is not there to be seen."""
    clock = time.time
    with folder.lock(wait=False):
        file = folder.path / HEARTBEAT
        own = file.read_text()
        monkeypatch.setattr(time, "time", lambda: clock() + seconds)
        folder.check_lock()  # it is its own still
        monkeypatch.setattr(time, "time", lambda: clock() + 2 * seconds)
        file.unlink()
        assert taken_over(folder) is (seconds > heartbeat.STALE)
        assert file.exists() is (seconds < heartbeat.STALE)
        assert not file.exists() or file.read_text() == own


def test_a_file_server_that_does_not_answer_takes_nothing_over(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time

    def fail(*_: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with folder.lock(wait=False):
        monkeypatch.setattr(time, "time", lambda: clock() + 2 * heartbeat.STALE)
        with monkeypatch.context() as down:
            down.setattr(os, "open", fail)
            down.setattr(Path, "exists", fail)
            folder.check_lock()
        folder.check_lock()
    assert not (folder.path / HEARTBEAT).exists()


def test_a_job_that_slurm_has_ended_is_forgotten(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(folder, slurm_job_id="7_1")
    heartbeat.forget(folder.path, "7_2")
    assert folder.locked() == "job 7_1 on node n03"
    heartbeat.forget(folder.path, "7_1")
    assert not file.exists()
    heartbeat.forget(folder.path, "7_1")
    assert folder.locked() is None


def test_of_two_machines_that_begin_at_once_one_waits(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is there between the look and the heartbeat, and is not written over."""
    file = write(folder)
    real, looks = heartbeat.elsewhere, list[Path]()

    def too_early(path: Path) -> Worker | None:
        looks.append(path)
        return None if len(looks) == 1 else real(path)

    monkeypatch.setattr(heartbeat, "elsewhere", too_early)
    with pytest.raises(BusyError, match="process 12 on n03"):
        folder.lock(wait=False).__enter__()
    assert file.read_text() == json.dumps(vars(OTHER))


def test_of_two_machines_that_find_a_dead_worker_one_waits(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has taken the dead one's place between the look and the removal."""
    write(folder, age=600)
    real, looks = heartbeat.elsewhere, list[Worker | None]()

    def late(path: Path) -> Worker | None:
        looks.append(real(path))
        if len(looks) == 2:  # the look that finds the file in the way
            write(folder, pid=13, host="n04")
        return looks[-1]

    monkeypatch.setattr(heartbeat, "elsewhere", late)
    with pytest.raises(BusyError, match="process 13 on n04"):
        folder.lock(wait=False).__enter__()
    assert looks[:2] == [None, None]
    assert json.loads((folder.path / HEARTBEAT).read_text())["pid"] == 13
    assert sorted(file.name for file in folder.path.iterdir()) == [".lock", HEARTBEAT]


def test_without_second_names_of_files(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(folder, age=heartbeat.STALE + 5)
    with folder.lock(wait=False):
        assert json.loads((folder.path / HEARTBEAT).read_text())["pid"] == os.getpid()
        assert sorted(each.name for each in folder.path.iterdir()) == [".lock", HEARTBEAT]


def test_a_full_disk_leaves_the_file_lock(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(heartbeat.Heartbeat, "_write", full)
    with folder.lock(wait=False):
        assert folder.locked() == "another process"
    assert folder.locked() is None


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_with_the_option(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert folder.locked() is None
    with pytest.raises(UserError) as error:
        folder.lock(wait=True).__enter__()
    assert str(error.value) == (
        f"{folder.path}: no file can be locked here ({os.strerror(number)}); it has to be mounted with -o flock "
        "(Lustre), or without nolock and with its lock daemon (NFS)"
    )


def test_what_a_process_leaves_that_is_killed_after_the_done_mark_is_removed(folder: RunFolder) -> None:
    killed = [
        sys.executable,
        "-c",
        HOLD.replace("sys.stdin.readline()", "import os; os.kill(os.getpid(), 9)"),
        folder.path,
    ]
    assert subprocess.run(killed, stdout=subprocess.DEVNULL).returncode == -9
    folder.previous.write_bytes(b"an earlier checkpoint")
    assert (folder.path / HEARTBEAT).exists()
    folder.tidy()
    assert [file.name for file in folder.path.iterdir()] == [".lock"]


def test_what_belongs_to_a_process_that_works_stays(
    folder: RunFolder, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    folder.previous.write_bytes(b"an earlier checkpoint")
    folder.tidy()
    assert folder.previous.exists()
    assert (folder.path / HEARTBEAT).exists()
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    kept = write(other)  # of another machine, and young
    other.tidy()
    assert kept.exists()
