"""The file in which the trials of a search are recorded, a line each, by processes that may be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vicinal.errors import UserError, first_line
from vicinal.runs.files import check_kind
from vicinal.runs.locks import safe_lock

JOURNAL = "study.log"  # file in the folder of a search


def storage(folder: Path) -> Any:
    """Return Optuna's storage in the folder of a search. Raises DamagedError: its file is a link or a pipe, say."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = folder / JOURNAL
    with suppress(FileNotFoundError):
        check_kind(file)
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
        self._file, self._lock = file, safe_lock(file.with_suffix(".writing.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        with suppress(FileNotFoundError), self._file.open("r+b") as journal:
            if end := journal.seek(0, 2):
                journal.seek(end - 1)
                if journal.read() != b"\n":
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()
