"""Let a training step on a CPU reuse the memory that the last step has freed.

CPU time per step with it, relative to that without, of preact_resnet18 at width 16, batch 128, 32 pixels, two threads,
in 15 turns on a busy machine: 0.72 in bf16, 0.96 in fp32. To measure, run a training twice, once after
``export MALLOC_ARENA_TEST=8``, which turns it off, and compare ``images_per_second`` in ``result.json``.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3), in glibc's malloc.h


def retain_freed_memory() -> None:
    """Let the C library keep freed memory for this process, where it is glibc.

    By default glibc returns tensors of over 32 MiB, and the end of its heap, to the system at each step, and gets them
    back as pages of zeros that are filled on first touch. If the user has set its own variables, nothing changes.
    """
    if _ours():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def trim_malloc() -> None:
    """Return free memory to the system, so that a sweep does not keep what its largest job has needed."""
    if _ours():
        ctypes.CDLL(None).malloc_trim(0)


def _ours() -> bool:
    own = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    return platform.libc_ver()[0] == "glibc" and not own
