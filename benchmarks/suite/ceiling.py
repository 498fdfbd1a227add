"""What no launcher can pass: bare training steps by a process a core, against one process that has all the cores."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from benchmarks.suite.synthetic import image_data

WARMUP = 3  # steps
PATIENCE = 300.0  # seconds until all are warm

Shape = tuple[int, int]
"""Of the images: channels, and pixels of a side."""


class _State:
    together: Barrier


def throughput(folder: Path, shape: Shape, processes: int, threads: int, seconds: float, *words: str) -> float:
    """Bare steps a second of ``processes`` at the same time, each with ``threads``, once all of them are warm.

    Args:
        folder: an empty one.
        shape: of the images.
        processes: >= 1.
        threads: of each, >= 1.
        seconds: that each works.
        *words: of the command line, as :class:`~benchmarks.suite.trainings.Run` takes them.
    """
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_begin, initargs=(barrier,)) as pool:
        calls = [
            pool.submit(_speed, folder / str(number), shape, threads, seconds, *words) for number in range(processes)
        ]
        return sum(call.result() for call in calls)


def _begin(together: Barrier) -> None:
    _State.together = together


def _speed(folder: Path, shape: Shape, threads: int, seconds: float, *words: str) -> float:
    from benchmarks.suite.trainings import Bare, Run

    channels, size = shape
    data = image_data(256, 128, channels, size)
    looks = f"dataset.mean={list(data.mean)}", f"dataset.std={list(data.std)}"
    bare = Bare.beside(Run(folder, 256, *words, *looks, f"trainer.threads={threads}", data=data))
    torch.set_num_threads(threads)
    for _ in range(WARMUP):
        bare.step()
    _State.together.wait(PATIENCE)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        bare.step()
        steps += 1
    return steps / (time.perf_counter() - start)
