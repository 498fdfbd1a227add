"""What the grid and the search share: they compose and check jobs, choose a folder, launch what is left, and watch.

Hydra imports this file at every start, ``--help`` included, so heavy imports wait until a sweep runs.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.vicinal_launcher import ParallelLauncher
from hydra_plugins.vicinal_ray import RayLauncher
from hydra_plugins.vicinal_slurm import SlurmLauncher
from vicinal.config.schema import BASES
from vicinal.errors import UserError
from vicinal.launch.packing import AUTO
from vicinal.training.world import processes

if TYPE_CHECKING:
    from vicinal.experiment import Experiment
    from vicinal.launch.grid import Job
    from vicinal.launch.job_configs import JobConfigs
    from vicinal.launch.packing import Packing

log = logging.getLogger(__name__)


class JobSweeper(BasicSweeper):
    """A sweep whose jobs are composed and checked before they train; what is completed already is not trained again."""

    config: DictConfig
    hydra_context: HydraContext

    @abstractmethod
    def sweep(self, arguments: list[str]) -> Any: ...

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # The launcher is made when the sweep has its folder: some launchers have one of their own in it.
        self.hydra_context, self.config, self._task = hydra_context, config, task_function

    def begin(self) -> None:
        """Start the processes that the jobs will use, beside the imports that follow, which take one core.

        Raises UserError if this is one of several processes of a run.
        """
        if (count := processes().size) > 1:
            way = "start the sweep without torchrun or srun; hydra/launcher=parallel trains several runs at a time, "
            way += "hydra/launcher=slurm hydra.launcher.tasks_per_node=N each run in N processes"
            raise UserError(f"-m: {count} processes are for one run; {way}")
        if self.config.dry_run:
            return
        launcher = self.config.hydra.launcher
        if self.parallel() and launcher.n_jobs != 1:
            from vicinal.launch.worker_pool import warm_up

            warm_up()
        elif self.launches(BasicLauncher):
            from vicinal.tracking.wandb import client

            client.begin(self.config)

    def check_request(self) -> None:
        """Raise UserError for what no sweep can have, or what the launcher would refuse."""
        from vicinal.config.composition import refuse_moving, sweeping_word

        refuse_moving(self.config.hydra)
        sweeping_word(self.config.hydra)  # which refuses params that are no mapping
        if self.launches(SlurmLauncher):
            SlurmLauncher.check_values(self.config.hydra.launcher)
        for launcher in (RayLauncher, SlurmLauncher):
            if self.launches(launcher) and not self.config.dry_run:
                launcher.check(self.config.hydra.launcher)

    def parser(self) -> OverridesParser:
        """Return a parser of words whose ``glob(*)`` finds the options of a group."""
        loader = self.hydra_context.config_loader
        own = list(self.config.hydra.overrides.hydra)  # glob(*) looks into hydra.searchpath too

        def options(group: str, results_filter: Any = None) -> list[str]:
            found = loader.get_group_options(group, results_filter, overrides=own)
            return [name for name in found if name not in BASES]

        globs: Any = SimpleNamespace(get_group_options=options)
        return OverridesParser.create(globs)

    def compose(self, points: Sequence[Sequence[str]], swept: Collection[str]) -> Iterator[Job]:
        """Compose and check the run of each point, given by its words; the keys that are swept come first in these."""
        from vicinal.config.composition import describe, hidden, resolve_calls
        from vicinal.experiment import Experiment, check_shards
        from vicinal.launch.grid import Job

        warnings: dict[str, None] = {}
        for words in points:
            config = self._composer(words)
            if config.trainer.shards == AUTO:
                config.trainer.shards = self.tasks()
            words = sorted(words, key=lambda word: word.partition("=")[0] not in swept)
            describe(config.hydra, words)
            if config.hydra.sweeper.params != self.config.hydra.sweeper.params:
                recipe = next((word for word in words if word.startswith("experiment=")), " ".join(words))
                raise UserError(f"{recipe}: this recipe is a sweep itself; run it alone, without -m")
            resolve_calls(self.config, config)
            experiment = Experiment.composed(config)
            check_shards(experiment.shards.count, self.tasks())
            yield Job(tuple(words), experiment)
            warnings |= dict.fromkeys(hidden(config.hydra))
        for line in [line for line in warnings if line not in self._told]:
            self._told.add(line)
            log.warning("%s", line)

    @cached_property
    def _told(self) -> set[str]:
        """The warnings that were logged: a search composes again and again."""
        return set()

    @cached_property
    def _composer(self) -> Callable[[Sequence[str]], DictConfig]:
        """One for the whole command: a search composes again and again, and files may be edited meanwhile."""
        from vicinal.config.composition import composer

        return composer(self.hydra_context.config_loader, self.config)

    def packing(self, jobs: Sequence[Job]) -> Packing | None:
        """Decide how the jobs share this machine, if they do."""
        if not self.parallel():
            return None
        experiments = [job.experiment for job in jobs]
        devices = {experiment.hardware.device.type for experiment in experiments}
        launcher = ParallelLauncher(self.config.hydra.launcher.n_jobs)
        return launcher.pack({experiment.trainer.threads for experiment in experiments}, devices)

    def packed(self, jobs: Sequence[Job], packing: Packing | None) -> Sequence[Job]:
        """Return the jobs with the threads that each will get."""
        if packing:
            threads = packing.threads
        elif self.launches(RayLauncher) and not self.config.dry_run:  # the keys are checked
            threads = self.config.hydra.launcher.num_cpus
        else:
            return jobs

        def fitted(experiment: Experiment) -> Experiment:
            auto = experiment.trainer.threads == AUTO
            return experiment.with_threads(min(experiment.hardware.threads, threads)) if auto else experiment

        return [replace(job, experiment=fitted(job.experiment)) for job in jobs]

    def tasks(self) -> int:
        """Return how many processes work on each run."""
        launcher = self.config.hydra.launcher
        return int(launcher.tasks_per_node * launcher.nodes) if self.launches(SlurmLauncher) else 1

    def parallel(self) -> bool:
        return self.launches(ParallelLauncher)

    def launches(self, launcher: type[Launcher]) -> bool:
        return str(self.config.hydra.launcher._target_).endswith(f".{launcher.__name__}")

    def check_data(self, jobs: Sequence[Job]) -> None:
        """Raise UserError if the data cannot be loaded; elsewhere than on this machine they may be others."""
        from vicinal.jobs.run import check_data

        if self.parallel() or self.launches(BasicLauncher):
            check_data(job.experiment for job in jobs)

    def left(self, jobs: Sequence[Job], hint: str = " (rerun=true trains them again)") -> list[Job]:
        """Return the jobs that have to be trained; warnings of the others' results are logged."""
        from vicinal.jobs.run import warn_of_reuse

        if self.config.rerun:
            return list(jobs)
        results = [job.experiment.folder.completed() for job in jobs]
        if done := sum(result is not None for result in results):
            log.info("%d of %d runs are completed already%s", done, len(jobs), hint)
        warn_of_reuse([(job.experiment, result) for job, result in zip(jobs, results, strict=True) if result])
        return [job for job, result in zip(jobs, results, strict=True) if result is None]

    def choose_folder(self, otherwise: Path) -> Path:
        """Return the sweep's folder: as the command line names it, or else this. The jobs get it by Hydra's config."""
        sweep = self.config.hydra.sweep
        folder = Path(os.path.realpath(sweep.dir)) if sweep.dir else otherwise
        sweep.dir = str(folder)
        return folder

    def train(
        self, folder: Path, jobs: Sequence[Job], left: Sequence[Job], packing: Packing | None, again: bool = False
    ) -> list[Sequence[JobReturn]]:
        """Launch the jobs that are left, and show all ``jobs`` on the page; ``again`` if it was shown before."""
        from vicinal.launch.job_configs import JobConfigs
        from vicinal.live.monitor import Live

        configs = JobConfigs(folder / "jobs")
        words = [[*job.overrides, configs.add(job.experiment)] for job in left]
        epochs = {job.experiment.run_id: job.experiment.trainer.epochs for job in jobs}
        with Live(folder, epochs, {job.experiment.run_id for job in left}).shown(again):
            return self._launch(words, configs, packing)

    def _launch(self, jobs: list[list[str]], configs: JobConfigs, packing: Packing | None) -> list[Sequence[JobReturn]]:
        context = HydraContext(configs, self.hydra_context.callbacks)  # type: ignore[arg-type] # all that launchers use
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=self._task, config=self.config
        )
        if isinstance(launcher, ParallelLauncher):
            launcher.packing = packing
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            returns.append(launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
            if any(job.status == JobStatus.FAILED for job in returns[-1]):
                break  # of several batches: max_batch_size=1 stops at the first failure
        return returns

    def tell_interrupted(self, end: BaseException, done: int, of: str) -> None:
        """Log how far an interrupted sweep is, unless its launcher has left because it does not wait."""
        if isinstance(end, SystemExit) and not end.code:
            return
        advice = "" if self.config.rerun else "; rerun the same command to resume"
        log.warning("interrupted: %d of %s are completed%s", done, of, advice)

    def raise_if_failed(
        self, jobs: Sequence[Job], launched: Sequence[Job], returns: Sequence[Sequence[JobReturn]]
    ) -> None:
        """Raise UserError if a job has failed; log how many of those that were launched are not completed."""
        ended = [job for batch in returns for job in batch]
        failed = sum(job.status == JobStatus.FAILED for job in ended)
        if failed:
            not_started = len(launched) - len(ended)
            rest = f", {not_started} were not started" if not_started else ""
            raise UserError(f"{failed} of {len(jobs)} jobs failed{rest}; the reasons are in the table")
        if busy := sum(job.experiment.folder.completed() is None for job in launched):  # busy=skip
            log.warning("%d of %d runs are not completed yet: other processes work on them", busy, len(jobs))
