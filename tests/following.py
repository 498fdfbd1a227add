"""Helpers to follow a sweep with: a run as somebody's work, its epochs so far, and what is then seen and shown."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
from rich.console import Console

from vicinal.live import page
from vicinal.live.progress import Progress, Watch
from vicinal.live.terminal import table

EPOCHS = 4


@contextmanager
def worked_on(run: Path) -> Iterator[None]:
    """As if a process were training it."""
    with filelock.FileLock(run / ".lock"):
        yield


def begun(run: Path, accuracies: list[float], seconds: float = 10.0) -> None:
    """Epochs of a run that has no result yet."""
    rows = [
        {"epoch": epoch, "train/loss": 1 / epoch, "train/acc1": value / 2, "val/acc1": value, "seconds": seconds}
        for epoch, value in enumerate(accuracies, start=1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"half": ')


def watch(sweep: Path, waiting: tuple[str, ...] = ()) -> Watch:
    runs = json.loads((sweep / "sweep.json").read_text())["runs"]
    return Watch(sweep, {run["run_id"]: EPOCHS for run in runs}, waiting)


def states(progress: Progress) -> list[str]:
    return [job.run.status for job in progress.jobs]


def page_of(progress: Progress, sweep: Path, over: bool = False) -> str:
    return page.render(progress, sweep / "report/report.html", 10.0, over)


def printed(progress: Progress, height: int = 40) -> list[list[str]]:
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(table(progress, 120, height))
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
