"""``hydra/sweeper=search``: values that are chosen by validation, by a sampler of Optuna's, and tested on new seeds.

Hydra imports this file at every start, so heavy imports wait until a search runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn

from hydra_plugins.vicinal_jobs import JobSweeper
from vicinal.errors import UserError
from vicinal.launch.packing import AUTO, Packing
from vicinal.utils.gc_pause import without_collections

if TYPE_CHECKING:
    from vicinal.launch.grid import Job
    from vicinal.launch.study import Known, SharedStudy, Trial

log = logging.getLogger(__name__)

HOPELESS = 3  # trials after which a command gives up if all have failed


class SearchSweeper(JobSweeper):
    """A search of the space that intervals, ranges and lists of the command line span.

    The keys are those of ``conf/hydra/sweeper/search.yaml``. Each run is one of the grid's kind: checked, in a folder
    of its own, and not trained twice. The same command goes on, from wherever it was stopped.
    """

    def __init__(self, params: Mapping[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(max_batch_size=None)
        self._jobs: dict[int, list[Job]] = {}  # of each trial, one per seed
        self._refused: dict[int, str] = {}  # why a trial has none

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        self.begin()
        with without_collections():
            from vicinal.launch.axis_effects import check_effects
            from vicinal.launch.search import Settings, check_command, goal, identify, search_folder
            from vicinal.launch.search_space import read_space
            from vicinal.launch.study import SharedStudy

        self._refuse_recipe()
        settings = self._settings = Settings.checked(self.config.hydra.sweeper)
        check_command(self.config)
        self.check_request()
        words = {str(word.get_key_element()): word for word in self.parser().parse_overrides(arguments)}
        axes = self._axes = read_space(list(words.values()))
        fixed = [word for word in words.values() if not word.is_sweep_override()]
        self._fixed = self.split_arguments(fixed, None)[0][0]
        [baseline] = self.compose([self._fixed], ())
        self._goal, self._baseline = goal(settings, baseline.experiment), baseline
        self._probes = self._probed()
        check_effects(axes, lambda values: self._jobs_of(values)[0].experiment)
        packing = self.packing([baseline, *self._probes])
        identity = identify(baseline.experiment, axes, settings, self._goal)
        folder = self.choose_folder(search_folder(baseline.experiment, axes, identity))
        study = SharedStudy(folder, axes, settings.sampler, settings.seed, self._goal.higher, identity)
        size = self._at_a_time(packing)
        if self.config.dry_run:
            self._show(study, folder, size)
            return []
        study.look()
        if sum(trial.done for trial in study.trials()) < settings.trials:
            self.check_data([baseline, *self._probes])
        return self._search(study, folder, size, packing)

    def _refuse_recipe(self) -> None:
        from vicinal.config.composition import sweeping_word

        if word := sweeping_word(self.config.hydra):
            raise UserError(f"{word}: is a sweep itself; a search has its space on the command line")

    def _search(
        self, study: SharedStudy, folder: Path, size: int, packing: Packing | None
    ) -> list[Sequence[JobReturn]]:
        most = self._settings.trials
        study.open(self._known)
        self._add(study.trials())
        returns: list[Sequence[JobReturn]] = []
        try:
            while batch := study.next(size, most):
                self._do(study, folder, batch, packing, returns)
                ended = [trial for trial in study.trials() if trial.state != "running"]
                if len(ended) >= HOPELESS and all(trial.state == "failed" for trial in ended):
                    raise UserError(f"all {len(ended)} trials so far have failed, the last because: {ended[-1].reason}")
        except (KeyboardInterrupt, SystemExit) as end:
            self.tell_interrupted(end, sum(trial.done for trial in study.trials()), f"{most} trials")
            raise
        self._conclude(study, folder, packing, returns)
        return returns

    def _do(
        self,
        study: SharedStudy,
        folder: Path,
        batch: Sequence[Trial],
        packing: Packing | None,
        returns: list[Sequence[JobReturn]],
    ) -> None:
        """Train the points of a batch, and record how each has ended."""
        from vicinal.config.error_messages import explain
        from vicinal.launch import grid

        for trial in batch:
            log.info("trial %d: %s", trial.number, trial.point)
        with study.alone():
            self._add(study.trials())  # another process may have added some
            shown = {job.experiment.run_id: job for number in sorted(self._jobs) for job in self._jobs[number]}
            every = self.packed([*shown.values()], packing)
            grid.write_sweep(folder, every, swept=[axis.name for axis in self._axes])
        own = {job.experiment.run_id for trial in batch for job in self._jobs[trial.number]}
        left = self.left([job for job in every if job.experiment.run_id in own], hint="")
        launched = self.train(folder, every, left, packing, again=bool(returns)) if left else []
        returns += launched
        errors = (job._return_value for jobs in launched for job in jobs)
        broken = next((error for error in errors if isinstance(error, OSError)), None)
        for trial in batch:
            self._tell(study, trial, failures=broken is None)
        self._record(study, folder)
        if broken:  # a full disk, say: no fault of a point, which stays to be done
            raise UserError(f"{explain(broken)}; the same command goes on")

    def _tell(self, study: SharedStudy, trial: Trial, failures: bool) -> None:
        """Record how a trial has ended; that it has failed only if ``failures`` are those of the points."""
        from vicinal.launch.search import Outcome, outcome

        jobs, refused = self._jobs[trial.number], self._refused.get(trial.number)
        folders = [job.experiment.folder for job in jobs]
        end = Outcome("failed", reason=refused) if refused else outcome(folders, self._goal)
        if end.state == "failed" and not failures:
            study.release(trial.number)
            return
        study.tell(trial, end.state, end.value, [job.experiment.run_id for job in jobs], end.reason, end.epoch)
        if end.state == "completed":
            best = study.best()
            beside = f"; the best so far is trial {best.number}, {best.value:.4g}" if best else ""
            log.info("trial %d: %s %.4g%s", trial.number, self._goal.name, end.value, beside)
        elif end.state == "pruned":
            log.info("trial %d: %s", trial.number, end.reason)
        else:
            log.warning("trial %d has failed: %s", trial.number, end.reason)

    def _conclude(
        self, study: SharedStudy, folder: Path, packing: Packing | None, returns: list[Sequence[JobReturn]]
    ) -> None:
        """Train the choice on new seeds, and report, unless other processes are still at the search."""
        from vicinal.report.search import finish

        best, trials = study.best(), study.trials()
        if running := sum(trial.state == "running" for trial in trials):
            log.warning("%d of %d trials are other processes'; the last one to end reports", running, len(trials))
            return
        self._record(study, folder)
        if best is None:
            failed = sum(trial.state == "failed" for trial in trials)
            reasons = f"the reasons are in {folder / 'search.json'}"
            raise UserError(f"no trial is completed, {failed} of {len(trials)} have failed; {reasons}")
        if not self._settings.confirm:
            finish(folder)
            return
        jobs, left, ended = self._confirm(best, folder, packing)
        self._record(study, folder, confirmed=True)
        finish(folder)
        returns += ended
        self.raise_if_failed(jobs, left, ended)

    def _confirm(
        self, best: Trial, folder: Path, packing: Packing | None
    ) -> tuple[Sequence[Job], Sequence[Job], list[Sequence[JobReturn]]]:
        """Train the choice, and the command line without the space, on seeds that nothing was chosen by.

        Returns the runs, those that were launched, and how these have ended.
        """
        from vicinal.jobs.run import send_rest
        from vicinal.launch import grid
        from vicinal.launch.search import confirm_folder
        from vicinal.report.report import finish

        first = self._baseline.experiment.seed + self._settings.seeds
        seeds = range(first, first + self._settings.confirm)
        points = [self._words({}, seeds), self._words(best.values, seeds)]
        found = [job for words in points for job in self.compose(words, self._swept)]
        jobs = self.packed([*{job.experiment.run_id: job for job in found}.values()], packing)
        place = confirm_folder(folder)
        self.config.hydra.sweep.dir = str(place)
        self.config.hydra.sweeper.pruner = None  # these runs are compared as whole ones
        grid.write_sweep(place, jobs, swept=[axis.name for axis in self._axes], baseline=found[0].experiment.cell_id)
        text = "trial %d is chosen: %s; it and the config without the space are trained on %d new seeds"
        log.info(text, best.number, best.point, len(seeds))
        ended: list[Sequence[JobReturn]] = []
        if left := self.left(jobs, hint=""):
            try:
                ended = self.train(place, jobs, left, packing)
            except (KeyboardInterrupt, SystemExit) as end:
                done = sum(job.experiment.folder.completed() is not None for job in jobs)
                self.tell_interrupted(end, done, f"{len(jobs)} runs on new seeds")
                raise
        finish(place)
        send_rest([job.experiment for job in jobs])
        return jobs, left, ended

    def _show(self, study: SharedStudy, folder: Path, size: int) -> None:
        """Say what would be searched and tried first, and train nothing."""
        from vicinal.jobs import dry_run
        from vicinal.jobs.run import check_cuts, name_ineffective_keys
        from vicinal.report import terminal

        study.look()
        settings, trials = self._settings, study.trials()
        done, most = sum(trial.done for trial in trials), settings.trials
        left = min(size, most - sum(not trial.warm for trial in trials))
        trials = [trial for trial in trials if trial.state == "running"] or study.propose(left, self._known)
        self._add(trials)
        jobs = [job for trial in trials for job in self._jobs[trial.number]]
        check_cuts(job.experiment for job in [self._baseline, *self._probes, *jobs])
        name_ineffective_keys(job.experiment for job in jobs)
        rows = [[axis.key, axis.shown] for axis in self._axes]
        terminal.show([terminal.Grid("The space", ["key", "values"], ["values"], rows)], notes=())
        way = "largest" if self._goal.higher else "smallest"
        pace = f"{settings.sampler}, {size} at a time; {done} are done"
        print(f"the {way} {self._goal.name} of {most} trials by {pace}")
        print(f"folder: {folder}")
        for reason in self._refused.values():
            print(f"a point that will be refused: {reason}")
        if jobs:
            print("next:")
            dry_run.show([*{job.experiment.run_id: job for job in jobs}.values()])

    def _known(self) -> Sequence[Known]:
        """Return the points that a new search begins with."""
        from vicinal.launch.warm_start import known_points

        if not self._settings.warm_start:
            return []
        return known_points(self._baseline.experiment.folder.path.parent, self._axes, self._goal, self._jobs_of)

    def _probed(self) -> list[Job]:
        """Compose and check the ends of each axis, and the last seed: no mistake comes up after a night."""
        from vicinal.launch import grid
        from vicinal.launch.search import goal

        points = [[*self._fixed, f"{axis.key}={text}"] for axis in self._axes for text in axis.probes]
        last = self._baseline.experiment.seed + self._settings.seeds + self._settings.confirm - 1
        points += self._words({}, [last])
        jobs = list(self.compose(points, self._swept))
        grid.check_tasks([self._baseline, *jobs])
        for job in jobs:
            goal(self._settings, job.experiment)
        return jobs

    def _jobs_of(self, values: Mapping[str, str]) -> list[Job]:
        """Return the runs of a point, one per seed. Raises what its config is refused with."""
        first = self._baseline.experiment.seed
        return list(self.compose(self._words(values, range(first, first + self._settings.seeds)), self._swept))

    def _words(self, values: Mapping[str, str], seeds: Iterable[int]) -> list[list[str]]:
        fixed = [word for word in self._fixed if word.lstrip("+").partition("=")[0] != "seed"]
        return [[*(f"{key}={text}" for key, text in values.items()), *fixed, f"seed={seed}"] for seed in seeds]

    def _add(self, trials: Iterable[Trial]) -> None:
        """Compose and check the runs of trials, each once."""
        from vicinal.config.error_messages import explain, is_mistake

        for trial in trials:
            if trial.number in self._jobs:
                continue
            try:
                self._jobs[trial.number] = self._jobs_of(trial.values)
            except Exception as error:
                if isinstance(error, OSError) or not is_mistake(error):
                    raise
                self._jobs[trial.number], self._refused[trial.number] = [], explain(error)

    def _record(self, study: SharedStudy, folder: Path, confirmed: bool = False) -> None:
        from vicinal.launch.search import write_record

        baseline, settings = self._baseline.experiment, self._settings
        with study.alone():  # else an older record of another process may replace a newer one
            write_record(folder, baseline, self._axes, settings, self._goal, study.trials(), study.best(), confirmed)

    def _at_a_time(self, packing: Packing | None) -> int:
        from vicinal.launch.search import CLUSTER_POINTS

        if (asked := self._settings.at_a_time) != AUTO:
            return int(asked)
        if packing is not None:
            return max(1, packing.jobs // self._settings.seeds)
        return 1 if self.launches(BasicLauncher) else CLUSTER_POINTS

    @property
    def _swept(self) -> list[str]:
        return [axis.key for axis in self._axes]
