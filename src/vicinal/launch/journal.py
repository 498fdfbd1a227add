"""The file in which the trials of a search are recorded, a line each, by processes that may be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from vicinal.errors import UserError, first_line

JOURNAL = "study.log"  # file in the folder of a search


def storage(folder: Path) -> Any:
    """Return Optuna's storage in the folder of a search."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = folder / JOURNAL
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_Lock(file)))  # type: ignore[arg-type] # has its methods


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Inside, say in a line that the journal cannot be read. Raises UserError."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        way = "moved away, the search begins again and uses the runs that are completed"
        raise UserError(f"{folder / JOURNAL} is damaged ({first_line(error)}); {way}") from error


class _Lock:
    """The lock of a journal: free when its process has died, and half a line that a killed process left is cut."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, filelock.FileLock(file.with_suffix(".writing.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        with suppress(FileNotFoundError), self._file.open("r+b") as journal:
            end = journal.seek(0, 2)
            start = max(0, end - 2**20)
            journal.seek(start)
            tail = journal.read()
            if tail and not tail.endswith(b"\n"):
                journal.truncate(start + tail.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()
