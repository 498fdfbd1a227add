"""Progress of a sweep, read from the folders of its runs, whichever processes train them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from vicinal.analysis.load import read_sweep
from vicinal.analysis.records import Run, grouped, read
from vicinal.launch.queue_states import states
from vicinal.runs.folder import RunFolder
from vicinal.tasks import Metric, task_named

RECENT_EPOCHS = 5  # epochs at the end that the pace is measured over
UNDONE = ("planned", "running", "stopped")
HARDWARE = ("device", "device_name", "precision", "threads")
Stamp = tuple[int, int, int] | None
"""Time, size and inode of a file, which change when the file does; None if there is no file."""


@dataclass(frozen=True)
class Job:
    """State of one run of a sweep."""

    run: Run  # its ``status`` is "planned" (not started yet), "running", "completed", "failed" or "stopped"
    values: dict[str, str]  # {swept key: text}
    epochs: int  # number of epochs of the finished run
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the epochs that are done
    left: float | None = None  # seconds until it is done; None if unknown or done
    queue: str = ""  # what a cluster's queue says of it, such as "queued (Priority)"

    @property
    def state(self) -> str:
        """Its status as people see it."""
        return self.run.status if self.run.status in ("completed", "failed") else self.queue or self.run.status

    @property
    def done(self) -> int:
        """Number of epochs that are done."""
        return len(self.rows)

    @property
    def pace(self) -> float:
        """Seconds per epoch, if an epoch is done."""
        return fmean(row.get("seconds", 0.0) for row in self.rows[-RECENT_EPOCHS:])

    @property
    def score(self) -> float | None:
        """Selection metric of the last epoch on validation, or on test where there is no validation split."""
        row, key = self.rows[-1] if self.rows else {}, task_named(self.run.task).selection
        value = row.get(f"val/{key}", row.get(f"test/{key}"))
        return None if value is None else float(value)


@dataclass(frozen=True)
class Progress:
    """State of a sweep, with its jobs in grid order, at a time in seconds since 1970."""

    title: str
    swept: list[str]
    jobs: list[Job]
    at: float

    def count(self, status: str) -> int:
        """Return the number of jobs with a status."""
        return sum(job.run.status == status for job in self.jobs)

    @property
    def metric(self) -> Metric:
        """Selection metric of the task."""
        task = task_named(next((job.run.task for job in self.jobs if job.run.task), None))
        return task.metric(task.selection)

    @property
    def left(self) -> float | None:
        """Seconds until all is done, with as many jobs at a time as there are now; None if unknown or done."""
        times = [job.left for job in self.jobs if job.run.status in UNDONE]
        known = [left for left in times if left is not None]
        if not times or len(known) < len(times):
            return None
        return max(sum(known) / max(1, self.count("running")), max(known))


class Watch:
    """Reads the state of a sweep repeatedly; a file is read again if it has changed.

    `epochs` has the number of epochs that each run is to have, by its id, and `waiting` the ids of the runs that are to
    be trained from now on.
    """

    def __init__(self, sweep: Path, epochs: Mapping[str, int], waiting: Collection[str]) -> None:
        self._title, self._sweep, self._epochs = sweep.resolve().name, read_sweep(sweep), epochs
        self._folder = sweep
        self._folders = {
            run["run_id"]: RunFolder(self._sweep.folder_of(run), run["run_id"]) for run in self._sweep.runs
        }
        self._cache: dict[Path, tuple[Stamp, Any]] = {}
        self._before = {run_id: _stamps(self._folders[run_id]) for run_id in waiting}

    def look(self, over: bool = False) -> Progress:
        """Return the present state; ``over`` if the sweep has ended, so that runs that wait have stopped."""
        queued = {} if over else states(self._folder)
        jobs = [self._job(entry, over) for entry in self._sweep.runs]
        jobs = [replace(job, queue=queued.get(job.run.run_id, "")) for job in jobs]
        now = time.time()
        paces = [job.pace for job in jobs if job.done]
        by_cell = grouped((job.run.cell_id, job.pace) for job in jobs if job.done)
        jobs = [replace(job, left=_left(job, by_cell.get(job.run.cell_id, paces), now)) for job in jobs]
        return Progress(self._title, self._sweep.swept, jobs, now)

    def _job(self, entry: Mapping[str, Any], over: bool) -> Job:
        run_id, folder = entry["run_id"], self._folders[entry["run_id"]]
        touched = over or self._before.get(run_id) != _stamps(folder)
        run = Run(folder.path, run_id, entry["cell_id"], entry["seed"], entry["name"], "planned")
        result = self._cached(folder.result, lambda: read(folder.path, run.cell_id, run.seed, run.name))
        if touched and result is not None and result.completed:
            run = result
        elif folder.locked():
            run = replace(run, status="running")
        elif touched and result is not None and result.status in ("failed", "stopped"):
            run = result
        elif touched and folder.config.exists():
            why = "interrupted or killed; rerun the same command to resume" if result is None else result.error
            run = replace(run, status="stopped", error=why)
        if run.status != "planned":
            run = replace(run, **self._environment(folder))
        again = run.status == "planned" and result is not None and result.completed  # rerun=true
        rows = [] if again else self._cached(folder.metrics, folder.rows) or []
        return Job(run, entry["values"], self._epochs.get(run_id, len(rows)), rows)

    def _environment(self, folder: RunFolder) -> dict[str, Any]:
        """Return task, hardware and versions as a result would have them."""
        content = self._cached(folder.environment, folder.about) or {}
        hardware = {name: content[name] for name in HARDWARE if name in content}
        return {"task": content.get("task", ""), "hardware": hardware, "versions": content.get("versions", {})}

    def _cached(self, file: Path, load: Callable[[], Any]) -> Any:
        """Return what ``load`` makes of a file; None if there is no file."""
        stamp = _stamp(file)
        if file not in self._cache or self._cache[file][0] != stamp:
            self._cache[file] = stamp, None if stamp is None else load()
        return self._cache[file][1]


def _left(job: Job, paces: Sequence[float], now: float) -> float | None:
    """Estimate the seconds until a job is done, by its own pace or else by these of other jobs."""
    if job.run.status not in UNDONE or not (job.done or paces):
        return None
    pace = job.pace if job.done else fmean(paces)
    left = pace * (job.epochs - job.done)
    if job.run.status == "running" and (stamp := _stamp(job.run.folder / "metrics.jsonl")):
        # Time since the last epoch, but of a run that has just been resumed at most one epoch.
        left -= min(pace, now - stamp[0] / 1e9)
    return max(0.0, left)


def _stamps(folder: RunFolder) -> tuple[Stamp, ...]:
    return tuple(map(_stamp, (folder.config, folder.metrics, folder.result)))


def _stamp(file: Path) -> Stamp:
    try:
        status = file.lstat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
