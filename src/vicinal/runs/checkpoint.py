"""A checkpoint file: a plain ``torch.load``-able archive that carries its own SHA-256 and is replaced atomically."""

from __future__ import annotations

import copy
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicinal.runs.files import PARTIAL, DamagedError, opened, parsing, sha256, write
from vicinal.runs.shapes import ROW, Shape, misfit, number, whole

DIGEST = 64
"""Hex digits of the checksum. They are the comment of the zip archive, where ``torch.load`` does not mind them."""
END = b"PK\x05\x06"
"""Opens the last record of a zip archive, 22 bytes that end with the length of the comment."""

WEIGHTS: Shape = {
    "run_id": str,
    "model": {str: Tensor},
    "best_model": {str: Tensor},
    "rows?": [ROW],
    "predictions?": {str: Tensor},
    "class_names?": [str],
}
"""Of a completed run's."""
TRAINING: Shape = {
    "run_id": str,
    "training": {
        "history?": {
            "rows": [ROW],
            "best_epoch": (whole,),
            "best_weights": {str: Tensor},
            "predictions": {str: Tensor},
        },
        "panel?": {"counts": [whole], "shown": [Tensor], "captions": list},
        "clock?": {str: number},
        "lr?": number,
        str: dict,
    },
    "wandb_id": (str,),
    "made_with": dict,
    "changed": [str],
    "seconds": number,
}
"""Of one that a training goes on from; whether the code still fits its parts is found when they are restored."""


def save(file: Path, content: dict[str, Any]) -> None:
    """Write ``content``, tensors and plain containers: temporary file, fsync, rename. Equal contents, equal bytes.

    Raises:
        OSError: the disk is full or read-only; the file is then what it was.
    """
    buffer = io.BytesIO()
    torch.save(_plain(content), buffer)
    archive = buffer.getvalue()
    assert archive[-22:-18] == END
    archive = archive[:-2] + DIGEST.to_bytes(2, "little")
    write(file, archive + sha256(archive).encode())


def load(file: Path, shape: Shape = dict) -> dict[str, Any]:
    """The content, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what :func:`save` wrote, or has not the shape.
        OSError: it cannot be read.
    """
    with opened(file, largest=sys.maxsize) as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - DIGEST - 22))
        end = stream.read()  # first: a file of another kind may be larger than the memory
        if len(end) != DIGEST + 22 or not end.startswith(END):
            raise DamagedError(file, "its checksum is wrong")
        stream.seek(0)
        data = stream.read()
    if sha256(data[:-DIGEST]).encode() != data[-DIGEST:]:
        raise DamagedError(file, "its checksum is wrong")
    with parsing(file, "it is not a checkpoint"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(data):
                raise DamagedError(file, "it unpacks to more than it is")
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if (where := misfit(content, shape)) is not None:
            raise DamagedError(file, f"{where or 'it'} is not what was written, or another version of Vicinal wrote it")
    return content


def keep(file: Path, previous: Path) -> None:
    """Let ``previous`` be what ``file`` is now, also when that is replaced; there is no moment without ``file``."""
    fresh = previous.with_name(previous.name + PARTIAL)
    fresh.unlink(missing_ok=True)
    try:
        os.link(file, fresh)
    except OSError:  # a file system without hard links
        shutil.copy2(file, fresh)
    fresh.replace(previous)


def _plain(content: Any) -> Any:
    """``content`` with one object for equal strings, and one each for containers.

    Pickle writes an object that comes up again as a reference, so that the bytes would tell which strings are the same
    object: the names in weights that were loaded are others than the names in those of the model itself.
    """
    if isinstance(content, str):
        return sys.intern(content)
    if isinstance(content, dict):
        fresh = copy.copy(content)  # an OrderedDict and a Counter stay what they are
        fresh.clear()
        fresh.update({_plain(key): _plain(value) for key, value in content.items()})
        return fresh
    if isinstance(content, (list, tuple)):
        return type(content)(map(_plain, content))
    return content
