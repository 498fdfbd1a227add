"""Count the cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
SHARE = "VICINAL_CORES"
"""Environment variable with the cores that a process may use of a machine that it shares, as parallel jobs do."""
VARIABLES = ("SLURM_CPUS_PER_TASK", SHARE)


def usable_cores() -> int:
    """Return the smallest of the machine's cores, affinity, cgroup limits and what variables allow; at least 1."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([here, *_limits(), *_variables()])))


def is_shared() -> bool:
    """Return whether this process has a share of the machine, beside other jobs."""
    return SHARE in os.environ


def _variables() -> Iterator[int]:
    for name in VARIABLES:
        with suppress(KeyError, ValueError):
            yield int(os.environ[name])


def _limits() -> Iterator[float]:
    """Yield the CPU limits, in cores, of this process's cgroups (version 2 or 1) and of those that contain them."""
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            mounted = CGROUPS / controllers if (CGROUPS / controllers).is_dir() else CGROUPS / "cpu"
            root = mounted if controllers else CGROUPS
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(root):
                    yield from _limit(folder)


def _limit(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        yield int(quota) / int(period)  # "max" is no limit
    with suppress(OSError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        if int(quota) > 0:  # -1 is no limit
            yield int(quota) / int(period)
