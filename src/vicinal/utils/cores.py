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
    variables = [int(value) for name in VARIABLES if (value := os.environ.get(name, "")).isdecimal()]
    return max(1, int(min([here, *_limits(), *variables])))


def is_shared() -> bool:
    """Return whether this process shares the machine with other jobs."""
    return SHARE in os.environ


def own_groups(controller: str) -> Iterator[Path]:
    """Yield this process's cgroups of a controller (version 2 or 1), and those that contain them."""
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)  # version 2 has no controllers here
            if controllers and controller not in controllers.split(","):
                continue
            mounts = (CGROUPS / controllers, CGROUPS / controller)
            root = next(filter(Path.is_dir, mounts), CGROUPS)
            folder = root / path.lstrip("/")
            for parent in (folder, *folder.parents):
                if parent.is_relative_to(root):
                    yield parent


def _limits() -> Iterator[float]:
    """Yield the CPU limits, in cores, of this process's cgroups."""
    for group in own_groups("cpu"):
        yield from _limit(group)


def _limit(folder: Path) -> Iterator[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # "max" is no limit, and neither is -1
            quota, period = map(int, " ".join((folder / name).read_text(encoding="utf-8") for name in names).split())
            if quota > 0:
                yield quota / period
