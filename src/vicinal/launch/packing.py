"""How many jobs of a sweep run at once on one machine, and how many CPU threads each of them has."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from vicinal.errors import ConfigError

log = logging.getLogger(__name__)

AUTO = "auto"


@dataclass(frozen=True)
class Packing:
    """What a machine is divided into.

    Attributes:
        jobs: at once.
        threads: at most, of a job whose ``trainer.threads`` is auto.
    """

    jobs: int
    threads: int


def pack(asked: object, threads: Collection[int | str], gpus: int, cores: int, own: int) -> Packing:
    """Divide the cores among the jobs; one line is logged if they are too few for what is asked for.

    One thread a job is what a CPU does most with, so "auto" is as many jobs as there are cores, or fewer where the jobs
    ask for several threads each. On GPUs, whose memory the jobs share, it is one job a GPU.

    Args:
        asked: ``hydra.launcher.n_jobs``.
        threads: ``trainer.threads`` of the jobs.
        gpus: that the jobs will use; 0 on a CPU.
        cores: that this process may use.
        own: threads that a job would take at most by itself.

    Raises:
        ConfigError: ``n_jobs`` is neither auto nor an integer >= 1.
    """
    if asked != AUTO and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise ConfigError("hydra.launcher.n_jobs", asked, "must be auto or an integer >= 1")
    given = [each for each in threads if isinstance(each, int)]
    jobs = asked if isinstance(asked, int) else gpus or max(1, cores // max(given, default=1))
    found = Packing(jobs, min(own, max(1, cores // jobs)))
    most = max(given, default=found.threads)
    if not gpus and jobs > 1 and jobs * most > cores:
        log.warning(
            "hydra.launcher.n_jobs=%d with trainer.threads=%d: %d threads on %d cores wait for each other; "
            "hydra.launcher.n_jobs=auto fits the jobs to the cores",
            *(jobs, most, jobs * most, cores),
        )
    return found
