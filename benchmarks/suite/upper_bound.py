"""Upper bound of a parallel launcher: bare training steps of one process per core against one process."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from benchmarks.suite.synthetic import image_data

WARMUP_STEPS = 3
WARMUP_SECONDS = 300.0
"""Limit for all processes to be warm."""

Shape = tuple[int, int]
"""Channels, and pixels per side of the square images."""


class _State:
    barrier: Barrier


def throughput(folder: Path, shape: Shape, processes: int, threads: int, seconds: float, *words: str) -> float:
    """Return the bare steps per second of several processes together, once all of them are warm.

    Args:
        folder: empty.
        shape: of the images.
        processes: number of processes, >= 1.
        threads: per process, >= 1.
        seconds: duration of the measurement.
        *words: of the command line, as :class:`~benchmarks.suite.trainings.Run` takes them.
    """
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_set_barrier, initargs=(barrier,)) as pool:
        calls = [
            pool.submit(_speed, folder / str(number), shape, threads, seconds, *words) for number in range(processes)
        ]
        return sum(call.result() for call in calls)


def _set_barrier(barrier: Barrier) -> None:
    _State.barrier = barrier


def _speed(folder: Path, shape: Shape, threads: int, seconds: float, *words: str) -> float:
    from benchmarks.suite.trainings import Bare, Run

    channels, size = shape
    data = image_data(256, 128, channels, size)
    statistics = f"dataset.mean={list(data.mean or ())}", f"dataset.std={list(data.std or ())}"
    bare = Bare.beside(Run(folder, 256, *words, *statistics, f"trainer.threads={threads}", data=data))
    torch.set_num_threads(threads)
    for _ in range(WARMUP_STEPS):
        bare.step()
    _State.barrier.wait(WARMUP_SECONDS)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        bare.step()
        steps += 1
    return steps / (time.perf_counter() - start)
