"""Which jobs of a cluster have the runs of a sweep, and their states: small files in its folder."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filelock

from vicinal.launch import slurm
from vicinal.runs.files import DamagedError, make_folder, read_json, safe_name, write_json
from vicinal.runs.locks import safe_lock

log = logging.getLogger(__name__)

SUBMITTED = Path("slurm/jobs.json")  # {run id: job} of all that was submitted, the runs of a job in its order
SUBMITTING = Path("slurm/submitting.json")  # the name of jobs that are being submitted and are not in that file yet
LOCK = Path("slurm/jobs.lock")  # of the command that looks into the queue, submits what is left and records it
STATES = Path("slurm/states.json")  # {run id: text} of what is in the queue, for the page and the table, and when
STALE = 90.0
"""Seconds after which states are not believed: the command that has written them has left, or Slurm does not answer."""


def submitted(sweep: Path) -> dict[str, str]:
    """Return {run id: job} of all that commands have submitted for a sweep."""
    try:
        return dict(read_json(sweep / SUBMITTED, {str: str}))
    except (OSError, DamagedError):  # it can be done without
        return {}


def record(sweep: Path, jobs: Mapping[str, str]) -> None:
    """Write what :func:`submitted` returns, the jobs that were just submitted included."""
    make_folder((sweep / SUBMITTED).parent)
    write_json(sweep / SUBMITTED, jobs)
    (sweep / SUBMITTING).unlink(missing_ok=True)


def new_name(sweep: Path, name: str) -> str:
    """Return a name for jobs that no other jobs have, written down before they are submitted."""
    unique = f"{safe_name(name, 64)}-{uuid.uuid4().hex}"
    make_folder((sweep / SUBMITTING).parent)
    write_json(sweep / SUBMITTING, {"name": unique})
    return unique


def unrecorded(sweep: Path) -> str | None:
    """Return the name of jobs whose command ended before it recorded them, if it had submitted them at all."""
    try:
        name: str = read_json(sweep / SUBMITTING, {"name": str})["name"]
    except (OSError, DamagedError):
        return None
    return name if re.fullmatch(r"[\w.+=-]+-[0-9a-f]{32}", name, re.ASCII) else None  # of no other jobs


@contextmanager
def only_submitter(sweep: Path) -> Iterator[None]:
    """Be the only command that submits jobs of a sweep, so that another one finds them. Raises as ``safe_lock``."""
    make_folder((sweep / LOCK).parent)
    lock = safe_lock(sweep / LOCK)
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        log.info("waiting for another command, which submits jobs of this sweep: %s", sweep)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Queue:
    """Slurm's queue, as far as the jobs of some runs are in it."""

    def __init__(self, sweep: Path, jobs: Mapping[str, str]) -> None:
        self._file, self._jobs = sweep / STATES, jobs
        self._queued: dict[str, tuple[str, str]] | None = None
        self._missed: dict[str, int] = {}  # looks at the queue that a job was not in
        self._due = 0.0

    def look(self, seconds: float) -> None:
        """Ask Slurm, at most every so many seconds, and write the states of the runs."""
        if time.monotonic() < self._due:
            return
        self._queued, self._due = slurm.queue(), time.monotonic() + seconds
        if self._queued is None:
            return
        for job in {*self._jobs.values()}:
            self._missed[job] = 0 if job in self._queued else self._missed.get(job, 0) + 1
        queued = {run: (job, *self._queued[job]) for run, job in self._jobs.items() if job in self._queued}
        preempted = slurm.preempted() if any(state == "RUNNING" for _, state, _ in queued.values()) else set()
        states = {run: _text(state, place, job in preempted) for run, (job, state, place) in queued.items()}
        make_folder(self._file.parent)
        write_json(self._file, {"at": time.time(), "states": states})

    def is_gone(self, job: str) -> bool:
        """Return whether a job has left the queue, twice in a row: its result may still be on its way."""
        return self._missed.get(job, 0) >= 2


def states(sweep: Path) -> dict[str, str]:
    """Return the states of the runs in the queue, {run id: text}, as far as a command follows them now."""
    try:
        content = read_json(sweep / STATES, {"at": float, "states": {str: str}})
    except (OSError, DamagedError):
        return {}
    return dict(content["states"]) if abs(time.time() - content["at"]) < STALE else {}


def _text(state: str, place: str, preempted: bool) -> str:
    if state == "RUNNING":
        return f"preempted on {place}" if preempted else f"running on {place}"
    return f"queued ({place})" if state == "PENDING" and place else {"PENDING": "queued"}.get(state, state.lower())
