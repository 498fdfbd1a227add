"""How much memory this process may use."""

import math
import os
from contextlib import suppress

from vicinal.utils.cores import own_groups

LIMITS = ("memory.max", "memory.limit_in_bytes")  # of cgroups, version 2 and 1


def usable_memory() -> float:
    """Return the bytes of the machine's memory, or of the smallest cgroup limit; infinite where none is told."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for group in own_groups("memory"):
        for name in LIMITS:
            with suppress(OSError, ValueError):  # "max" is no limit
                limits.append(int((group / name).read_text(encoding="utf-8")))
    return min(limits)
