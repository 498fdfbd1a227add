"""Look at the lock of a folder without taking it or writing to it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock

from vicinal.errors import UserError
from vicinal.runs.files import CAREFULLY, DamagedError, check_kind

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


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


def require_flock(lock: Path) -> None:
    """Refuse a file system without file locks, on which two processes could work on one run.

    Raises UserError with the option to mount it by.
    """
    if fcntl is None:
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | CAREFULLY, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        option = "it has to be mounted with -o flock (Lustre), or without nolock and with its lock daemon (NFS)"
        raise UserError(f"{lock.parent}: no file can be locked here ({error.strerror}); {option}") from None
    finally:
        os.close(descriptor)


def safe_lock(lock: Path) -> filelock.FileLock:
    """Return a lock that can be taken: it harms no other file, and holds. Raises as the two functions above do."""
    check(lock)
    require_flock(lock)
    return filelock.FileLock(lock)


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
