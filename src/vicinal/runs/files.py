"""Files that are there whole or not at all, and that say when they are no longer what was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""Suffix of a file that is being written."""


class DamagedError(Exception):
    """A file is not what was written; the text says in which way, to follow the file's name."""


def write(file: Path, data: bytes, durable: bool = True) -> None:
    """Write so that ``file`` holds either what it held before or all of ``data``.

    Args:
        file: to write.
        data: its content.
        durable: even if the machine stops, for which the disk has to be waited for.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")  # two processes may write the same file
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        error.filename = str(file)  # a full disk does not say what it had no room for
        partial.unlink(missing_ok=True)  # half a file would only make it fuller
        raise
    if durable:
        sync(file.parent)


def read(file: Path) -> bytes:
    """The content.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is a folder.
    """
    try:
        return file.read_bytes()
    except IsADirectoryError:
        raise DamagedError("it is a folder") from None


def sync(folder: Path) -> None:
    """Bring to the disk which names a folder holds; where folders cannot be opened (Windows) that is done already."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Readable JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write(file, encode_json(content))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
