"""Look at the lock of a folder without taking it or writing to it."""

from __future__ import annotations

import os
from pathlib import Path

import filelock

from vicinal.runs.files import CAREFULLY, DamagedError, check_kind

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def check(lock: Path) -> None:
    """Refuse a file that cannot be locked without harm: filelock empties the file that it has locked.

    Raises DamagedError: it is a link, a folder, a pipe, or a hard link to another file.
    """
    try:
        check_kind(lock)
        status = lock.stat()
    except FileNotFoundError:
        return
    if status.st_nlink > 1 and status.st_size:
        raise DamagedError(lock, "it is a second name of another file")


def held(lock: Path) -> bool:
    """Return whether a process has the lock of that file."""
    try:
        check(lock)
        if fcntl is None:
            return lock.exists() and _taken(lock)
        descriptor = os.open(lock, os.O_RDONLY | CAREFULLY)
    except (OSError, DamagedError):  # no lock file, or one that may not be locked: no process works there
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)


def _taken(lock: Path) -> bool:
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
