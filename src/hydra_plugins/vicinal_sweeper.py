"""``hydra/sweeper=vicinal``: a grid that is checked first, runs nothing twice and ends with a report.

Hydra takes plugins from the namespace package ``hydra_plugins`` alone, and finds them by itself. It imports this file
at every start, ``--help`` included, so heavy imports wait until a sweep runs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from hydra_plugins.vicinal_jobs import JobSweeper
from vicinal.errors import ConfigError
from vicinal.utils.gc_pause import without_collections

if TYPE_CHECKING:
    from vicinal.launch.grid import Job

log = logging.getLogger(__name__)


class GridSweeper(JobSweeper):
    """The grid of all comma-separated values, the last axis fastest.

    Every job is composed and checked before the first one trains, so that a mistake in the last one does not come up
    after a night. Points of the grid that are the same run (``alpha=1,1.0``, or any alpha under ``none``) run once, and
    what is completed already not at all. The same request is the same sweep, with the same folder.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        zip: Any = (),  # noqa: A002 - the name of the key
    ) -> None:
        super().__init__(max_batch_size, params)
        self._zip = OmegaConf.to_container(zip) if OmegaConf.is_config(zip) else zip

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        self.begin()
        with without_collections():
            from vicinal.jobs import dry_run
            from vicinal.jobs.run import check_cuts, name_ineffective_keys, send_rest
            from vicinal.launch import grid, own_folder
            from vicinal.report.report import finish

        size = self.max_batch_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ConfigError("hydra.sweeper.max_batch_size", size, "must be null or an integer >= 1")
        self.check_request()
        jobs = self._jobs(arguments)
        packing = self.packing(jobs)
        jobs = self.packed(jobs, packing)
        folder = self.choose_folder(grid.sweep_folder(jobs))
        own_folder.check_grid(folder, [job.experiment.run_id for job in jobs])
        if self.config.dry_run:
            check_cuts(job.experiment for job in jobs)
            name_ineffective_keys(job.experiment for job in jobs)
            dry_run.show(jobs)
            return []
        left = self.left(jobs)
        self.check_data(left)
        grid.write_sweep(folder, jobs)
        waiting = {job.experiment.run_id for job in left}
        earlier = [job.experiment for job in jobs if job.experiment.run_id not in waiting]
        if not left:
            finish(folder)
            send_rest(earlier)
            return []
        name_ineffective_keys(job.experiment for job in left)
        try:
            returns = self.train(folder, jobs, left, packing)
        except (KeyboardInterrupt, SystemExit) as end:
            done = sum(job.experiment.folder.completed() is not None for job in jobs)
            self.tell_interrupted(end, done, f"{len(jobs)} runs")
            raise
        finish(folder)
        send_rest(earlier)
        self.raise_if_failed(jobs, left, returns)
        return returns

    def _jobs(self, arguments: list[str]) -> Sequence[Job]:
        """Compose and check the different runs of the grid, in its order."""
        from vicinal.launch import grid

        parser = self.parser()
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        overrides = [*{word.get_key_element(): word for word in parsed}.values()]  # the last word of a key counts
        zipped = grid.zip_groups(self._zip or [])
        grid.check_axes(overrides, zipped)
        points = [
            point
            for words in grid.zipped_axes(overrides, zipped)
            for point in self.split_arguments(parser.parse_overrides(words), max_batch_size=None)[0]
        ]
        swept = {axis.get_key_element() for axis in overrides if axis.is_sweep_override()}
        jobs: dict[str, Job] = {}
        for job in self.compose(points, swept):
            jobs.setdefault(job.experiment.run_id, job)
        grid.check_tasks(jobs.values())
        if len(jobs) < len(points):
            log.info("%d combinations are %d different runs", len(points), len(jobs))
        return list(jobs.values())
