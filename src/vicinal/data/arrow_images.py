"""Images with a label each in parquet and arrow files, as data sets of the Hugging Face Hub have them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vicinal.data.arrow_files import ARROW, bytes_of, count_rows, kind_of, read_column, schema_of
from vicinal.data.file_index import FileIndex
from vicinal.data.row_files import CHUNK_BYTES, SAY_SECONDS
from vicinal.errors import suggest

log = logging.getLogger(__name__)

ROWS = 64  # images that are read at a time: one may have megabytes
LABELS = 2**16  # labels that are
EMBED = "rows must have the images themselves, as push_to_hub writes them"


@dataclass(frozen=True)
class Table:
    """The rows of some files one after the other, with a column of images and one of labels.

    Raises ValueError, with the name of the argument first: a column is not there or of another kind, or a file cannot
    be read.

    Args:
        files: parquet or arrow, with the same columns.
        image: column of the bytes of the images.
        label: column of whole numbers or texts.
    """

    files: tuple[Path, ...]
    image: str
    label: str

    def __post_init__(self) -> None:
        for file in self.files:
            schema = schema_of(file)
            for key, name in (("image", self.image), ("label", self.label)):
                if name not in schema.names:
                    raise ValueError(f"{key}: {file.name} has no such column; {suggest(name, schema.names)}")
            if (found := kind_of(schema.field(self.label).type)) not in ("numbers", "texts"):
                raise ValueError(f"label: the column must have whole numbers or texts, and {file.name} has {found}")
            if (found := kind_of(schema.field(self.image).type)) == "texts":
                raise ValueError(f"image: {file.name} has paths and no bytes; {EMBED}")
            if found != "bytes":
                raise ValueError(f"image: the column must have the bytes of images, and {file.name} has {found}")

    @cached_property
    def counts(self) -> list[int]:
        """Rows of each file."""
        return [count_rows(file) for file in self.files]

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes that the files declare, as ``ClassLabel`` of ``datasets``; None if there are none.

        Raises ValueError: they declare different ones.
        """
        first: tuple[Path, tuple[str, ...]] | None = None
        for file in self.files:
            if names := _declared(file, self.label):
                first = first or (file, names)
                if names != first[1]:
                    shown = ", ".join(names)
                    raise ValueError(f"label: the classes of {file.name} are not those of {first[0].name}: {shown}")
        return first and first[1]

    @cached_property
    def labels(self) -> NDArray[Any]:
        """The label of each row, (N,) int64 or of texts. Raises ValueError: a row has none."""
        found: list[NDArray[Any]] = []
        for file in self.files:
            start = 0
            for column in read_column(file, self.label, LABELS):
                if column.null_count:
                    row = start + column.is_null().to_pylist().index(True)
                    raise ValueError(f"label: row {row} of {file} has no label")
                found.append(_labels(column))
                start += len(column)
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def name(self, number: int) -> str:
        """Return what a row is called in messages; rows of a file are counted from 0."""
        place = bisect_right(self._ends, number)
        return f"row {number - self._ends[place] + self.counts[place]} of {self.files[place]}"

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.counts))

    def images(self) -> Iterator[Any]:
        """Yield the bytes of each image, a buffer. Raises ValueError: a row has none."""
        number = 0
        for file in self.files:
            for column in read_column(file, self.image, ROWS):
                for value in bytes_of(column):
                    if not value.is_valid:
                        raise ValueError(f"image: {self.name(number)} has no bytes; {EMBED}")
                    yield value.as_buffer()
                    number += 1

    @cached_property
    def contents(self) -> list[str]:
        """The SHA-256 of each image."""
        return [hashlib.sha256(image).hexdigest() for image in self.images()]

    def sha256(self) -> str:
        """Return a hash of labels and images in their order, the same in whatever files they are."""
        digest = hashlib.sha256()
        for label, content in zip(self.labels.tolist(), self.contents, strict=True):
            digest.update(f"{label} {content} ".encode())
        return digest.hexdigest()


class TableImages:
    """The images of a table in their order, in files that are mapped into memory.

    Parquet is compressed in blocks, so its images are copied once into an arrow file.

    Args:
        table: of the images.
        copy: file for the images of parquet files; named by a hash of all that they depend on. Raises OSError if it
            cannot be written.
    """

    def __init__(self, table: Table, copy: Path) -> None:
        self._table = table
        if all(file.suffix == ARROW for file in table.files):
            self._chunks = [bytes_of(chunk) for file in table.files for chunk in read_column(file, table.image, ROWS)]
        else:
            self._chunks = _copied(table, copy)
        self._ends = list(accumulate(map(len, self._chunks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def name(self, number: int) -> str:
        return self._table.name(number)

    def size(self, number: int) -> int:
        return self._buffer(number).size  # type: ignore[no-any-return]

    def file(self, number: int) -> io.BytesIO:
        return io.BytesIO(self._buffer(number))

    def _buffer(self, number: int) -> Any:
        place = bisect_right(self._ends, number)
        value = self._chunks[place][number - self._ends[place]]  # counted from the end
        if not value.is_valid:
            raise ValueError(f"{self.name(number)} has no bytes")
        return value.as_buffer()


def _copied(table: Table, copy: Path) -> list[Any]:
    """Return the images in the copy, which one process makes if it is not there or damaged; others wait for it."""
    index = FileIndex(copy.with_suffix(".json"), {"images": copy}, CHUNK_BYTES, copy)
    if index.load() is None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock")):
            if index.load(log.debug) is None:
                _copy(table, copy)
                index.write(sum(table.counts))
    return [*read_column(copy, "bytes", ROWS)]


def _copy(table: Table, target: Path) -> None:
    """Write the bytes of the images into an arrow file."""
    log.info("copying the %d images of %s, once, to %s", sum(table.counts), table.files[0].parent, target)
    partial = target.with_suffix(".tmp")
    try:
        with partial.open("wb") as stream:
            _write(table, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)  # what others have mapped into memory stays as it is
    finally:
        partial.unlink(missing_ok=True)


def _write(table: Table, stream: BinaryIO) -> None:
    import pyarrow as pa

    schema, said = pa.schema([("bytes", pa.binary())]), time.monotonic()
    images, done = table.images(), 0
    with pa.ipc.new_file(stream, schema) as writer:
        while rows := [image.to_pybytes() for image in islice(images, ROWS)]:
            writer.write_batch(pa.record_batch([pa.array(rows, pa.binary())], schema=schema))
            done += len(rows)
            if time.monotonic() > said + SAY_SECONDS:
                said = time.monotonic()
                log.info("copying the images: %.0f %%", 100 * done / sum(table.counts))


def _declared(file: Path, label: str) -> tuple[str, ...] | None:
    """Return the names of the classes that a file declares."""
    metadata = (schema_of(file).metadata or {}).get(b"huggingface", b"{}")
    try:
        feature = json.loads(metadata)["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (ValueError, KeyError, TypeError):
        return None
    return None if names is None else tuple(map(str, names))


def _labels(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
    return np.array(column.to_pylist(), dtype=np.str_)
