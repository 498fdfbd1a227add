"""``hydra/sweeper=vicinal``: a grid that is checked first, runs nothing twice and ends with a report.

Hydra takes plugins from the namespace package ``hydra_plugins`` alone, and finds them by itself. It imports this file
at every start, ``--help`` included, so heavy imports wait until a sweep runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
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
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.vicinal_launcher import ParallelLauncher
from hydra_plugins.vicinal_ray import RayLauncher
from hydra_plugins.vicinal_slurm import SlurmLauncher
from vicinal.config.schema import BASES
from vicinal.errors import ConfigError, UserError
from vicinal.launch.packing import AUTO
from vicinal.training.world import processes
from vicinal.utils.gc_pause import without_collections

if TYPE_CHECKING:
    from vicinal.experiment import Experiment
    from vicinal.launch.grid import Job
    from vicinal.launch.job_configs import JobConfigs
    from vicinal.launch.packing import Packing

log = logging.getLogger(__name__)


class GridSweeper(BasicSweeper):
    """The grid of all comma-separated values, the last axis fastest.

    Every job is composed and checked before the first one trains, so that a mistake in the last one does not come up
    after a night. Points of the grid that are the same run (``alpha=1,1.0``, or any alpha under ``none``) run once, and
    what is completed already not at all. The same request is the same sweep, with the same folder.
    """

    config: DictConfig
    hydra_context: HydraContext

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        zip: Any = (),  # noqa: A002 - the name of the key
    ) -> None:
        super().__init__(max_batch_size, params)
        self._zip = OmegaConf.to_container(zip) if OmegaConf.is_config(zip) else zip

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # The launcher is made when the sweep has its folder: some launchers have one of their own in it.
        self.hydra_context, self.config, self._task = hydra_context, config, task_function

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        if (count := processes().size) > 1:
            way = "start the sweep without torchrun or srun, and hydra/launcher=parallel trains several runs at a time"
            raise UserError(f"-m: {count} processes are for one run; {way}")
        if not self.config.dry_run:
            self._start_processes()
        with without_collections():
            from vicinal.config.composition import refuse_moving
            from vicinal.jobs import dry_run
            from vicinal.jobs.run import check_cuts, check_data, name_ineffective_keys, send_rest
            from vicinal.launch import grid
            from vicinal.launch.job_configs import JobConfigs
            from vicinal.live.monitor import Live
            from vicinal.report.report import finish

        size = self.max_batch_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ConfigError("hydra.sweeper.max_batch_size", size, "must be null or an integer >= 1")
        refuse_moving(self.config.hydra)
        for launcher in (RayLauncher, SlurmLauncher):
            if self._launches(launcher) and not self.config.dry_run:
                launcher.check(self.config.hydra.launcher)
        jobs, packing = self._pack(self._jobs(arguments))
        if self.config.dry_run:
            check_cuts(job.experiment for job in jobs)
            name_ineffective_keys(job.experiment for job in jobs)
            dry_run.show(jobs)
            return []
        left = self._left(jobs)
        if self._parallel() or self._launches(BasicLauncher):  # elsewhere than on this machine the data may be others
            check_data(job.experiment for job in left)
        folder = self._choose_folder(jobs)
        grid.write_sweep(folder, jobs)
        waiting = {job.experiment.run_id for job in left}
        earlier = [job.experiment for job in jobs if job.experiment.run_id not in waiting]
        if not left:
            finish(folder)
            send_rest(earlier)
            return []
        name_ineffective_keys(job.experiment for job in left)
        configs = JobConfigs(folder / "jobs")
        words = [[*job.overrides, configs.add(job.experiment)] for job in left]
        epochs = {job.experiment.run_id: job.experiment.trainer.epochs for job in jobs}
        try:
            with Live(folder, epochs, waiting).shown():
                returns = self._launch(words, configs, packing)
        except (KeyboardInterrupt, SystemExit) as end:
            if isinstance(end, SystemExit) and not end.code:  # a launcher that does not wait
                raise
            done = sum(job.experiment.folder.completed() is not None for job in jobs)
            advice = "" if self.config.rerun else "; rerun the same command to resume"
            log.warning("interrupted: %d of %d runs are completed%s", done, len(jobs), advice)
            raise
        finish(folder)
        send_rest(earlier)
        self._raise_if_failed(jobs, left, returns)
        return returns

    def _jobs(self, arguments: list[str]) -> list[Job]:
        """Compose and check the different runs of the grid, in its order."""
        from vicinal.config.composition import composer, describe, hidden, resolve_calls
        from vicinal.experiment import Experiment
        from vicinal.launch import grid
        from vicinal.launch.grid import Job

        loader = self.hydra_context.config_loader
        own = list(self.config.hydra.overrides.hydra)  # glob(*) looks into hydra.searchpath too

        def options(group: str, results_filter: Any = None) -> list[str]:
            found = loader.get_group_options(group, results_filter, overrides=own)
            return [name for name in found if name not in BASES]

        globs: Any = SimpleNamespace(get_group_options=options)
        parser, compose = OverridesParser.create(globs), composer(loader, self.config)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        zipped = grid.zip_groups(self._zip or [])
        grid.check_axes(overrides, zipped)
        points = [
            point
            for words in grid.zipped_axes(overrides, zipped)
            for point in self.split_arguments(parser.parse_overrides(words), max_batch_size=None)[0]
        ]
        swept = {axis.get_key_element() for axis in overrides if axis.is_sweep_override()}
        jobs: dict[str, Job] = {}
        warnings: dict[str, None] = {}
        for words in points:
            config = compose(words)
            words = sorted(words, key=lambda word: word.partition("=")[0] not in swept)  # swept keys first
            describe(config.hydra, words)
            if config.hydra.sweeper.params != self.config.hydra.sweeper.params:
                recipe = next((word for word in words if word.startswith("experiment=")), " ".join(words))
                raise UserError(f"{recipe}: this recipe is a sweep itself; run it alone, without -m")
            resolve_calls(self.config, config)
            experiment = Experiment.composed(config)
            jobs.setdefault(experiment.run_id, Job(tuple(words), experiment))
            warnings |= dict.fromkeys(hidden(config.hydra))
        grid.check_tasks(jobs.values())
        for line in warnings:
            log.warning("%s", line)
        if len(jobs) < len(points):
            log.info("%d combinations are %d different runs", len(points), len(jobs))
        return list(jobs.values())

    def _pack(self, jobs: Sequence[Job]) -> tuple[Sequence[Job], Packing | None]:
        """Decide how the jobs share this machine, if they do; each then has the threads that it will get."""
        packing: Packing | None = None
        if self._parallel():
            experiments = [job.experiment for job in jobs]
            devices = {experiment.hardware.device.type for experiment in experiments}
            launcher = ParallelLauncher(self.config.hydra.launcher.n_jobs)
            packing = launcher.pack({experiment.trainer.threads for experiment in experiments}, devices)
            threads = packing.threads
        elif self._launches(RayLauncher) and not self.config.dry_run:  # the keys are checked
            threads = self.config.hydra.launcher.num_cpus
        else:
            return jobs, None

        def packed(experiment: Experiment) -> Experiment:
            auto = experiment.trainer.threads == AUTO
            return experiment.with_threads(min(experiment.hardware.threads, threads)) if auto else experiment

        return [replace(job, experiment=packed(job.experiment)) for job in jobs], packing

    def _start_processes(self) -> None:
        """Start the processes that the jobs will use, beside the imports that follow, which take one core."""
        launcher = self.config.hydra.launcher
        if self._parallel() and launcher.n_jobs != 1:
            from vicinal.launch.worker_pool import warm_up

            warm_up()
        elif self._launches(BasicLauncher):
            from vicinal.tracking.wandb import client

            client.begin(self.config)

    def _parallel(self) -> bool:
        return self._launches(ParallelLauncher)

    def _launches(self, launcher: type[Launcher]) -> bool:
        return str(self.config.hydra.launcher._target_).endswith(f".{launcher.__name__}")

    def _left(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that have to be trained; warnings of the others' results are logged."""
        from vicinal.jobs.run import warn_of_reuse

        if self.config.rerun:
            return list(jobs)
        results = [job.experiment.folder.completed() for job in jobs]
        if done := sum(result is not None for result in results):
            log.info("%d of %d runs are completed already (rerun=true trains them again)", done, len(jobs))
        warn_of_reuse([(job.experiment, result) for job, result in zip(jobs, results, strict=True) if result])
        return [job for job, result in zip(jobs, results, strict=True) if result is None]

    def _choose_folder(self, jobs: Sequence[Job]) -> Path:
        """Choose the sweep's folder, which the jobs get by Hydra's config."""
        from vicinal.launch.grid import sweep_folder

        sweep = self.config.hydra.sweep
        folder = Path(os.path.realpath(sweep.dir)) if sweep.dir else sweep_folder(jobs)
        sweep.dir = str(folder)
        return folder

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

    def _raise_if_failed(
        self, jobs: Sequence[Job], launched: Sequence[Job], returns: Sequence[Sequence[JobReturn]]
    ) -> None:
        ended = [job for batch in returns for job in batch]
        failed = sum(job.status == JobStatus.FAILED for job in ended)
        if failed:
            not_started = len(launched) - len(ended)
            rest = f", {not_started} were not started" if not_started else ""
            raise UserError(f"{failed} of {len(jobs)} jobs failed{rest}; the reasons are in the table")
        if busy := sum(job.experiment.folder.completed() is None for job in launched):  # busy=skip
            log.warning("%d of %d runs are not completed yet: other processes work on them", busy, len(jobs))
