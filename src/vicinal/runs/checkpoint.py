"""A checkpoint file: a plain ``torch.load``-able archive that carries its own SHA-256 and is replaced atomically."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from vicinal.runs.files import DamagedError, sha256, write

DIGEST = 64
"""Hex digits of the checksum. They are the comment of the zip archive, where ``torch.load`` does not mind them."""
END = b"PK\x05\x06"
"""Opens the last record of a zip archive, 22 bytes that end with the length of the comment."""


def save(file: Path, content: dict[str, Any]) -> None:
    """Write ``content``, tensors and plain containers: temporary file, fsync, rename. Equal contents, equal bytes.

    Raises:
        OSError: the disk is full or read-only; the file is then what it was.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    archive = buffer.getvalue()
    assert archive[-22:-18] == END
    archive = archive[:-2] + DIGEST.to_bytes(2, "little")
    write(file, archive + sha256(archive).encode())


def load(file: Path) -> dict[str, Any]:
    """The content, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what :func:`save` wrote.
    """
    data = file.read_bytes()
    if sha256(data[:-DIGEST]).encode() != data[-DIGEST:]:
        raise DamagedError("its checksum is wrong")
    content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return content


def keep(file: Path, copy: Path) -> None:
    """Let ``copy`` be what ``file`` is now, also after ``file`` is replaced; there is no moment without ``file``."""
    fresh = copy.with_name(copy.name + ".partial")
    fresh.unlink(missing_ok=True)
    try:
        os.link(file, fresh)
    except OSError:  # a file system without hard links
        shutil.copy2(file, fresh)
    fresh.replace(copy)
