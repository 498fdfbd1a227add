"""Copies of images on a disk of this machine, for data that lie on a file system that is shared and slow."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.encoded import Encoded
from vicinal.data.row_files import Make, RowFiles, Stored
from vicinal.errors import first_line


class Pack:
    """Encoded images one after the other in one file that is mapped into memory.

    Args:
        images: that are in it, for their names.
        content: bytes of the file, (N,) uint8.
        ends: of each image in it.
    """

    def __init__(self, images: Encoded, content: Tensor, ends: list[int]) -> None:
        self._images, self._content, self._ends = images, content.numpy(), ends

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, number: int) -> str:
        return self._images.name(number)

    def size(self, number: int) -> int:
        return self._ends[number] - self._start(number)

    def file(self, number: int) -> io.BytesIO:
        return io.BytesIO(self._content[self._start(number) : self._ends[number]].tobytes())

    def _start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0


def staged_rows(files: RowFiles, original: Callable[[], Stored], threads: int) -> Stored:
    """Return the rows of these files, a copy of the ``original``, which is looked at if they are not there yet.

    Raises ValueError: they cannot be written.
    """
    if (stored := files.load()) is not None:
        return stored
    source = original()

    def make(part: str, start: int, stop: int) -> tuple[NDArray[np.uint8], bool]:
        return source.rows[part][start:stop].numpy(), True

    return _copied(files, make, lambda: source.note, threads)


def staged_images(folder: Path, encoded: Mapping[str, Encoded], what: str, threads: int) -> dict[str, Encoded]:
    """Return encoded images of each part in packs, which are written to a folder if they are not there yet.

    Raises ValueError: they cannot be written, or an image cannot be read.
    """
    ends = {part: [*accumulate(map(images.size, range(len(images))))] for part, images in encoded.items()}
    files = RowFiles(folder, {part: of[-1] if of else 0 for part, of in ends.items()}, (), what)

    def make(part: str, start: int, stop: int) -> tuple[NDArray[np.uint8], bool]:
        first, last = bisect_right(ends[part], start), bisect_right(ends[part], stop - 1)
        begin = ends[part][first - 1] if first else 0
        content = b"".join(_bytes(encoded[part], number) for number in range(first, last + 1))
        return np.frombuffer(content, np.uint8)[start - begin : stop - begin], True

    stored = files.load() or _copied(files, make, lambda: True, threads)
    return {part: Pack(images, stored.rows[part], ends[part]) for part, images in encoded.items()}


def _bytes(images: Encoded, number: int) -> bytes:
    """Return an image as it is encoded. Raises ValueError: it is not as large as it was."""
    file = images.file(number)
    content = file.read() if isinstance(file, io.BytesIO) else Path(str(file)).read_bytes()
    if len(content) != images.size(number):
        raise ValueError(f"{images.name(number)} has changed while it was copied")
    return content


def _copied(files: RowFiles, make: Make, note: Callable[[], Any], threads: int) -> Stored:
    try:
        return files.make(make, note, threads)
    except OSError as error:
        raise ValueError(f"stage_to: the images cannot be copied there ({first_line(error)})") from error
