"""Decide how many jobs of a sweep run at once on one machine, and how many CPU threads each of them has."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

from vicinal.errors import ConfigError

log = logging.getLogger(__name__)

AUTO = "auto"
JOBS = "VICINAL_JOBS"  # environment variable of a worker: how many jobs run at once


class Packing(NamedTuple):
    jobs: int  # number of jobs at once
    threads: int  # most threads of a job whose ``trainer.threads`` is auto


def pack(
    asked: object,  # ``hydra.launcher.n_jobs``
    threads: Collection[int | str],  # ``trainer.threads`` of the jobs
    gpus: int,  # 0 on a CPU
    cores: int,  # available to this process
    own: int,  # most threads of a job that has the machine to itself
) -> Packing:
    """Divide the cores among the jobs, and warn if they are too few.

    "auto" is one job per GPU; on a CPU, where one thread per job is fastest, one job per core, or fewer where the jobs
    ask for several threads each. Raises ConfigError if ``n_jobs`` is neither auto nor an integer >= 1.
    """
    if asked != AUTO and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise ConfigError("hydra.launcher.n_jobs", asked, "must be auto or an integer >= 1")
    numbers = [number for number in threads if isinstance(number, int)]
    jobs = asked if isinstance(asked, int) else gpus or max(1, cores // max(numbers, default=1))
    packing = Packing(jobs, min(own, max(1, cores // jobs)))
    most = max(numbers, default=packing.threads)
    if not gpus and jobs > 1 and jobs * most > cores:
        log.warning(
            "hydra.launcher.n_jobs=%d with trainer.threads=%d: %d threads on %d cores wait for each other; "
            "hydra.launcher.n_jobs=auto fits the jobs to the cores",
            *(jobs, most, jobs * most, cores),
        )
    return packing
