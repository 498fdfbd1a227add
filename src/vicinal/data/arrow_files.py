"""Columns of parquet and arrow files, read in pieces. Errors of a file are ValueErrors that begin with ``path``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vicinal.errors import first_line

PARQUET, ARROW = ENDINGS = (".parquet", ".arrow")


def schema_of(file: Path) -> Any:
    """Return the schema of a file."""
    with _reading(file):
        if file.suffix == PARQUET:
            import pyarrow.parquet as pq

            return pq.read_schema(file)
        return _opened(file).schema


def count_rows(file: Path) -> int:
    """Return how many rows a file has."""
    with _reading(file):
        if file.suffix == PARQUET:
            import pyarrow.parquet as pq

            return int(pq.read_metadata(file).num_rows)
        return sum(batch.num_rows for batch in _batches(file))


def read_column(file: Path, name: str, rows: int) -> Iterator[Any]:
    """Yield a column in pieces: of at most `rows` from a parquet file, and as they lie in an arrow file."""
    with _reading(file):
        if file.suffix == PARQUET:
            import pyarrow.parquet as pq

            with pq.ParquetFile(file, pre_buffer=False) as opened:
                for batch in opened.iter_batches(rows, columns=[name]):
                    yield batch.column(name)
        else:
            for batch in _batches(file):
                yield batch.column(name)


def _batches(file: Path) -> Iterator[Any]:
    opened = _opened(file)
    if hasattr(opened, "num_record_batches"):
        yield from (opened.get_batch(number) for number in range(opened.num_record_batches))
    else:
        yield from opened


def _opened(file: Path) -> Any:
    """Open an arrow file, mapped into memory: a stream as ``datasets`` writes it, or one with an index."""
    import pyarrow as pa

    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def bytes_of(column: Any) -> Any:
    """Return the bytes of a column of images."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def kind_of(column: Any) -> str:
    """Return what a column of a type has: "numbers", "texts", "bytes" (perhaps in a struct), or the type's name."""
    import pyarrow as pa

    kinds = pa.types
    if kinds.is_struct(column):
        inside = column.get_field_index("bytes")
        return kind_of(column.field(inside).type) if inside >= 0 else str(column)
    if kinds.is_dictionary(column):
        column = column.value_type
    if kinds.is_integer(column):
        return "numbers"
    if kinds.is_string(column) or kinds.is_large_string(column):
        return "texts"
    return "bytes" if kinds.is_binary(column) or kinds.is_large_binary(column) else str(column)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file that cannot be read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"path: {file} cannot be read ({first_line(error)})") from error
