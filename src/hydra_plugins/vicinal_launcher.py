"""``hydra/launcher=parallel``: jobs of a sweep at the same time, by the worker processes of Hydra's joblib launcher.

What is added to it: as many jobs as fit the cores, lines that say whose they are, and an interruption that lets every
worker save. Hydra imports this file at every start, so heavy imports wait until jobs are launched.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

from vicinal.errors import UserError
from vicinal.packing import AUTO, Packing, pack, usable_cores
from vicinal.runs.interruption import Interruption

log = logging.getLogger(__name__)


class ParallelLauncher(JoblibLauncher):  # type: ignore[misc] # it has no types
    """Several jobs at once on this machine.

    Args:
        n_jobs: how many; "auto" fits them to the cores.
    """

    def __init__(self, n_jobs: object = AUTO) -> None:
        super().__init__()
        self._asked = n_jobs
        self.packing: Packing | None = None
        """Set by a sweeper that knows the jobs."""

    def pack(self, threads: Collection[int | str], devices: Collection[str]) -> Packing:
        """Decide how many jobs run at once, and on how many threads each.

        Args:
            threads: ``trainer.threads`` of the jobs.
            devices: that they run on: cuda, mps, cpu.
        """
        import torch

        from vicinal.training.hardware import AUTO_THREADS

        gpus = torch.cuda.device_count() if "cuda" in devices else int("mps" in devices)
        return pack(self._asked, threads, gpus, usable_cores(), AUTO_THREADS)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        packing = self.packing or self._pack_alike()
        if packing.jobs == 1:
            serial = BasicLauncher()
            serial.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
            return serial.launch(job_overrides, initial_job_idx)
        return self._launch(job_overrides, initial_job_idx, packing)

    def _pack_alike(self) -> Packing:
        """Where a sweeper that is not ours has said nothing of its jobs: as if all were the first."""
        from vicinal.config import TrainerConfig
        from vicinal.training.hardware import resolve

        trainer = TrainerConfig(**self.config.trainer)
        return self.pack({trainer.threads}, {resolve(trainer).device.type})

    def _launch(self, job_overrides: Sequence[Sequence[str]], first: int, packing: Packing) -> Sequence[JobReturn]:
        import joblib
        from hydra_plugins.hydra_joblib_launcher._core import execute_job
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        from vicinal.worker import begin, work

        setup_globals()
        hydra, count = self.config.hydra, len(job_overrides)
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs, %d at a time, trainer.threads=%d", count, packing.jobs, packing.threads)
        common = (self.hydra_context, self.config, self.task_function, Singleton.get_state())

        def calls(stop: Interruption) -> Iterator[Any]:
            for index, (words, label) in enumerate(zip(job_overrides, labels(job_overrides), strict=True), start=first):
                if stop.signal is not None:
                    return
                yield joblib.delayed(work)(execute_job, label, packing.threads, index, words, *common)

        backend = {"inner_max_num_threads": packing.threads, "initializer": begin, "initargs": (os.getpid(),)}
        try:
            with _Forwarding() as stop, joblib.parallel_config("loky", **backend):
                return list(joblib.Parallel(packing.jobs, batch_size=1, pre_dispatch="n_jobs")(calls(stop)))
        except TerminatedWorkerError as error:
            raise UserError(
                "a worker was killed, perhaps because memory ran out; fewer hydra.launcher.n_jobs need less; "
                "the same command goes on"
            ) from error


def labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """What begins the lines of each job: the words that not all of them have."""
    from vicinal.runs.environment import redact

    common = set.intersection(*map(set, job_overrides))
    own = [redact(" ".join(word for word in words if word not in common)) for words in job_overrides]
    width = max(map(len, own))
    return [f"{text:<{width}} | " if width else "" for text in own]


class _Forwarding(Interruption):
    """Hands the first signal on to the workers, which save; those that are only starting get it when they can."""

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        first = self.signal is None
        super()._remember(number, frame)
        if first:
            threading.Thread(target=self._forward, name="forward-signal", daemon=True).start()

    def _forward(self) -> None:
        from vicinal.worker import begun

        told: set[int] = set()
        while not self._over.wait(0.05):
            for child in multiprocessing.active_children():
                if child.pid is not None and child.pid not in told and begun(child.pid):
                    told.add(child.pid)
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGTERM)

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        super().__exit__(*error)
