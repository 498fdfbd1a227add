"""Count the rows that W&B lacks after a ``kill -9`` of the training, offline, in two arrangements.

W&B in a process of its own, as ``tracker=wandb`` has it, and ``wandb.init`` in a daemon thread of the training.

    python benchmarks/wandb_after_kill.py 3
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vicinal.tracking.tracker import RunInfo, Tracker

ROOT = Path(__file__).parents[1]
WORDS = (
    *("dataset.train_size=200", "trainer.batch_size=20", "trainer.threads=1", "trainer.epochs=2000"),
    *("trainer.checkpoint_every=50", "wandb.mode=offline", "wandb.images=0"),
)
ROWS = (60, 150)  # range of the number of epochs after which a training is killed
LEFT_SECONDS = 6.0  # for a process that outlives the training to write what it has


class ThreadWandb(Tracker):
    """W&B in a thread of the training's own process."""

    def start(self, info: RunInfo) -> None:
        self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        threading.Thread(target=self._work, args=(info,), daemon=True).start()

    def _work(self, info: RunInfo) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off", x_transaction_log_flush_interval=1.0, disable_git=True)
        self._run = wandb.init(project="vicinal", mode="offline", dir=info.folder, settings=settings)
        while True:
            self._calls.get()()

    def epoch(self, row: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in row.items() if not isinstance(value, list)}
        self._calls.put(lambda: self._run.log(numbers, step=row["epoch"], commit=True))


def lost_rows(tracker: str, seed: int) -> int:
    """Train, kill the training with ``kill -9``, and return how many of its epochs W&B's record lacks."""
    with tempfile.TemporaryDirectory() as folder:
        options = Path(folder, "own", "tracker")
        options.mkdir(parents=True)
        (options / "thread.yaml").write_text(f"thread:\n  _target_: {Path(__file__).stem}.ThreadWandb\n")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, str(ROOT / "train.py"), "--config-dir", "own", f"tracker={tracker}", *WORDS]
        training = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        until = random.Random(seed).randint(*ROWS)
        while epochs(Path(folder)) < until and training.poll() is None:
            time.sleep(0.02)
        training.send_signal(signal.SIGKILL)
        training.wait()
        time.sleep(LEFT_SECONDS)
        return epochs(Path(folder)) - recorded(Path(folder))


def epochs(folder: Path) -> int:
    """Return the number of epochs in ``metrics.jsonl``."""
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("outputs/runs/*/metrics.jsonl"))


def recorded(folder: Path) -> int:
    """Return the number of rows of the only offline record below a folder."""
    (file,) = folder.rglob("offline-run-*/*.wandb")
    package = importlib.util.find_spec("wandb")
    assert package is not None
    assert package.origin is not None
    core = Path(package.origin).parent / "bin" / "wandb-core"
    command = [core, "leet", "inspect", "--no-observability", "--json", "--run-file", file, file.parent]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(json.loads(line)["type"] == "history" for line in printed.splitlines())


if __name__ == "__main__":
    for tracker in ("wandb", "thread"):
        lost = [lost_rows(tracker, seed) for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)]
        print(f"tracker={tracker}: rows lost {lost}", flush=True)
