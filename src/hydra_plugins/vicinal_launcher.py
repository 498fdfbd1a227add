"""``hydra/launcher=parallel``: several jobs at once on this machine, in workers that save when they are interrupted.

Hydra imports this file at every start, so heavy imports wait until jobs are launched.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from vicinal.errors import ConfigError, UserError
from vicinal.launch.packing import AUTO, JOBS, Packing, pack
from vicinal.utils.cores import SHARE, usable_cores

log = logging.getLogger(__name__)


class ParallelLauncher(BasicLauncher):
    """Several jobs at once on this machine.

    Args:
        n_jobs: how many; "auto" fits them to the cores.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

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

        from vicinal.training.hardware import auto_threads

        gpus = torch.cuda.device_count() if "cuda" in devices else int("mps" in devices)
        return pack(self._asked, threads, gpus, usable_cores(), auto_threads())

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        packing = self.packing or self._pack_alike()
        if packing.jobs == 1:
            return super().launch(job_overrides, initial_job_idx)
        from vicinal.launch.worker_pool import Workers

        setup_globals()
        hydra, count = self.config.hydra, len(job_overrides)
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs, %d at a time, trainer.threads=%d", count, packing.jobs, packing.threads)
        job = partial(run_in_worker, self.hydra_context, self.task_function, self.config, Singleton.get_state())
        numbered = enumerate(job_overrides, initial_job_idx)
        jobs = min(packing.jobs, count)
        environment = {**os.environ, SHARE: str(packing.threads), JOBS: str(jobs)}
        with Workers(jobs, job, environment) as workers:
            return workers.do(list(zip(labels(job_overrides), numbered, strict=True)))

    def _pack_alike(self) -> Packing:
        """Divide the machine as if all jobs were the first, where the sweeper is not ours."""
        from vicinal.config.schema import TrainerConfig
        from vicinal.training.hardware import resolve

        trainer = TrainerConfig(**self.config.trainer)
        return self.pack({trainer.threads}, {resolve(trainer).device.type})


def run_in_worker(
    context: HydraContext, task: TaskFunction, config: DictConfig, state: dict[Any, Any], number: int, words: list[str]
) -> JobReturn:
    """Do one job in another process, as Hydra's own launchers do."""
    setup_globals()
    Singleton.set_state(state)
    job = context.config_loader.load_sweep_config(config, list(words))
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = f"{job.hydra.job.name}_{number}", number
    return run_job(task, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)


def check_keys(launcher: Mapping[str, Any], rules: Iterable[tuple[str, bool, str]]) -> None:
    """Raise ConfigError for the first key whose value is not right; rules are (key, whether it is, what is allowed)."""
    for key, right, allowed in rules:
        if not right:
            raise ConfigError(f"hydra.launcher.{key}", launcher[key], allowed)


def whole(value: object, least: int) -> bool:
    """Return whether a value is an integer, and not too small."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def plain(node: Any) -> dict[str, Any]:
    """Return a part of a config in plain containers; {} for null."""
    return dict(OmegaConf.to_container(OmegaConf.create(node or {}), resolve=True))  # type: ignore[arg-type]


def failed(context: HydraContext, config: DictConfig, words: Sequence[str], reason: str, job: str = "") -> JobReturn:
    """Record why a run on other machines has no result, unless it has one or a process works on it.

    The ``job`` is one of Slurm that has ended, so that no process of its own works on it.
    """
    from vicinal.experiment import Experiment
    from vicinal.jobs.provenance import run_metadata
    from vicinal.runs import heartbeat
    from vicinal.runs.files import make_folder

    experiment = Experiment.composed(context.config_loader.load_sweep_config(config, list(words)))
    folder = experiment.folder
    if folder.completed() is not None:
        return JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=None)
    log.error("%s: %s", experiment.name, reason)
    if job:
        heartbeat.forget(folder.path, job)  # it was on another node, perhaps, and may look alive for a while
    if not folder.locked():
        make_folder(folder.path)  # the job may have ended before it
        folder.fail(run_metadata(experiment), reason)
    return JobReturn(overrides=words, status=JobStatus.FAILED, _return_value=UserError(reason))


def names(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return what tells each job from the others: the words that not all of them have."""
    from vicinal.config.redaction import redact

    shown = list(map(filter_overrides, job_overrides))
    common = set.intersection(*map(set, shown))
    return [redact(" ".join(word for word in words if word not in common)) for words in shown]


def labels(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return what begins the output lines of each job."""
    own = names(job_overrides)
    width = max(map(len, own))
    return [f"{text:<{width}} | " if width else "" for text in own]
