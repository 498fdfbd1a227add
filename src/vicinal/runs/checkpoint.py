"""A checkpoint file: a plain ``torch.load``-able archive that carries its own SHA-256 and is replaced atomically."""

from __future__ import annotations

import copy
import io
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
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


def copied(content: dict[str, Any]) -> dict[str, Any]:
    """Return ``content`` as it is now, all tensors in new memory of the host, to be saved while training goes on.

    What is loaded from the file is the same, whatever is in it: tensors that share memory do so in the copy. On a CPU
    its bytes are too; of a GPU's tensors torch writes the device as well. From a GPU, all are copied to pinned memory
    before one of them is waited for; torch keeps that memory.
    """
    result: dict[str, Any] = _plain(content, _Copies())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return result


class _Copies:
    """Copy tensors to the host: each once, and the memory that several of them share once."""

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}
        self._memory: dict[int, torch.UntypedStorage] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Tensor) and id(value) not in self._tensors:
            self._tensors[id(value)] = self._copy(value)
        return self._tensors.get(id(value), value)

    def _copy(self, value: Tensor) -> Tensor:
        stored = value.untyped_storage()
        if (memory := self._memory.get(stored._cdata)) is None:
            room = torch.empty(stored.nbytes(), dtype=torch.uint8, pin_memory=value.is_cuda)
            memory = room.untyped_storage().copy_(stored, non_blocking=value.is_cuda)
            self._memory[stored._cdata] = memory
        return value.new_empty(0, device="cpu").set_(memory, value.storage_offset(), value.shape, value.stride())


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


def _plain(content: Any, leaf: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return ``content`` with new containers, and one object for all equal strings, as pickle's bytes depend on that.

    It writes a repeated object as a reference; equal names of loaded weights and of the model are different objects.
    All else is what ``leaf`` returns.
    """
    if isinstance(content, str):
        return sys.intern(content)
    if isinstance(content, dict):
        plain = copy.copy(content)  # an OrderedDict and a Counter stay what they are
        plain.clear()
        plain.update({_plain(key): _plain(value, leaf) for key, value in content.items()})
        return plain
    if isinstance(content, (list, tuple)):
        return type(content)(_plain(value, leaf) for value in content)
    return leaf(content)
