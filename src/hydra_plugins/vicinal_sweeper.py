"""What Hydra is taught: where ``conf/`` is, and sweeps that check first, run nothing twice and end with a table.

Hydra takes plugins from the namespace package ``hydra_plugins`` alone, and finds them by itself. It imports this file
at every start, ``--help`` included, so heavy imports wait until a sweep runs.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from vicinal.config import CONF
from vicinal.errors import ConfigError, UserError

if TYPE_CHECKING:
    from vicinal.sweeps.collect import Job

log = logging.getLogger(__name__)


class ConfPath(SearchPathPlugin):
    """Groups are found in ``conf/`` too when the primary config is a run's own ``config.yaml``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("vicinal", f"file://{CONF}")


class GridSweeper(BasicSweeper):
    """The grid of all comma-separated values, the last axis fastest.

    Every job is composed and checked before the first one trains, so that a mistake in the last one does not come up
    after a night. Points of the grid that are the same run (``alpha=1,1.0``, or any alpha under ``none``) run once.
    """

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from vicinal.sweeps.collect import collect
        from vicinal.sweeps.table import show

        assert self.config is not None
        assert self.launcher is not None
        size = self.max_batch_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ConfigError("hydra.sweeper.max_batch_size", size, "must be null or an integer >= 1")
        jobs = self._jobs(arguments)
        folder = Path(self.config.hydra.sweep.dir).resolve()
        if not self.config.dry_run:
            self._freeze(folder)
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_overrides_to_chunks([list(job.overrides) for job in jobs], self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
            if any(each.status == JobStatus.FAILED for each in returns[-1]):
                break  # what is left are later batches: max_batch_size=1 stops at the first failure
        if self.config.dry_run:
            with suppress(OSError):
                folder.rmdir()  # the launcher made it; a dry run leaves nothing behind
            return returns
        OmegaConf.save(self.config, folder / "multirun.yaml")
        table = collect(jobs)
        table.to_csv(folder / "summary.csv", index=False)
        show(table, folder)
        started = sum(map(len, returns))
        failed = sum(job.folder.completed() is None for job in jobs[:started])
        if failed:
            rest = f", {len(jobs) - started} were not started" if started < len(jobs) else ""
            raise UserError(f"{failed} of {len(jobs)} jobs failed{rest}; the reasons are in the table")
        return returns

    def _freeze(self, folder: Path) -> None:
        """Compose the jobs from a copy of ``conf/``, so that a file edited during the sweep cannot change later jobs.

        Launchers compose each job when its turn comes, in this process or in another.
        """
        assert self.hydra_context is not None
        frozen = shutil.copytree(CONF, folder / "conf")
        search_path = self.hydra_context.config_loader.get_search_path()
        for element in search_path.get_path():
            if element.path in (str(CONF), f"file://{CONF}"):
                element.path = f"file://{frozen}"
        self.hydra_context.config_loader = ConfigLoaderImpl(search_path)

    def _jobs(self, arguments: list[str]) -> list[Job]:
        from vicinal.experiment import Experiment
        from vicinal.sweeps.collect import Job

        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:
            if override.is_sweep_override() and not list(override.sweep_iterator()):
                raise UserError(f"{override.input_line}: there is no value in it to sweep over")
        [grid] = self.split_arguments(overrides, max_batch_size=None)
        jobs: dict[str, Job] = {}
        for point in grid:
            cfg = loader.load_sweep_config(self.config, list(point))
            if cfg.hydra.sweeper.params != self.config.hydra.sweeper.params:
                [recipe] = [word for word in point if word.startswith("experiment=")]
                raise UserError(f"{recipe}: this recipe is a sweep itself; run it alone, without -m")
            experiment = Experiment.composed(cfg)
            jobs.setdefault(
                experiment.run_id,
                Job(
                    overrides=tuple(point),
                    name=experiment.name,
                    cell_id=experiment.cell_id,
                    seed=experiment.seed,
                    folder=experiment.folder,
                    choices=experiment.choices,
                    settings=experiment.settings(),
                ),
            )
        if len(jobs) < len(grid):
            log.info("%d combinations are %d different runs", len(grid), len(jobs))
        return list(jobs.values())
