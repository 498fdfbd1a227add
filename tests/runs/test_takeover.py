"""A process that stands still while another machine takes over its run writes nothing more when it wakes."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vicinal.runs.folder import RunFolder

from ..forked import Forked

PROGRAM = """
import os, signal, sys
from pathlib import Path

from vicinal.cli.train import main
from vicinal.runs import heartbeat, run_lock
from vicinal.training import loop

machine, place = sys.argv.pop(1), sys.argv.pop(1)
Path(machine).write_text(machine)
heartbeat.BOOT, run_lock.LOCK = Path(machine), f".lock-{machine}"  # flock holds on each machine alone
heartbeat.PERIOD, heartbeat.STALE, run_lock.POLL_SECONDS = 0.05, 1.5, 0.05
if place:
    real = getattr(loop, place)

    def standing_still(training, *more):
        if training.epoch == 4:
            setattr(loop, place, real)  # once
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(training, *more)

    setattr(loop, place, standing_still)
main()
"""
WORDS = (
    "model=mlp",
    "dataset.train_size=100",
    "dataset.val_size=50",
    "trainer.epochs=40",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "tracker=none",
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Forked]]:
    """Starts the training on a machine; it stops itself in its fourth epoch, where that function of the loop begins."""
    processes: list[Forked] = []
    (tmp_path / "train.py").write_text(PROGRAM)

    def begin(machine: str, place: str = "") -> Forked:
        words = [machine, place, *WORDS]
        processes.append(Forked(words, tmp_path, tmp_path / f"out-{machine}", program=tmp_path / "train.py"))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def until(holds: Callable[[], object]) -> None:
    limit = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def stopped(process: Forked) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def content(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for file in folder.iterdir():
        status = file.stat()
        found[file.name] = (status.st_ino, status.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process is read from Linux's /proc")
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("place", ["train_epoch", "score"])
def test_one_that_wakes_leaves_the_run_to_the_other(
    tmp_path: Path, start: Callable[..., Forked], place: str, ended: bool
) -> None:
    first = start("one", place)
    until(lambda: stopped(first))
    (path,) = tmp_path.glob("outputs/runs/*")
    folder = RunFolder(path)
    assert len(folder.rows()) == 3
    second = start("two")
    if ended:
        assert second.wait(120) == 0, (tmp_path / "out-two").read_text()
        has = "another process may have"
    else:
        until(lambda: len(folder.rows()) > 5)
        second.send_signal(signal.SIGSTOP)
        until(lambda: stopped(second))
        has = f"process {second.pid} on {os.uname().nodename} has"
    before, said = content(path), (tmp_path / "out-one").read_text()
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 1
    line = f"error: {path}: {has} taken over this run while this process stood still as if it were dead\n"
    assert (tmp_path / "out-one").read_text() == said + line
    assert content(path) == before
    second.send_signal(signal.SIGCONT)
    assert second.wait(120) == 0, (tmp_path / "out-two").read_text()
    assert [row["epoch"] for row in folder.rows()] == list(range(1, 41))
    assert folder.completed() is not None
    assert folder.damage() == []
