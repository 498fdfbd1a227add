"""The lock of a folder: what it may be, and looking at it without taking it or writing to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import filelock

from vicinal.runs.files import CAREFULLY, DamagedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def check(lock: Path) -> None:
    """Refuse what a process could not lock without harm: filelock empties the file that it has locked.

    Raises:
        DamagedError: it is a link, a folder, a pipe, or a hard link to another file.
    """
    try:
        about = lock.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(about.st_mode):
        raise DamagedError(lock, "it is no regular file")
    if about.st_nlink > 1 and about.st_size:
        raise DamagedError(lock, "it is a second name of another file")


def held(lock: Path) -> bool:
    """Whether a process has the lock of that file."""
    try:
        check(lock)
        if fcntl is None:
            return lock.exists() and _taken(lock)
        descriptor = os.open(lock, os.O_RDONLY | CAREFULLY)
    except (OSError, DamagedError):  # no lock file, or one that may not be locked: no process works there
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
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
