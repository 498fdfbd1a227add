"""GPU memory that the jobs of a parallel sweep share: a job starts when the memory that it needs is free.

Memory that a job is only beginning to take still shows as free. So each job locks files that stand for parts of a GPU's
memory. The system releases the locks of a process that was killed.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.locks import held

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0  # time between two attempts to reserve memory
CONTEXT = 600 * 2**20  # bytes that CUDA itself takes per process, roughly; torch's own numbers leave them out
PARTS = 64  # parts of a GPU's memory, each with a file to lock


@dataclass(frozen=True)
class Gpu:
    """A visible GPU and its memory in bytes."""

    uuid: str
    free: int
    total: int


@contextmanager
def reserve(peak: int, jobs: int) -> Iterator[None]:
    """Wait until a GPU has room for one of ``jobs`` jobs at once, and use that GPU inside ``with``.

    The job needs ``peak`` bytes; 0 is unknown, and stands for an equal share of a GPU. Raises UserError if there is no
    room although no other job holds memory.
    """
    # One folder for all jobs of this user on this machine, whichever sweep they belong to.
    folder = Path(tempfile.gettempdir()) / f"vicinal-gpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waits = False
    empty_cache()  # of a job that has failed: its error held its memory until now
    while (choice := _take(peak, jobs, folder, visible())) is None:
        if not waits:
            amount = f"about {_gib(peak)}" if peak else "a share"
            log.info("waiting for %s of GPU memory, which other jobs hold", amount)
            waits = True
        time.sleep(POLL_SECONDS)
    index, locks = choice
    with locks:
        try:
            torch.cuda.set_device(index)
            yield
        finally:
            empty_cache()  # else this worker keeps for its next job what a job of another worker could have


def _take(peak: int, jobs: int, folder: Path, gpus: Sequence[Gpu]) -> tuple[int, ExitStack] | None:
    """Lock parts of the GPU with the most room; return its index and the locks, or None if there are too few parts."""
    with filelock.FileLock(folder / "lock"):  # one job at a time chooses
        files = [[folder / f"{gpu.uuid}-{part}" for part in range(PARTS)] for gpu in gpus]
        unlocked = [[file for file in parts if not held(file)] for parts in files]
        room = [min(gpu.free, gpu.total * len(parts) // PARTS) for gpu, parts in zip(gpus, unlocked, strict=True)]
        index = max(range(len(gpus)), key=lambda number: room[number])
        share = max(1, PARTS // math.ceil(jobs / len(gpus)))
        needed = math.ceil(PARTS * peak / gpus[index].total) or share
        if needed <= len(unlocked[index]) and peak <= gpus[index].free:
            locks = ExitStack()
            for file in unlocked[index][:needed]:
                locks.enter_context(filelock.FileLock(file))
            return index, locks
    if unlocked == files:
        raise UserError(
            f"the job needs about {_gib(peak)} of GPU memory, but of {_gib(gpus[index].total)} only "
            f"{_gib(gpus[index].free)} are free, and no other job will release any; "
            "a smaller trainer.batch_size needs less"
        )
    return None


def earlier_peak(experiment: Experiment) -> int:
    """Return the most bytes of GPU memory that a run of the same cell has taken; 0 if that is unknown."""
    peaks = [0]
    for file in experiment.folder.path.parent.glob(f"*-{experiment.cell_id}-s*/result.json"):
        try:  # damage is named where a result is needed
            peaks.append(RunFolder(file.parent).load_result().get("peak_memory") or 0)
        except (OSError, DamagedError):
            continue
    return max(peaks) and CONTEXT + max(peaks)


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


def visible() -> list[Gpu]:
    """Return the GPUs in the order of their indices."""
    indices = range(torch.cuda.device_count())
    return [Gpu(str(torch.cuda.get_device_properties(i).uuid), *torch.cuda.mem_get_info(i)) for i in indices]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
