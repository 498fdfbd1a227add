"""What W&B's own record says of runs that failed, were killed, and went on afterwards; of real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

from vicinal.config.schema import CONF
from vicinal.runs.locks import held
from vicinal.tracking.wandb.server import ABANDONED

from ... import forked
from ...forked import Forked

pytestmark = pytest.mark.slow

Read = Callable[[Path], Any]
TRAIN = CONF.parent / "train.py"
EPOCHS = 60
LONG = 150
"""Epochs that take longer than W&B's start, which is beside them."""
TINY = ("dataset.train_size=200", "trainer.batch_size=20", "trainer.threads=1", "wandb.mode=offline", "wandb.images=4")
SECOND = 1.0
"""Of rows that a kill may cost: W&B's record is flushed that often."""
LATE = 0.3
"""Seconds that this test may be late to see a row or to kill, on a busy machine."""


class Job:
    """A process that trains one run: forked, or started, so that W&B is ready by the first epochs."""

    def __init__(self, output: Path, epochs: int = EPOCHS, *, start: bool = False) -> None:
        words = [f"output_dir={output}", f"trainer.epochs={epochs}", "trainer.checkpoint_every=10", *TINY]
        self.output, self.epochs, self.out = output, epochs, output / "out.txt"
        self.process: subprocess.Popen[bytes] | Forked
        if start:
            with self.out.open("wb") as out:
                self.process = subprocess.Popen([sys.executable, TRAIN, *words], stdout=out, stderr=subprocess.STDOUT)
        else:
            self.out.write_bytes(b"")
            self.process = Forked(words, output, self.out)
        self.seen: list[tuple[float, int]] = []
        """When there were how many rows in ``metrics.jsonl``."""

    @property
    def folder(self) -> Path:
        (folder,) = (self.output / "runs").iterdir()
        return folder

    def rows(self) -> list[dict[str, Any]]:
        text = (self.folder / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait(self, until: Callable[[], bool]) -> None:
        limit = time.monotonic() + 120
        while not until():
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < limit
            file = next(self.output.glob("runs/*/metrics.jsonl"), None)
            self.seen.append((time.monotonic(), file.read_bytes().count(b"\n") if file else 0))
            time.sleep(0.01)

    def wandb_holds_the_record(self) -> bool:
        """Its process has come as far as to what it is told first; it then works on without the training."""
        return any(map(held, self.output.glob("runs/*/wandb/.lock")))

    def wandb_has_begun(self) -> bool:
        return any("W&B is offline" in file.read_text() for file in self.output.glob("runs/*/train.log"))

    def kill(self, *, alone: bool) -> float:
        """The training, and with it, unless it is to die alone, all that it has started; returns when."""
        pids = [self.process.pid]
        for pid in pids if not alone else []:
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += map(int, file.read_text().split())
        killed = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return killed


def epochs_until_the_kill(job: Job, seed: int) -> None:
    more = random.Random(seed).randint(5, 30) + job.seen[-1][1]
    job.wait(lambda: job.seen[-1][1] >= more)


def continued(job: Job, read: Read) -> Any:
    """Give the same command again, to the end; W&B's one record of it all."""
    again = Job(job.output, job.epochs)
    code, out = again.process.wait(300), again.out.read_text()
    assert code == 0, out
    assert "going on in epoch" in out
    assert "W&B is off " not in out
    whole = read(again.folder)  # one record only: the continued run has told all again
    assert whole.exit_code == 0
    assert "error" not in whole.summary
    assert whole.history == again.rows()
    assert [row["epoch"] for row in whole.history] == list(range(1, job.epochs + 1))
    assert json.loads((again.folder / "result.json").read_text())["wandb"]["id"] == whole.id
    return whole


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_with_all_that_it_has_started(tmp_path: Path, read_offline_run: Read, seed: int) -> None:
    """As by a power cut, or by Slurm."""
    job = Job(tmp_path, LONG)
    job.wait(job.wandb_has_begun)
    epochs_until_the_kill(job, seed)
    killed = job.kill(alone=False)

    rows, run = job.rows(), read_offline_run(job.folder)
    assert run.history == rows[: len(run.history)]
    lost = [when for when, count in job.seen if count > len(run.history)]
    assert not lost or killed - lost[0] <= SECOND + LATE
    assert run.exit_code is None  # which W&B shows as crashed
    assert not (job.folder / "result.json").exists()

    whole = continued(job, read_offline_run)
    assert run.id in (whole.id, "")  # killed in the record's first second
    assert run.captions in (whole.captions, {})


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_alone(tmp_path: Path, read_offline_run: Read, seed: int) -> None:
    """As for its memory, or by a kill -9 of somebody's: W&B has every row, whether or not it was ready by then."""
    job = Job(tmp_path, start=seed == 0)
    job.wait(lambda: job.seen != [] and job.seen[-1][1] > 0 and job.wandb_holds_the_record())
    epochs_until_the_kill(job, seed)
    job.kill(alone=True)
    rows = job.rows()
    with filelock.FileLock(job.folder / "wandb" / ".lock", timeout=60):
        run = read_offline_run(job.folder)
    assert run.history == rows[: len(run.history)]
    assert len(rows) - len(run.history) <= 1  # W&B is told after the file is written
    assert run.exit_code == 1
    assert run.summary["error"] == ABANDONED
    assert continued(job, read_offline_run).id == run.id


def test_killed_alone_and_continued_at_once(tmp_path: Path, read_offline_run: Read) -> None:
    """The new session waits until the old one's rows are told, and only W&B's process does."""
    job = Job(tmp_path)
    job.wait(lambda: job.seen != [] and job.seen[-1][1] > 0 and job.wandb_holds_the_record())
    epochs_until_the_kill(job, 2)
    job.kill(alone=True)
    continued(job, read_offline_run)


def test_a_run_that_diverges_has_failed(tmp_path: Path, read_offline_run: Read) -> None:
    words = [f"output_dir={tmp_path}", "trainer.epochs=3", "optimizer.lr=1e30", *TINY]
    assert Forked(words, tmp_path, tmp_path / "out.txt").wait(120) == 1
    (folder,) = (tmp_path / "runs").iterdir()
    run = read_offline_run(folder)
    reason = json.loads((folder / "result.json").read_text())["error"]
    assert run.exit_code == 1
    assert run.summary["error"].startswith("Traceback")
    assert reason.startswith("the loss is not finite")
    assert run.summary["error"].rstrip().endswith(reason)


def test_a_run_whose_data_cannot_be_had_is_not_at_wandb(tmp_path: Path) -> None:
    """It never began; and one that was begun before would lose there what it has."""
    root = tmp_path / "a-file"
    root.touch()
    words = [f"output_dir={tmp_path}", "dataset=mnist", f"dataset.root={root}", "wandb.mode=offline"]
    done = forked.run(words)
    assert done.returncode == 1
    assert str(root) in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [root.name]
