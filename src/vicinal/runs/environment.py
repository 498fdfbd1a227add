"""Describe what a result was made with: code, versions, hardware and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vicinal.config.redaction import redact_code, redacted
from vicinal.runs.source import changed, digest, few, sources
from vicinal.utils.escaping import visible

PACKAGES = ("vicinal", "torch", "torchvision", "hydra-core", "omegaconf", "wandb", "numpy", "pillow", "scikit-learn")
AMPERE = (8, 0)  # compute capability of the first GPUs with TF32
FORCED = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"  # makes torch's products of matrices TF32, whatever its settings say
DECIDING = ("torch", "torchvision", "numpy", "pillow", "transformers", "tokenizers", "timm")
"""The packages whose version can change a number; the last three are recorded where a run uses them."""
LONGEST_DIFF = 2**18  # characters of a recorded diff; the rest is left out
_HEX = "[0-9a-f]" * 10
OUTPUTS = (
    f":(exclude,glob)**/runs/*-{_HEX}-s*/**",
    f":(exclude,glob)**/sweeps/*-{_HEX}/**",
    ":(exclude,glob)**/reproductions/*-again*/**",
)
"""Patterns for git that exclude files of runs, sweeps and reproductions, in any ``output_dir``."""


def describe(
    device: torch.device, precision: str, threads: int, targets: tuple[str, ...] = (), packages: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the content of ``environment.json`` for a session of a run with these components, without secrets.

    ``packages`` are those that its components need beside :data:`PACKAGES`.
    """
    commit, diff = code()
    files = sources(targets)
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        **({"slurm": job} if (job := slurm_job(os.environ)) else {}),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": redacted(sys.argv),
        "git": {"commit": commit, "diff": redact_code(diff)},
        "python": platform.python_version(),
        "versions": versions(packages),
        "platform": platform.platform(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "cpus": os.cpu_count(),
        "precision": precision,
        **numerics(device),
        "threads": threads,
        "source": digest(files),
        "sources": files,
    }


def fixed(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a result's last bits, from the content of ``environment.json`` or ``result.json``."""
    values = {**environment, **environment.get("hardware", {})}
    recorded = values["versions"].items()
    versions = {name: str(version).partition("+")[0] for name, version in recorded if name in DECIDING}
    tf32 = {"tf32": values["tf32"]} if "tf32" in values else {}  # of a GPU
    return {name: values[name] for name in ("device", "precision", "threads")} | tf32 | versions


def numerics(device: torch.device) -> dict[str, str]:
    """Return which operations on float32 a GPU does in TF32, whose mantissa has 10 bits: ``{"tf32": "convolutions"}``.

    That is torch's own default, which nothing here changes: convolutions in TF32, products of matrices in full float32.
    Other devices, and GPUs before Ampere, have no TF32: {}.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        return {}
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    kinds = {"matrix products": torch.backends.cuda.matmul, "convolutions": convolutions}
    used = [name for name, kind in kinds.items() if kind.fp32_precision == "tf32"]
    if os.environ.get(FORCED) == "1" and "matrix products" not in used:
        used.insert(0, "matrix products")
    return {"tf32": " and ".join(used) or "nothing"}


def differences(made: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the differences of two such descriptions in keys that both have, such as ``threads 1, then 2``."""
    return [f"{name} {made[name]}, then {here[name]}" for name in here if name in made and made[name] != here[name]]


def others(made: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the differences that change more than the last bits, such as ``other code (vicinal/mixing/laws.py)``.

    Both are {"code": {file: hash}, "data": {name: hash}}; a missing or empty part is no difference.
    """
    lines = []
    for part in ("code", "data"):
        then, now = made.get(part) or {}, here.get(part) or {}
        if part == "data":  # where only the files are here, or only the images, nothing can be compared
            then, now = ({name: hashes[name] for name in then.keys() & now.keys()} for hashes in (then, now))
        if then and now and (names := changed(then, now)):
            lines.append(visible(f"other {part} ({names})"))  # names that a stranger may have chosen
    return lines


def slurm_job(environment: Mapping[str, str]) -> dict[str, str]:
    """Return job, restarts, nodes and partition of the Slurm job that this process belongs to; {} outside of one."""
    names = {"job": "JOB_ID", "array_job": "ARRAY_JOB_ID", "array_task": "ARRAY_TASK_ID", "restarts": "RESTART_COUNT"}
    names |= {"nodes": "JOB_NODELIST", "partition": "JOB_PARTITION"}
    return {key: environment[f"SLURM_{name}"] for key, name in names.items() if f"SLURM_{name}" in environment}


@cache
def code() -> tuple[str | None, str]:
    """Return the commit of the checkout that this package runs from, and the diff to it; None and "" without git.

    The diff includes untracked Python and YAML files, as those of a new strategy, but no files of runs and sweeps. The
    last line of a diff that is too large names what is left out.
    """

    def git(*words: str, where: str, changes: bool = False) -> str:
        process = subprocess.run(["git", "-C", where, *words], capture_output=True, check=not changes)
        return process.stdout.decode(errors="replace")  # a diff has the encodings of the files

    try:
        root = git("rev-parse", "--show-toplevel", where=str(Path(__file__).parent)).strip()
        commit, diff = git("rev-parse", "HEAD", where=root).strip(), git("diff", "HEAD", where=root)
        listed = git("ls-files", "--others", "--exclude-standard", "-z", "*.py", "*.yaml", *OUTPUTS, where=root)
        left_out = [] if len(diff) <= LONGEST_DIFF else [f"{len(diff) - LONGEST_DIFF} characters"]
        diff = diff[:LONGEST_DIFF]
        for name in filter(None, listed.split("\0")):
            file = Path(root, name)
            if not file.is_file() or len(diff) + file.stat().st_size > LONGEST_DIFF:
                left_out.append(name)
                continue
            diff += git("diff", "--no-index", "/dev/null", name, where=root, changes=True)  # exits 1: they differ
        if left_out:
            diff += f"\nleft out, beyond {LONGEST_DIFF} characters: {few(left_out)}\n"
        return commit, diff
    except (OSError, subprocess.CalledProcessError):
        return None, ""


@cache
def versions(packages: tuple[str, ...] = ()) -> dict[str, str | None]:
    """Return the versions of the packages that a result depends on; None where one is not installed."""
    installed: dict[str, str | None] = dict.fromkeys((*PACKAGES, *packages))
    for name in installed:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


@cache
def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return name[1] if name else platform.processor()
