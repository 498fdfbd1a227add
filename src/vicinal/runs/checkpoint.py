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

DIGEST = 64  # hex digits of the checksum. They are the comment of the zip archive, which ``torch.load`` ignores.
END = b"PK\x05\x06"  # first bytes of the last record of a zip archive, 22 bytes that end with the length of the comment

WEIGHTS: Shape = {
    "run_id": str,
    "model": {str: Tensor},
    "best_model": {str: Tensor},
    "rows?": [ROW],
    "predictions?": {str: Tensor},
    "class_names?": [str],
}
"""Checkpoint of a completed run."""
TRAINING: Shape = {
    "run_id": str,
    "training": {
        "history?": {
            "rows": [ROW],
            "best_epoch": (whole,),
            "best_weights": {str: Tensor},
            "predictions": {str: Tensor},
        },
        "mixed_examples?": {"counts": [whole], "shown": [Tensor], "captions": list},
        "clock?": {str: number},
        "lr?": number,
        str: dict,
    },
    "wandb_id": (str,),
    "made_with": dict,
    "changed": [str],
    "seconds": number,
}
"""Checkpoint of a training that can be resumed; its parts are checked against the code when they are restored."""


def save(file: Path, content: dict[str, Any]) -> None:
    """Write ``content``, tensors and plain containers, whole or not at all. Equal contents have equal bytes."""
    buffer = io.BytesIO()
    torch.save(_plain(content), buffer)
    archive = buffer.getvalue()
    assert archive[-22:-18] == END
    archive = archive[:-2] + DIGEST.to_bytes(2, "little")
    write(file, archive + sha256(archive).encode())


def load(file: Path, shape: Shape = dict) -> dict[str, Any]:
    """Return the content, its tensors on the CPU. Raises as :func:`vicinal.runs.files.read_json` does."""
    with opened(file, largest=sys.maxsize) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - DIGEST - 22))
        last_record = stream.read()[:-DIGEST]  # first: a file of another kind may be larger than the memory
        stream.seek(0)
        data = stream.read() if last_record.startswith(END) else b""
    if not data or sha256(data[:-DIGEST]).encode() != data[-DIGEST:]:
        raise DamagedError(file, "its checksum is wrong")
    with parsing(file, "it is not a checkpoint"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(data):  # torch does not compress
                raise DamagedError(file, "it unpacks to more than it is")
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if (where := misfit(content, shape)) is not None:
            raise DamagedError(file, f"{where or 'it'} is not what was written, or another version of Vicinal wrote it")
    return content


def keep(file: Path, previous: Path) -> None:
    """Make ``previous`` the present ``file``, which may then be replaced; at no moment is ``file`` missing."""
    partial = previous.with_name(previous.name + PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:  # a file system without hard links
        shutil.copy2(file, partial)
    partial.replace(previous)


def _plain(content: Any) -> Any:
    """Return ``content`` with new containers, and one object for all equal strings, as pickle's bytes depend on that.

    It writes a repeated object as a reference; equal names of loaded weights and of the model are different objects.
    """
    if isinstance(content, str):
        return sys.intern(content)
    if isinstance(content, dict):
        plain = copy.copy(content)  # an OrderedDict and a Counter stay what they are
        plain.clear()
        plain.update({_plain(key): _plain(value) for key, value in content.items()})
        return plain
    if isinstance(content, (list, tuple)):
        return type(content)(map(_plain, content))
    return content
