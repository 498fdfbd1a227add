"""Rows of bytes that are made once, kept in files, and mapped into the memory of all processes that read them."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.file_index import FileIndex
from vicinal.utils.durations import duration

log = logging.getLogger(__name__)

CHUNK_BYTES = 2**23  # of rows that are made, and checked, at a time
SAY_SECONDS = 5.0  # between two lines about the progress

Make = Callable[[str, int, int], tuple[NDArray[np.uint8], bool]]
"""Returns the rows [start, stop) of a part, (n, ...) uint8, and whether they are final: else they are made again."""


class Stored(NamedTuple):
    """What lies in the files."""

    rows: dict[str, Tensor]  # (N, ...) uint8 of each part; memory is taken by what is read alone
    note: Any  # what was found when they were made; not None


@dataclass(frozen=True)
class RowFiles:
    """A folder with one file of rows per part, and an index that is written when they are whole.

    What a killed process has made is kept, and the next one goes on. Rows are checked by a checksum per chunk once, and
    again where size, times or inode of a file have changed.

    Args:
        folder: of the files; another kind of rows needs another folder.
        counts: rows of each part.
        shape: of a row.
        what: the rows, for messages.
    """

    folder: Path
    counts: Mapping[str, int]
    shape: tuple[int, ...]
    what: str

    @cached_property
    def bytes(self) -> int:
        """Size of all rows."""
        return sum(self.counts.values()) * prod(self.shape)

    def missing(self) -> int:
        """Return the bytes that the disk does not have yet: a killed process may have written some."""
        written = 0
        for part in self.counts:
            with suppress(OSError):
                written += self.file(part).stat().st_blocks * 512
        return max(0, self.bytes - written)

    def free(self) -> int:
        """Return the free bytes of the disk that the folder is, or will be, on."""
        existing = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        return shutil.disk_usage(existing).free

    def _check_disk(self) -> None:
        """Raise OSError if the disk has no room for the rows."""
        if (free := self.free()) < (missing := self.missing()):
            raise OSError(f"{missing / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free")

    @property
    def _chunk(self) -> int:
        return max(1, CHUNK_BYTES // prod(self.shape))

    def file(self, part: str) -> Path:
        return self.folder / f"{part}.u8"

    def load(self) -> Stored | None:
        """Return what is stored; None if the files are not there, not whole or damaged, which is logged."""
        return self._load(log.warning)

    @property
    def _index(self) -> FileIndex:
        files = {part: self.file(part) for part in self.counts}
        return FileIndex(self.folder / "index.json", files, self._chunk * prod(self.shape), self.folder)

    def _load(self, say: Callable[..., None]) -> Stored | None:
        note = self._index.load(say)
        return None if note is None else self._stored(note)

    def _stored(self, note: Any) -> Stored:
        rows = {}
        for part, count in self.counts.items():
            flat = torch.from_file(str(self.file(part)), shared=False, size=count * prod(self.shape), dtype=torch.uint8)
            rows[part] = flat.view(count, *self.shape)
        return Stored(rows, note)

    def make(self, make: Make, note: Callable[[], Any], threads: int) -> Stored:
        """Make the rows, by several threads, and return them; one process does, and others wait for it.

        Raises OSError: they cannot be written, or the disk has no room. What `make` raises is raised, and the folder is
        removed then.
        """
        self._check_disk()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if (stored := self._load(log.debug)) is not None:
                return stored
            self._index.place.unlink(missing_ok=True)
            try:
                checksums = self._write(make, threads)
            except (ValueError, OSError):
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
            content = note()
            self._index.write(content, checksums)
            for part in self.counts:
                self._progress_file(part).unlink(missing_ok=True)
            return self._stored(content)

    def progress(self) -> float:
        """Return which share of the rows is made."""
        done = chunks = 0
        for part, count in self.counts.items():
            chunks += -(-count // self._chunk)
            with suppress(OSError):
                done += int((np.fromfile(self._progress_file(part), dtype=np.int64) != 0).sum())
        return done / chunks

    def _alone(self) -> FileLock:
        lock = FileLock(self.folder / "lock")
        while True:
            try:
                lock.acquire(timeout=SAY_SECONDS)
            except Timeout:
                log.info("waiting for another process, which makes %s: %.0f %%", self.what, 100 * self.progress())
            else:
                return lock

    def _progress_file(self, part: str) -> Path:
        return self.folder / f"{part}.made"

    def _write(self, make: Make, threads: int) -> dict[str, list[int]]:
        """Write the rows that are not there yet, and return the checksums of each part's chunks."""
        checksums = {}
        begun, said, total = time.monotonic(), time.monotonic(), sum(self.counts.values())
        made = 0
        with ThreadPoolExecutor(threads) as pool:
            for part, count in self.counts.items():
                starts = range(0, count, self._chunk)
                files, size = (self.file(part), self._progress_file(part)), count * prod(self.shape)
                with closing(_Part(*files, size, len(starts))) as writer:

                    def chunk(number: int, part: str = part, count: int = count, writer: _Part = writer) -> int:
                        start, stop = number * self._chunk, min((number + 1) * self._chunk, count)
                        offset, size = start * prod(self.shape), (stop - start) * prod(self.shape)
                        if not writer.has(number, offset, size):
                            writer.write(number, offset, *make(part, start, stop))
                        return stop - start

                    for rows in pool.map(chunk, range(len(starts))):
                        made += rows
                        if time.monotonic() > said + SAY_SECONDS:
                            said = time.monotonic()
                            left = (said - begun) / made * (total - made)
                            log.info("%s: %.0f %%, %s left", self.what, 100 * made / total, duration(left))
                    checksums[part] = writer.finished()
        return checksums


class _Part:
    """A file of rows while it is written, and beside it the checksum of each chunk that is there, plus one; else 0."""

    def __init__(self, file: Path, progress: Path, size: int, chunks: int) -> None:
        # Written at an offset and not through mapped memory: a full disk is then an error, and not the process's end.
        self._rows = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._done = os.open(progress, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._rows, size)
        os.ftruncate(self._done, 8 * chunks)
        self._recorded = np.frombuffer(os.pread(self._done, 8 * chunks, 0), dtype=np.int64)
        self._checksums = np.zeros(chunks, dtype=np.int64)

    def has(self, number: int, offset: int, size: int) -> bool:
        """Return whether a chunk was written by an earlier process, and is undamaged."""
        if not self._recorded[number] or crc32(os.pread(self._rows, size, offset)) + 1 != self._recorded[number]:
            return False
        self._checksums[number] = self._recorded[number] - 1
        return True

    def write(self, number: int, offset: int, rows: NDArray[np.uint8], final: bool) -> None:
        data = rows.tobytes()
        self._checksums[number] = crc32(data)
        if os.pwrite(self._rows, data, offset) < len(data):
            raise OSError("the disk is full")
        if final:
            os.pwrite(self._done, (self._checksums[number] + 1).tobytes(), 8 * number)

    def finished(self) -> list[int]:
        """Bring all to the disk, and return the checksums."""
        os.fsync(self._rows)
        checksums: list[int] = self._checksums.tolist()
        return checksums

    def close(self) -> None:
        os.close(self._rows)
        os.close(self._done)
