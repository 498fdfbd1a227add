"""How far a sweep is, by what is in the folders of its runs: whoever trains them, and wherever."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vicinal.analysis.load import read_sweep
from vicinal.analysis.records import Run, read
from vicinal.runs.files import DamagedError, decode_json
from vicinal.runs.files import read as read_file
from vicinal.runs.folder import RunFolder
from vicinal.runs.shapes import ROW

RECENT = 5
"""Epochs at the end whose pace counts."""
Stamp = tuple[int, int, int] | None
"""Of a file; it changes when the file does."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep at a moment.

    Attributes:
        run: its ``status`` is "planned" (its turn is still to come), "running", "completed", "failed" or "stopped"
            (begun, not finished, and nobody is at it).
        values: {swept key: text}.
        epochs: that it will have.
        rows: of its epochs so far.
        left: seconds; None if nobody knows or nothing is left.
    """

    run: Run
    values: dict[str, str]
    epochs: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    left: float | None = None

    @property
    def done(self) -> int:
        """Epochs."""
        return len(self.rows)

    @property
    def accuracy(self) -> float | None:
        """Of the last epoch on validation, or on test where there is no validation split."""
        row = self.rows[-1] if self.rows else {}
        value = row.get("val/acc1", row.get("test/acc1"))
        return None if value is None else float(value)


@dataclass(frozen=True)
class Progress:
    """A sweep at a moment.

    Attributes:
        title: of the sweep.
        swept: keys.
        jobs: in grid order.
        at: seconds since 1970.
    """

    title: str
    swept: list[str]
    jobs: list[Job]
    at: float

    def count(self, status: str) -> int:
        return sum(job.run.status == status for job in self.jobs)

    @property
    def left(self) -> float | None:
        """Seconds, with as many jobs at a time as there are now; None if nobody knows yet."""
        times = [job.left for job in self.jobs if job.run.status in ("planned", "running", "stopped")]
        if not times or None in times:
            return None
        known = [each for each in times if each is not None]
        return max(sum(known) / max(1, self.count("running")), max(known))


class Watch:
    """Reads a sweep again and again; of a file that has not changed, nothing.

    Args:
        sweep: its folder, with ``sweep.json``.
        epochs: {run id: number} that the runs will have.
        waiting: ids of the runs that are to be trained from now on.
    """

    def __init__(self, sweep: Path, epochs: Mapping[str, int], waiting: Collection[str]) -> None:
        self._title, self._sweep, self._epochs = sweep.resolve().name, read_sweep(sweep), epochs
        self._folders = {run["run_id"]: self._sweep.folder_of(run) for run in self._sweep.runs}
        self._known: dict[Path, tuple[Stamp, Any]] = {}
        self._before = {run_id: self._stamps(self._folders[run_id]) for run_id in waiting}

    def look(self, over: bool = False) -> Progress:
        """What is true now.

        Args:
            over: nobody will train what is left: what was begun and is waiting has stopped.
        """
        now = time.time()
        jobs = [self._job(entry, over) for entry in self._sweep.runs]
        jobs = [replace(job, left=self._left(job, jobs, now)) for job in jobs]
        return Progress(self._title, self._sweep.swept, jobs, now)

    def _job(self, entry: Mapping[str, Any], over: bool) -> Job:
        run_id, path = entry["run_id"], self._folders[entry["run_id"]]
        folder = RunFolder(path, run_id)
        untouched = not over and self._before.get(run_id) == self._stamps(path)
        run = Run(path, run_id, entry["cell_id"], entry["seed"], entry["name"], "planned")
        result = self._cached(folder.result, lambda: read(path, run.cell_id, run.seed, run.name))
        if result is not None and result.completed and not untouched:
            run = replace(result, **self._made(folder))
        elif folder.locked():
            run = replace(run, status="running", **self._made(folder))
        elif result is not None and result.status == "failed" and not untouched:
            run = replace(result, **self._made(folder))
        elif folder.config.exists() and not untouched:
            why = "interrupted or killed; the same command goes on" if result is None else result.error
            run = replace(run, status="stopped", error=why, **self._made(folder))
        again = run.status == "planned" and result is not None and result.completed  # rerun=true
        rows = [] if again else self._cached(folder.metrics, lambda: _rows(folder.metrics)) or []
        return Job(run, entry["values"], self._epochs.get(run_id, len(rows)), rows)

    def _made(self, folder: RunFolder) -> dict[str, Any]:
        """Hardware and versions, as a result would say them."""
        about = self._cached(folder.environment, folder.about) or {}
        names = ("device", "device_name", "precision", "threads")
        hardware = {name: about[name] for name in names if name in about}
        return {"hardware": hardware, "versions": about.get("versions", {})}

    def _left(self, job: Job, jobs: list[Job], now: float) -> float | None:
        if job.run.status not in ("planned", "running", "stopped"):
            return None
        alike = [job] if job.done else [each for each in jobs if each.run.cell_id == job.run.cell_id and each.done]
        paces = [_pace(each) for each in alike or [each for each in jobs if each.done]]
        if not paces:
            return None
        left = sum(paces) / len(paces) * (job.epochs - job.done)
        if job.run.status == "running" and (file := _stamp(job.run.folder / "metrics.jsonl")):
            left -= now - file[0] / 1e9  # of the epoch that has begun since
        return max(0.0, left)

    def _cached(self, file: Path, parse: Callable[[], Any]) -> Any:
        """What ``parse`` makes of a file; None if there is no such file."""
        stamp = _stamp(file)
        known = self._known.get(file)
        if known is None or known[0] != stamp:
            content = None
            if stamp is not None:
                with suppress(OSError, DamagedError):
                    content = parse()
            known = self._known[file] = stamp, content
        return known[1]

    @staticmethod
    def _stamps(path: Path) -> tuple[Stamp, ...]:
        return tuple(_stamp(path / name) for name in ("config.yaml", "metrics.jsonl", "result.json"))


def _stamp(file: Path) -> Stamp:
    try:
        about = file.lstat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _rows(file: Path) -> list[dict[str, Any]]:
    """Whole lines; what is none of ours is for who reads the file to use it to complain of."""
    rows = []
    for line in read_file(file).split(b"\n")[:-1]:
        with suppress(DamagedError):
            rows.append(decode_json(file, line, ROW))
    return rows


def _pace(job: Job) -> float:
    """Seconds an epoch."""
    recent = [row.get("seconds", 0.0) for row in job.rows[-RECENT:]]
    return float(sum(recent) / len(recent))
