"""The Slurm job that this process belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping


def own_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job that this process belongs to, such as ``7`` or ``7_1``; None outside of one."""
    if "SLURM_ARRAY_TASK_ID" in environment:  # the plain id of the last task is that of the whole array
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")
