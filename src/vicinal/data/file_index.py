"""Files that are made once, and an index with their checksums, which are compared when a file is new or has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from vicinal.data.contents import stamp
from vicinal.errors import first_line
from vicinal.utils.checked_json import read_checked, write_checked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileIndex:
    """Sizes, times and checksums of some files, written when they are whole.

    A file whose size, times and inode are those of the index is not read again, so what a disk loses without a write is
    not noticed.

    Args:
        place: of the index.
        files: by their names.
        chunk: bytes per checksum.
        what: the files, for messages.
    """

    place: Path
    files: Mapping[str, Path]
    chunk: int
    what: Path

    def load(self, say: Callable[..., None] = log.warning) -> Any:
        """Return the note; None if the files are not there, not whole or damaged, which is said."""
        try:
            content = read_checked(self.place)
            stamps, checksums, note = (content[key] for key in ("stamps", "checksums", "note"))
            changed = [name for name, file in self.files.items() if stamps[name] != stamp(file.stat())]
            for name in changed:
                self._compare(self.files[name], stamps[name][0], checksums[name])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            say("%s is damaged and is made again (%s)", self.what, first_line(error))
            return None
        if changed:
            with suppress(OSError):  # another user's folder is checked by each process
                self.write(note, checksums)
        return note

    def write(self, note: Any, checksums: Mapping[str, Sequence[int]] | None = None) -> None:
        """Write the index, with checksums that are known, or of the files. Raises OSError.

        Args:
            note: anything but None that JSON can hold.
            checksums: of the chunks of each file.
        """
        if checksums is None:
            checksums = {name: list(map(crc32, self._chunks(file))) for name, file in self.files.items()}
        stamps = {name: stamp(file.stat()) for name, file in self.files.items()}
        write_checked(self.place, {"stamps": stamps, "checksums": checksums, "note": note})

    def _compare(self, file: Path, size: int, checksums: Sequence[int]) -> None:
        if (found := file.stat().st_size) != size:
            raise ValueError(f"{file.name} has {found} bytes instead of {size}")
        for number, (chunk, expected) in enumerate(zip(self._chunks(file), checksums, strict=True)):
            if crc32(chunk) != expected:
                raise ValueError(f"wrong checksum in {file.name}, {self.chunk} bytes from {number * self.chunk}")

    def _chunks(self, file: Path) -> Iterator[bytes]:
        with file.open("rb") as stream:
            yield from iter(lambda: stream.read(self.chunk), b"")
