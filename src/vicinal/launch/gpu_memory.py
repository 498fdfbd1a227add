"""GPU memory that the jobs of a parallel sweep share: one starts when what it will need is free.

Jobs say what they need in a small file, since what a job has only begun to take does not show in what is free.
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

WAIT_SECONDS = 2.0
"""Between two looks at the memory."""
CONTEXT = 600 * 2**20
"""Bytes that CUDA itself takes in a process, roughly; torch's own numbers leave them out."""
WORKSPACES = 512 * 2**20
"""Bytes of cuDNN's and cuBLAS's, and of segments that torch fills in part: 200 MiB in a small job on an H100."""
COPIES = 6
"""Of the weights: they, their gradients, two moments, the best epoch's and the averaged ones. Few runs have all."""
SLACK = 1.3
"""Over the tensors that a step keeps for its backward pass: workspaces, and what is lost between blocks."""


@dataclass(frozen=True)
class Gpu:
    """One that can be seen, in bytes."""

    uuid: str
    free: int
    total: int


@dataclass(frozen=True)
class Reservation:
    """What one job has said it needs.

    Attributes:
        uuid: of the GPU.
        needed: bytes.
        capacity: bytes that were free on the GPU when no job had claimed any of it.
    """

    uuid: str
    needed: int
    capacity: int


def choose(needed: int, gpus: Sequence[Gpu], reservations: Sequence[Reservation]) -> tuple[int, Reservation] | None:
    """The GPU with the most room for a job, and its claim; None if it has to wait for other jobs to end.

    Raises:
        UserError: no job has claimed anything, and there still is no room.
    """
    rooms = []
    for gpu in gpus:
        others = [claim for claim in reservations if claim.uuid == gpu.uuid]
        capacity = others[0].capacity if others else gpu.free
        rooms.append((min(gpu.free, capacity - sum(claim.needed for claim in others)), capacity))
    index = max(range(len(gpus)), key=lambda each: rooms[each][0])
    room, capacity = rooms[index]
    if needed <= room:
        return index, Reservation(gpus[index].uuid, needed, capacity)
    if not reservations:
        raise UserError(
            f"the job needs about {_gib(needed)} of GPU memory, but of {_gib(gpus[index].total)} only {_gib(room)} are "
            "free, and no other job will give any back; a smaller trainer.batch_size needs less"
        )
    return None


class GpuReservations:
    """The reservations of all jobs of this user on this machine, whichever sweep they belong to."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"vicinal-gpu-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file = self._folder / "reservations.json"
        self._lock = filelock.FileLock(self._folder / "lock")

    def reserve(self, needed: int, gpus: Callable[[], Sequence[Gpu]]) -> int | None:
        """The index of the GPU that this process may use now; None if it has to wait."""
        with self._lock:
            reservations = self._read()
            found = choose(needed, gpus(), list(reservations.values()))
            if found is None:
                return None
            write_json(
                self._file, {str(pid): asdict(each) for pid, each in {**reservations, os.getpid(): found[1]}.items()}
            )
            return found[0]

    def release(self) -> None:
        """Take back the claim of this process."""
        with self._lock:
            write_json(self._file, {str(pid): asdict(each) for pid, each in self._read().items() if pid != os.getpid()})

    def _read(self) -> dict[int, Reservation]:
        """Of processes that are there: one that was killed holds nothing."""
        try:
            content = read_json(self._file)
            found = {int(pid): Reservation(**each) for pid, each in content.items()}
        except (OSError, DamagedError, ValueError, TypeError):
            return {}
        return {pid: claim for pid, claim in found.items() if _alive(pid)}


@contextmanager
def reserve(
    needed: int,
    reservations: GpuReservations | None = None,
    gpus: Callable[[], Sequence[Gpu]] | None = None,
    use: Callable[[int], None] = torch.cuda.set_device,
) -> Iterator[None]:
    """Wait until a GPU has room for the job, and use that one inside.

    Raises:
        UserError: there will never be.
    """
    reservations, gpus = reservations or GpuReservations(), gpus or _visible
    waited = False
    _give_back()  # of a job that has failed: its error held its memory until now
    while (index := reservations.reserve(needed, gpus)) is None:
        if not waited:
            log.info("waiting for about %s of GPU memory, which other jobs hold", _gib(needed))
            waited = True
        time.sleep(WAIT_SECONDS)
    try:
        use(index)
        yield
    finally:
        _give_back()  # else this worker keeps for its next job what another one's job could have
        reservations.release()


def needs(experiment: Experiment, data: ImageData) -> int:
    """Bytes of GPU memory that a run will take: what runs of its cell have taken at most, else an estimate."""
    known = []
    for file in experiment.folder.path.parent.glob(f"*-{experiment.cell_id}-s*/result.json"):
        try:  # damage is named where a result is needed; this can do without
            known.append(RunFolder(file.parent).load_result().get("peak_memory") or 0)
        except (OSError, DamagedError):
            continue
    return CONTEXT + (max(known, default=0) or _estimate(experiment, data))


def _estimate(experiment: Experiment, data: ImageData) -> int:
    parts = [part for part in (data.train, data.val, data.test) if part is not None and not streams(experiment, part)]
    with torch.device("meta"):
        model = make_model(experiment).train()
        shape = (experiment.trainer.batch_size, *data.train.images.shape[1:])
        images = torch.empty(shape)
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    half = 1 if experiment.hardware.precision == "fp32" else 2
    return WORKSPACES + int(
        sum(len(part.labels) * part.images[0].numel() for part in parts)
        + COPIES * weights
        + SLACK * kept_for_backward(model, images) / half
    )


def kept_for_backward(model: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass keeps for its backward pass, weights left out; on the meta device it costs nothing."""
    weights = {each.untyped_storage()._cdata for each in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:  # a layer keeps a view of its own
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)
        output.sum()
    return sum(each.untyped_storage().nbytes() for each in kept.values())


def reset_peak(device: torch.device) -> None:
    """Count :func:`peak` from here on, without what earlier runs of this process have left."""
    if device.type == "cuda":
        _give_back()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> int | None:
    """Bytes that torch has held of the GPU's memory at most; None on a CPU, where a process's runs share memory."""
    return torch.cuda.max_memory_reserved() if device.type == "cuda" else None


def _give_back() -> None:
    """To the GPU, what torch keeps of it for later."""
    gc.collect()
    torch.cuda.empty_cache()


def _visible() -> list[Gpu]:
    count = torch.cuda.device_count()
    found = [
        (str(torch.cuda.get_device_properties(index).uuid), torch.cuda.mem_get_info(index)) for index in range(count)
    ]
    return [Gpu(uuid, free, total) for uuid, (free, total) in found]


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
