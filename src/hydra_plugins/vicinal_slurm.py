"""``hydra/launcher=slurm``: each run of a sweep, or a few of them, as a job of a Slurm array, through submitit.

Hydra imports this file at every start, so heavy imports wait until jobs are launched.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.vicinal_launcher import check_keys, failed, plain, run_in_worker, whole
from vicinal.errors import ConfigError, UserError, first_line
from vicinal.launch import local_disk, slurm
from vicinal.launch.slurm_task import Task

if TYPE_CHECKING:
    from submitit import Job

log = logging.getLogger(__name__)

NAME = "hydra/launcher=slurm"
FILE_SECONDS, QUEUE_SECONDS = 1.0, 10.0  # between two looks for results, and two questions to Slurm
PYTHON = f"""bash -c 'trap "" TERM; exec "$0" "$@"' {shlex.quote(sys.executable)}"""
"""Python that SIGTERM does not end before the run can handle it: Slurm requeues only what it has killed itself."""
OWN = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "nodes", "mem_gb")
"""Resources that submitit has under these names for every kind of cluster."""


class SlurmLauncher(Launcher):
    """The runs of a sweep as jobs of a Slurm array, which are followed until all have ended.

    A job that is cancelled, killed or lost costs its own runs alone. What is in the queue already, from an earlier
    command for the same sweep, is followed and not submitted again.

    Args:
        submitit_folder: of the jobs' logs.
        max_num_timeout: times that a job whose time is up is put back into the queue.
        runs_per_job: runs that one job does, one after the other.
        wait: follow the jobs to their end; else leave when they are submitted.
        resources: of a job, and other parameters of submitit; null is Slurm's default.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(
        self,
        submitit_folder: str = "slurm",
        max_num_timeout: int = 100,
        runs_per_job: int = 1,
        wait: bool = True,
        **resources: Any,
    ) -> None:
        self.folder, self.max_num_timeout = submitit_folder, max_num_timeout
        self.runs_per_job, self.wait = runs_per_job, wait
        self.resources = {str(key): value for key, value in plain(resources).items() if value is not None}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @staticmethod
    def check_values(launcher: DictConfig) -> None:
        """Raise UserError for a key with a wrong value, as far as it can be told without a Slurm."""
        folder = OmegaConf.to_container(launcher, resolve=False)["submitit_folder"]  # type: ignore[call-overload, index]
        values = plain(OmegaConf.masked_copy(launcher, [str(key) for key in launcher if key != "submitit_folder"]))
        values["submitit_folder"] = folder  # in that of the sweep, which has none yet
        at_least = {"runs_per_job": 1, "timeout_min": 1, "tasks_per_node": 1, "nodes": 1, "array_parallelism": 1}
        at_least |= {"max_num_timeout": 0, "signal_delay_s": 0}
        setup, flags, more = values["setup"], values["srun_args"], values["additional_parameters"]
        lines = isinstance(setup, list) and all(isinstance(line, str) for line in setup)
        rules = (
            *((key, whole(values[key], least), f"must be an integer >= {least}") for key, least in at_least.items()),
            ("wait", isinstance(values["wait"], bool), "must be true or false"),
            ("submitit_folder", isinstance(folder, str), "must be a folder"),
            ("setup", setup is None or lines, "must be null or a list of lines"),
            ("srun_args", flags is None or isinstance(flags, list), "must be null or a list of flags"),
            ("additional_parameters", more is None or isinstance(more, dict), "must be null or a mapping"),
        )
        check_keys(values, rules)
        if values["signal_delay_s"] >= (most := 60 * values["timeout_min"]):
            whole_time = f"must be < {most}, the seconds of hydra.launcher.timeout_min: a job would save at its start"
            raise ConfigError("hydra.launcher.signal_delay_s", values["signal_delay_s"], whole_time)

    @classmethod
    def check(cls, launcher: DictConfig) -> None:
        """Raise UserError if there is no Slurm here, no submitit, or if Slurm would refuse such a job."""
        if not find_spec("submitit"):
            raise UserError(f"{NAME} needs submitit: pip install -e '.[slurm]'")
        if not shutil.which("sbatch"):
            raise UserError(f"{NAME}: there is no sbatch here; run this on a login node of the cluster")
        own = cls(**{str(key): launcher[key] for key in launcher if key not in ("_target_", "submitit_folder")})
        if reason := own._refusal():
            asked = " ".join(f"hydra.launcher.{key}={value}" for key, value in own.resources.items())
            raise UserError(f"{NAME}: such a job is refused ({reason}); asked for: {asked}")

    def _refusal(self) -> str:
        """Return why submitit or Slurm would refuse a job; "" if they would take it."""
        try:
            script = self._executor("check")._executor._make_submission_file_text("true", "check")
        except Exception as error:  # of several types
            return first_line(error)
        return slurm.refusal(script)

    def _executor(self, name: str) -> Any:
        import submitit

        own = {"slurm_max_num_timeout": self.max_num_timeout, "slurm_python": PYTHON}
        executor = submitit.AutoExecutor(self.folder, cluster="slurm", **own)
        given = {key if key in OWN else f"slurm_{key}": value for key, value in self.resources.items()}
        # When one process of a run dies, the others would wait for it until the time of the job is up.
        given["slurm_srun_args"] = ["--kill-on-bad-exit=1", *given.get("slurm_srun_args", [])]
        executor.update_parameters(name=name, stderr_to_stdout=True, **given)
        return executor

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from vicinal.launch.queue_states import only_submitter

        setup_globals()
        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it repeats each line three times
        sweep = Path(str(hydra.sweep.dir))
        warn_of_local_disk(Path(str(self.config.output_dir)))
        words = {_run_id(job): list(job) for job in job_overrides}
        with only_submitter(sweep):
            jobs, recorded = self._queued(sweep, words, initial_job_idx)
        ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs.values()))
        log.info("Slurm has %d runs in the jobs %s", len(jobs), ids)
        if not self.wait:
            log.info("the same command shows their results later (hydra.launcher.wait=false)")
            raise SystemExit(0)
        try:
            return self._follow(sweep, words, jobs, recorded)
        except (KeyboardInterrupt, SystemExit):
            log.warning("the jobs stay in Slurm's queue (scancel %s ends them); the same command follows them", ids)
            raise

    def _queued(
        self, sweep: Path, words: dict[str, list[str]], first: int
    ) -> tuple[dict[str, Job[Any]], dict[str, str]]:
        """Submit what is not in the queue. Return {run id: job} of these runs, and of all that were ever submitted."""
        from vicinal.launch import queue_states

        if (name := queue_states.unrecorded(sweep)) is not None:
            # They may lack the files that are written when sbatch has told their number.
            log.info("a command ended before it had recorded its jobs; those in the queue are cancelled: %s", name)
            if slurm.ask("scancel", f"--name={name}") is None:
                raise self._unknown("scancel")
        recorded = queue_states.submitted(sweep)
        jobs = self._attached(recorded, words)
        left = [run for run in words if run not in jobs]
        if jobs:
            log.info("%d of %d runs are in Slurm's queue already", len(jobs), len(words))
        if left:
            batches = [left[start : start + self.runs_per_job] for start in range(0, len(left), self.runs_per_job)]
            numbers = {run: first + place for place, run in enumerate(words)}
            name = queue_states.new_name(sweep, str(self.config.hydra.job.name))
            submitted = self._submitted(name, batches, words, numbers)
            earlier = {run: job for run, job in recorded.items() if run not in submitted}
            recorded = {**earlier, **{run: job.job_id for run, job in submitted.items()}}
            queue_states.record(sweep, recorded)
            jobs |= submitted
        return jobs, recorded

    @staticmethod
    def _unknown(command: str) -> UserError:
        reason = f"{command} does not answer, and jobs of an earlier command may be in the queue"
        return UserError(f"{NAME}: {reason}; the same command can be tried again")

    def _attached(self, recorded: dict[str, str], words: dict[str, list[str]]) -> dict[str, Job[Any]]:
        """Return {run id: job} of the runs that an earlier command has submitted and that are in the queue."""
        from submitit.slurm.slurm import SlurmJob

        if not recorded.keys() & words.keys():
            return {}
        queued = slurm.queue()
        if queued is None:
            raise self._unknown("squeue")
        tasks = range(int(self.resources.get("tasks_per_node", 1)) * int(self.resources.get("nodes", 1)))
        known: dict[str, Job[Any]] = {
            job: SlurmJob(self.folder, job, list(tasks)) for job in {*recorded.values()} if job in queued
        }
        return {run: known[job] for run, job in recorded.items() if run in words and job in known}

    def _submitted(
        self, name: str, batches: list[list[str]], words: dict[str, list[str]], numbers: dict[str, int]
    ) -> dict[str, Job[Any]]:
        executor = self._executor(name)
        job = partial(run_in_worker, self.hydra_context, self.task_function, self.config, Singleton.get_state())
        tasks = [Task(job, [(numbers[run], words[run]) for run in batch]) for batch in batches]
        try:
            with executor.batch():
                submitted = [executor.submit(task) for task in tasks]
        except Exception as error:  # of several types, with sbatch's own words
            raise UserError(f"{NAME}: the jobs could not be submitted ({first_line(error)})") from error
        for each in submitted:
            each.paths.folder.chmod(0o700)  # what is sent to the job has the config's secrets
        return {run: job for batch, job in zip(batches, submitted, strict=True) for run in batch}

    def _follow(
        self, sweep: Path, words: dict[str, list[str]], jobs: dict[str, Job[Any]], recorded: dict[str, str]
    ) -> list[JobReturn]:
        """Return the outcome of each run when all jobs have ended, and write the states of the others meanwhile."""
        from vicinal.launch.queue_states import Queue

        queue, outcomes = Queue(sweep, {run: job.job_id for run, job in jobs.items()}), dict[str, JobReturn]()
        while left := {run: job for run, job in jobs.items() if run not in outcomes}:
            queue.look(QUEUE_SECONDS)
            for job in dict.fromkeys(left.values()):
                runs = [run for run, its in recorded.items() if its == job.job_id]
                if job.task(0).paths.result_pickle.exists():
                    results = self._results(job) or [
                        self._failed(words[run], job.job_id, f"Slurm: the job has failed: {job.task(0).paths.stdout}")
                        for run in runs
                    ]
                    outcomes |= dict(zip(runs, results, strict=True))
                elif queue.is_gone(job.job_id):
                    reason = f"Slurm: {slurm.verdict(job.job_id) or 'the job has ended without a result'}"
                    outcomes |= {run: self._failed(words[run], job.job_id, reason) for run in runs if run in words}
            if len(outcomes.keys() & jobs.keys()) < len(jobs):
                time.sleep(FILE_SECONDS)
        return [outcomes[run] for run in words]

    def _results(self, job: Job[Any]) -> list[JobReturn]:
        """Return what the runs of a job have returned; [] if the job itself has failed."""
        try:
            results: list[JobReturn] = job.task(0).result()
        except Exception:  # of the job, or of its files; its log has it
            return []
        return results

    def _failed(self, words: list[str], job: str, reason: str) -> JobReturn:
        return failed(self.hydra_context, self.config, words, reason, job)


def warn_of_local_disk(output_dir: Path) -> None:
    """Warn of a folder that only this machine sees; on a cluster of one node it will do."""
    if kind := local_disk.local_type(output_dir):
        place = f"output_dir={output_dir} is on a file system of this machine alone ({kind})"
        log.warning("%s: jobs on other nodes need one that all share", place)


def _run_id(words: Sequence[str]) -> str:
    """Return the run's id in the last word of a job, which names its config; or all words, of another's sweeper."""
    from vicinal.launch.job_configs import WORD

    key, _, name = words[-1].partition("=")
    return name.rpartition("-")[0] if key == WORD else " ".join(words)
