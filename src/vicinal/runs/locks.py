"""Looking at a lock without taking it."""

from pathlib import Path

import filelock


def held(lock: Path) -> bool:
    """Whether a process has the lock of that file."""
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # not ours to lock: a read-only folder, in which nobody works
        return False
