"""One process works on a run; another one waits or skips, and a dead one holds nobody up."""

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vicinal.runs.folder import RunFolder
from vicinal.runs.heartbeat import HEARTBEAT
from vicinal.runs.run_lock import LOCK, BusyError

from ..forked import Forked

TRAIN = Path(__file__).parents[2] / "train.py"
WORDS = (
    "model=mlp",
    "dataset.train_size=100",
    "trainer.epochs=40",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.checkpoint_every=2steps",
    "wandb.mode=disabled",
)
HOLD = """
import sys, pathlib
from vicinal.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock(wait=False):
    print("locked", flush=True)
    sys.stdin.readline()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python in the folder of the test; what is left at its end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str | Path) -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([sys.executable, *words], text=True, cwd=tmp_path, **pipes)  # type: ignore[call-overload]
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Callable[..., Forked]]:
    """Starts the training without the imports; what it prints goes to the file that is named."""
    processes: list[Forked] = []

    def begin(out: str, *words: str) -> Forked:
        processes.append(Forked([*WORDS, *words], tmp_path, tmp_path / out))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def wait_until(condition: Callable[[], object], process: Forked) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.005)


def hold(start: Start, path: Path) -> "subprocess.Popen[str]":
    process = start("-c", HOLD, path)
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_second_is_refused_or_waits(tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.locked() is None
    holder = hold(start, folder.path)
    name = f"process {holder.pid} on {platform.node()}"
    assert folder.locked() == name
    began = time.monotonic()
    with pytest.raises(BusyError, match=rf"^{folder.path}: {name} works on this run$"):
        folder.lock(wait=False).__enter__()
    assert time.monotonic() - began < 1
    (folder.path / HEARTBEAT).unlink()  # of an older version, which has none
    assert folder.locked() == "another process"  # it has not said yet who it is
    folder.environment.write_text(json.dumps({"pid": 12, "host": "here", "continued": [{"pid": 34}]}))
    assert folder.locked() == "process 34 on here"
    caplog.set_level("INFO")
    waiter = start("-c", HOLD.replace("wait=False", "wait=True"), folder.path)
    time.sleep(0.5)
    assert waiter.poll() is None
    holder.communicate("end\n")
    assert waiter.stdout.readline() == "locked\n"
    waiter.communicate("end\n")
    with folder.lock(wait=False):
        pass
    assert folder.locked() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_process_holds_no_lock(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    folder = RunFolder(tmp_path / "run")
    holder = hold(start, folder.path)
    holder.send_signal(number)
    holder.wait()
    assert (folder.path / ".lock").exists()  # what is left of it
    assert folder.locked() is None
    began = time.monotonic()
    with folder.lock(wait=False):
        assert time.monotonic() - began < 1


def test_a_stopped_process_still_has_its_lock(tmp_path: Path, start: Start) -> None:
    folder = RunFolder(tmp_path / "run")
    holder = hold(start, folder.path)
    holder.send_signal(signal.SIGSTOP)
    assert folder.locked() == f"process {holder.pid} on {platform.node()}"


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), folder.lock(wait=False):
        raise ZeroDivisionError
    assert folder.locked() is None


def touched(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file each is and when it was written; but the lock, which filelock before 4 empties to look at it.

    And but the heartbeat, which whoever has the lock writes, under a name of its own first.
    """
    files = [file for file in folder.iterdir() if file.name != LOCK and not file.name.startswith(HEARTBEAT)]
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.slow
def test_one_trains_and_the_others_wait_or_skip(tmp_path: Path, start: Start, fork: Callable[..., Forked]) -> None:
    """A process that was killed is taken over; whoever comes then is told by whom."""
    command = (TRAIN, *WORDS)
    first = fork("first")
    wait_until(lambda: list(tmp_path.glob("outputs/runs/*/metrics.jsonl")), first)
    (path,) = tmp_path.glob("outputs/runs/*")
    folder = RunFolder(path)
    wait_until(lambda: len(folder.rows()) > 2, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    rows = len(folder.rows())

    second = fork("second", "busy=skip")
    wait_until(lambda: len(folder.rows()) > rows, second)
    second.send_signal(signal.SIGSTOP)
    worker = f"process {second.pid} on {platform.node()}"
    before = touched(path)

    skips, waits = start(*command, "busy=skip"), start(*command)
    line = f"waiting for {worker}, which works on this run: {path} (busy=skip would not wait)\n"
    assert waits.stdout.readline() == line
    out, _ = skips.communicate(timeout=120)
    assert out == f"{path}: {worker} works on this run; skipped\n"
    assert skips.returncode == 0
    assert waits.poll() is None
    assert touched(path) == before

    second.send_signal(signal.SIGCONT)
    code, out = second.wait(120), (tmp_path / "second").read_text()
    assert code == 0, out
    assert "going on in epoch" in out
    done = touched(path)
    out, _ = waits.communicate(timeout=120)
    assert out == f"already completed: {path} (rerun=true trains it again)\n"
    assert waits.returncode == 0
    assert touched(path) == done
    assert [row["epoch"] for row in folder.rows()] == list(range(1, 41))
