"""``hydra/launcher=parallel``: Hydra's joblib launcher with workers that are ready at once and save when interrupted.

Hydra imports this file at every start, so heavy imports wait until jobs are launched.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

from vicinal.launch.packing import AUTO, Packing, pack
from vicinal.utils.cores import usable_cores

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
        from vicinal.config.schema import TrainerConfig
        from vicinal.training.hardware import resolve

        trainer = TrainerConfig(**self.config.trainer)
        return self.pack({trainer.threads}, {resolve(trainer).device.type})

    def _launch(self, job_overrides: Sequence[Sequence[str]], first: int, packing: Packing) -> Sequence[JobReturn]:
        from hydra_plugins.hydra_joblib_launcher._core import execute_job

        from vicinal.launch.worker_pool import Workers

        setup_globals()
        hydra, count = self.config.hydra, len(job_overrides)
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs, %d at a time, trainer.threads=%d", count, packing.jobs, packing.threads)
        job = partial(
            execute_job,
            hydra_context=self.hydra_context,
            config=self.config,
            task_function=self.task_function,
            singleton_state=Singleton.get_state(),
        )
        indices = range(first, first + count)
        calls = list(zip(labels(job_overrides), zip(indices, job_overrides, strict=True), strict=True))
        with Workers(min(packing.jobs, count), job, packing.threads) as workers:
            return workers.do(calls)


def labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return what begins the output lines of each job: the words that not all of them have."""
    from vicinal.config.redaction import redact

    shown = list(map(filter_overrides, job_overrides))
    common = set.intersection(*map(set, shown))
    own = [redact(" ".join(word for word in words if word not in common)) for words in shown]
    width = max(map(len, own))
    return [f"{text:<{width}} | " if width else "" for text in own]
