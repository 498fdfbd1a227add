"""One process works on a run: a file lock, and between machines, where that may not hold, a heartbeat."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from vicinal.errors import UserError
from vicinal.runs import heartbeat
from vicinal.runs.files import naming
from vicinal.runs.heartbeat import Heartbeat, Worker
from vicinal.runs.locks import held, require_flock

log = logging.getLogger(__name__)

LOCK = ".lock"
LOCK_PROBE_SECONDS = 0.2
"""Time to wait for a lock before it counts as taken. Probing a lock holds it for a moment, and is no running job."""
POLL_SECONDS = 5.0
"""Time between two looks for the heartbeat of another machine."""


class BusyError(UserError):
    """Another process works on the run."""


def worker(folder: Path, known: Callable[[], str]) -> str | None:
    """Name the process that works on a run; None without one. ``known`` names it where it has not said so itself.

    A job's own former self, before Slurm requeued it, is none.
    """
    if other := heartbeat.elsewhere(folder):  # needs no lock
        return None if Worker.here().continues(other) else str(other)
    return str(heartbeat.read(folder) or known()) if held(folder / LOCK) else None


@contextmanager
def only_worker(folder: Path, wait: bool, known: Callable[[], str]) -> Iterator[Heartbeat]:
    """Be the only process that works on a run. The lock of a dead process is free; on another machine, after a while.

    The heartbeat tells whether this process is still the one.

    Raises:
        BusyError: another process works on the run, and ``wait`` is false.
        UserError: the file system has no locks.
    """
    lock, beat = filelock.FileLock(folder / LOCK), Heartbeat(folder)
    with naming(folder):
        require_flock(folder / LOCK)
        _acquire(folder, lock, beat, wait, known)
    try:
        yield beat
    finally:
        try:
            beat.end()
        finally:
            lock.release()


def _acquire(folder: Path, lock: filelock.BaseFileLock, beat: Heartbeat, wait: bool, known: Callable[[], str]) -> None:
    said = set[str]()

    def wait_for(name: str) -> None:
        if not wait:
            raise BusyError(f"{folder}: {name} works on this run")
        say(f"waiting for {name}, which works on this run: {folder} (busy=skip would not wait)")

    def say(line: str) -> None:
        if line not in said:
            log.info("%s", line)
        said.add(line)

    while True:
        try:
            lock.acquire(timeout=LOCK_PROBE_SECONDS)
        except filelock.Timeout:
            wait_for(str(heartbeat.read(folder) or known()))
            lock.acquire()
        try:
            other = heartbeat.elsewhere(folder)
            if other is None and beat.begin():
                return
        except BaseException:
            lock.release()
            raise
        lock.release()
        if other is None:  # a third process has been faster
            continue
        if Worker.here().continues(other):
            say(f"waiting until it is sure that {other}, where this job was before, is dead: {folder}")
        else:
            wait_for(str(other))
        time.sleep(POLL_SECONDS)
