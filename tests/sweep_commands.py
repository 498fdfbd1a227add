"""Commands of sweeps in processes of their own, for the tests of engines: started, watched, ended with the test."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vicinal.tracking.run_files import TIME_FIELDS

ROOT = Path(__file__).parents[1]
SMALL = (
    "dataset.train_size=120",
    "dataset.val_size=50",
    "trainer.batch_size=20",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.clean_subset=0",
    "tracker=none",
)
STARTED: list[subprocess.Popen[bytes]] = []


def end_all() -> None:
    """End what a test has started: no command outlives it."""
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


class SweepCommand:
    """A command in a folder, and what it leaves there."""

    def __init__(self, folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.out = folder, folder / f"out{len(list(folder.glob('out*')))}.txt"
        with self.out.open("wb") as out:
            command = [sys.executable, str(ROOT / "train.py"), *SMALL, *words]
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        STARTED.append(self.process)

    @property
    def said(self) -> str:
        return self.out.read_text()

    def until(self, holds: Callable[[], Any], seconds: float = 300, alive: bool = True) -> Any:
        """Wait until something holds, and return it; the command has to be alive until then."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < end, self.said[-2000:]
            assert not alive or self.process.poll() is None, self.said[-2000:]
            time.sleep(0.1)
        return found


def rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each run without what time says, by the run's name."""
    found = {}
    for file in sorted(folder.glob("outputs/runs/*/metrics.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = [{key: row[key] for key in row if key not in TIME_FIELDS} for row in lines]
    return found
