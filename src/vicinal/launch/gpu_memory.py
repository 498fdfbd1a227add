"""GPU memory that the jobs of a parallel sweep share: a job starts when the memory that it will need is free.

Jobs reserve it in a small file, since memory that a job is only beginning to take still shows as free.
"""

from __future__ import annotations

import gc
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import torch
from torch import Tensor, nn

from vicinal.build import make_model, streams
from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.runs.files import DamagedError, read_json, write_json
from vicinal.runs.folder import RunFolder

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Between two looks at the memory."""
CONTEXT = 600 * 2**20
"""Bytes that CUDA itself takes per process, roughly; torch's own numbers leave them out."""
WORKSPACES = 512 * 2**20
"""Bytes of cuDNN, cuBLAS and of segments that torch fills in part: 200 MiB in a small job on an H100."""
COPIES = 6
"""Of the weights: they, their gradients, two moments, the best epoch's and the averaged ones. Few runs have all."""
SLACK = 1.3
"""Factor over the tensors that a step keeps for its backward pass: workspaces, and losses between blocks."""


@dataclass(frozen=True)
class Gpu:
    """A visible GPU and its memory in bytes."""

    uuid: str
    free: int
    total: int


@dataclass(frozen=True)
class Reservation:
    """Memory that one job has reserved.

    Attributes:
        uuid: of the GPU.
        needed: bytes.
        capacity: bytes that were free on the GPU when nothing of it was reserved.
    """

    uuid: str
    needed: int
    capacity: int


def choose(needed: int, gpus: Sequence[Gpu], reservations: Sequence[Reservation]) -> tuple[int, Reservation] | None:
    """Return the index of the GPU with the most room, and a reservation; None if the job has to wait for other jobs.

    Raises:
        UserError: nothing is reserved, and there still is no room.
    """
    rooms = []
    for gpu in gpus:
        others = [other for other in reservations if other.uuid == gpu.uuid]
        capacity = others[0].capacity if others else gpu.free
        rooms.append((min(gpu.free, capacity - sum(other.needed for other in others)), capacity))
    index = max(range(len(gpus)), key=lambda number: rooms[number])
    room, capacity = rooms[index]
    if needed <= room:
        return index, Reservation(gpus[index].uuid, needed, capacity)
    if not reservations:
        raise UserError(
            f"the job needs about {_gib(needed)} of GPU memory, but of {_gib(gpus[index].total)} only {_gib(room)} are "
            "free, and no other job will release any; a smaller trainer.batch_size needs less"
        )
    return None


class GpuReservations:
    """The reservations of all jobs of this user on this machine, whichever sweep they belong to."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir()) / f"vicinal-gpu-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._file = folder / "reservations.json"
        self._lock = filelock.FileLock(folder / "lock")

    def reserve(self, needed: int, gpus: Callable[[], Sequence[Gpu]]) -> int | None:
        """Return the index of the GPU that this process may use now; None if it has to wait."""
        with self._lock:
            reservations = self._read()
            choice = choose(needed, gpus(), list(reservations.values()))
            if choice is None:
                return None
            self._write({**reservations, os.getpid(): choice[1]})
            return choice[0]

    def release(self) -> None:
        """Take back the reservation of this process."""
        with self._lock:
            self._write({pid: reserved for pid, reserved in self._read().items() if pid != os.getpid()})

    def _write(self, reservations: dict[int, Reservation]) -> None:
        write_json(self._file, {str(pid): asdict(reserved) for pid, reserved in reservations.items()})

    def _read(self) -> dict[int, Reservation]:
        """Return the reservations of living processes: one that was killed holds nothing."""
        try:
            content = {int(pid): Reservation(**reserved) for pid, reserved in read_json(self._file).items()}
        except (OSError, DamagedError, ValueError, TypeError):
            return {}
        return {pid: reserved for pid, reserved in content.items() if _alive(pid)}


@contextmanager
def reserve(
    needed: int,
    reservations: GpuReservations | None = None,
    gpus: Callable[[], Sequence[Gpu]] | None = None,
    use: Callable[[int], None] = torch.cuda.set_device,
) -> Iterator[None]:
    """Wait until a GPU has room for the job, and use that one inside ``with``.

    Raises:
        UserError: there will never be room.
    """
    reservations, gpus = reservations or GpuReservations(), gpus or _visible
    waits = False
    empty_cache()  # of a job that has failed: its error held its memory until now
    while (index := reservations.reserve(needed, gpus)) is None:
        if not waits:
            log.info("waiting for about %s of GPU memory, which other jobs hold", _gib(needed))
            waits = True
        time.sleep(POLL_SECONDS)
    try:
        use(index)
        yield
    finally:
        empty_cache()  # else this worker keeps for its next job what a job of another worker could have
        reservations.release()


def needs(experiment: Experiment, data: ImageData) -> int:
    """Return the bytes of GPU memory that a run will take: the most of earlier runs of its cell, or an estimate."""
    known = [0]
    for file in experiment.folder.path.parent.glob(f"*-{experiment.cell_id}-s*/result.json"):
        try:  # damage is named where a result is needed
            known.append(RunFolder(file.parent).load_result().get("peak_memory") or 0)
        except (OSError, DamagedError):
            continue
    return CONTEXT + (max(known) or _estimate(experiment, data))


def _estimate(experiment: Experiment, data: ImageData) -> int:
    parts = [part for part in (data.train, data.val, data.test) if part is not None and not streams(experiment, part)]
    with torch.device("meta"):
        model = make_model(experiment).train()
        shape = (experiment.trainer.batch_size, *data.train.images.shape[1:])
        images = torch.empty(shape)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    half = 1 if experiment.hardware.precision == "fp32" else 2
    return WORKSPACES + int(
        sum(len(part.labels) * part.images[0].numel() for part in parts)
        + COPIES * weights
        + SLACK * kept_for_backward(model, images) / half
    )


def kept_for_backward(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, without weights; free on the meta device."""
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:  # a layer keeps a view of its own
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def reset_peak(device: torch.device) -> None:
    """Count :func:`peak` from here on, without the memory that earlier runs of this process have left."""
    if device.type == "cuda":
        empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> int | None:
    """Return the most bytes of GPU memory that torch has held; None on a CPU, whose memory the runs share."""
    return torch.cuda.max_memory_reserved() if device.type == "cuda" else None


def empty_cache() -> None:
    """Return to the GPU the memory that torch keeps for later."""
    gc.collect()
    torch.cuda.empty_cache()


def _visible() -> list[Gpu]:
    indices = range(torch.cuda.device_count())
    return [Gpu(str(torch.cuda.get_device_properties(i).uuid), *torch.cuda.mem_get_info(i)) for i in indices]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
