"""``hydra/launcher=ray``: each run of a sweep as a task of Ray, on this machine or on a cluster.

Hydra imports this file at every start, so heavy imports wait until runs are launched.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.vicinal_launcher import check_keys, failed, names, plain, run_in_worker, whole
from vicinal.errors import ConfigError, UserError, first_line
from vicinal.launch.packing import JOBS
from vicinal.utils.cores import SHARE

log = logging.getLogger(__name__)

NAME = "hydra/launcher=ray"


class RayLauncher(Launcher):
    """The runs of a sweep as tasks of Ray, which goes on elsewhere with those whose worker or node is lost.

    A run that cannot go on costs nothing but itself.

    Args:
        address: of the cluster; null starts a Ray of the command's own on this machine.
        num_cpus: cores of a run.
        num_gpus: GPUs of a run, perhaps a part of one; null is none.
        max_retries: times that a run goes on after its worker or node was lost.
        retry_exceptions: count a run that has failed as lost.
        runtime_env: Ray's, for its workers.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(
        self,
        address: str | None = None,
        num_cpus: int = 1,
        num_gpus: float | None = None,
        max_retries: int = 5,
        retry_exceptions: bool = False,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus
        self.max_retries, self.retry_exceptions = max_retries, retry_exceptions
        self.runtime_env = plain(runtime_env)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @staticmethod
    def check(launcher: DictConfig) -> None:
        """Raise UserError if there is no Ray, if a key has a wrong value, or if no node has room for a run."""
        if not find_spec("ray"):
            raise UserError(f"{NAME} needs ray: pip install -e '.[ray]'")
        _check_values(launcher)
        from vicinal.launch import ray_cluster

        ray_cluster.prepare(launcher.max_retries)
        _check_runtime_env(plain(launcher.runtime_env))
        nodes = ray_cluster.ask(launcher.address) if launcher.address else [ray_cluster.local_node()]
        ray_cluster.check_room(nodes, launcher.num_cpus, launcher.num_gpus or 0)
        if not launcher.num_gpus and any(node.gpus for node in nodes):
            log.warning("hydra.launcher.num_gpus=null: the runs train on CPUs, although there are GPUs")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        import cloudpickle  # Hydra's resolvers are functions inside functions

        from vicinal.launch import ray_cluster
        from vicinal.launch.ray_tasks import Tasks
        from vicinal.launch.ray_worker import Setup

        setup_globals()
        hydra = self.config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        ray_cluster.prepare(self.max_retries)
        nodes = ray_cluster.connect(self.address, self.runtime_env)
        gpus = self.num_gpus or 0
        ray_cluster.check_room(nodes, self.num_cpus, gpus)
        able = ray_cluster.able(nodes, self.num_cpus, gpus)
        places, count = sum(node.places(self.num_cpus, gpus) for node in able), len(job_overrides)
        log.info("Ray: %d runs on %d nodes, %d at a time", count, len(able), min(places, count))
        job = partial(run_in_worker, self.hydra_context, self.task_function, self.config, Singleton.get_state())
        numbers = range(initial_job_idx, initial_job_idx + count)
        calls = [
            (name or "run", number, list(own))
            for name, number, own in zip(names(job_overrides), numbers, job_overrides, strict=True)
        ]
        options = {
            "num_cpus": self.num_cpus,
            "num_gpus": gpus,
            "max_retries": self.max_retries,
            "retry_exceptions": self.retry_exceptions,
        }
        outcomes: dict[int, JobReturn] = {}
        with ray_cluster.placed(str(self.config.output_dir), self._environment()) as place:
            ray_cluster.check_place(able, place)
            with Tasks(Setup(place, bool(gpus), self.retry_exceptions, cloudpickle.dumps(job)), options) as tasks:
                for index, outcome in tasks.do(calls):
                    words = calls[index][2]
                    outcomes[index] = self._failed(words, outcome) if isinstance(outcome, str) else outcome
        return [outcomes[index] for index in range(count)]

    def _failed(self, words: list[str], reason: str) -> JobReturn:
        return failed(self.hydra_context, self.config, words, reason)

    def _environment(self) -> dict[str, str]:
        """Return the variables of the runs."""
        shared = {JOBS: str(math.floor(1 / self.num_gpus))} if self.num_gpus and self.num_gpus < 1 else {}
        return {**os.environ, SHARE: str(self.num_cpus), **shared, **self.runtime_env.get("env_vars", {})}


def _check_values(launcher: DictConfig) -> None:
    values = plain(launcher)
    address, gpus = values["address"], values["num_gpus"]
    place = isinstance(address, str) and address not in ("", "local")
    part = isinstance(gpus, float) and (0 < gpus < 1 or (gpus >= 1 and gpus.is_integer()))
    some = part or whole(gpus, 1)
    rules = (
        ("address", address is None or place, "must be null, auto or an address"),
        ("num_cpus", whole(values["num_cpus"], 1), "must be an integer >= 1"),
        ("num_gpus", gpus is None or some, "must be null, between 0 and 1, or an integer >= 1"),
        ("max_retries", whole(values["max_retries"], -1), "must be an integer >= 0, or -1 for no limit"),
        ("retry_exceptions", isinstance(values["retry_exceptions"], bool), "must be true or false"),
        ("runtime_env", isinstance(values["runtime_env"], dict), "must be a mapping"),
    )
    check_keys(values, rules)


def _check_runtime_env(runtime_env: dict[str, Any]) -> None:
    """Let Ray check what it alone knows."""
    if runtime_env:
        from ray.runtime_env import RuntimeEnv

        try:
            RuntimeEnv(**runtime_env)
        except Exception as error:  # of several types
            raise ConfigError("hydra.launcher.runtime_env", runtime_env, first_line(error)) from error
