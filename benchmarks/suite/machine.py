"""The measured machine and software, without names of hosts, users or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import datetime
from typing import Any

import torch

from vicinal.config.schema import TrainerConfig
from vicinal.runs.environment import code, describe
from vicinal.training.hardware import resolve

PEERS = ("torchvision", "timm", "kornia", "pillow")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Return hardware and versions; they are the same for all parts of one file."""
    device, precision = resolve(TrainerConfig(threads=1)).device, resolve(TrainerConfig(threads=1)).precision
    about = describe(device, precision, cores())
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "device": device.type,
        "device_name": about["device_name"],
        "cores": cores(),
        "cpu_capabilities": sorted(name for name, there in capabilities.items() if there is True),
        "precision": precision,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {**about["versions"], **{name: _version(name) for name in PEERS}},
    }


def moment() -> dict[str, Any]:
    """Return the time and the code of one part; ``changed`` if the code is not what was committed."""
    commit, changes = code()
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"date": now, "commit": commit, "changed": bool(changes)}


def slug(about: dict[str, Any]) -> str:
    """Return the name of the file: ``amd-epyc-2-cores-torch-2.15.0``."""
    name = re.sub(r"\((r|tm|c)\)|\b(cpu|processor)\b|@.*|\d+-core", " ", about["device_name"].lower())
    count = f"{about['cores']}-cores"
    torch_version = str(about["versions"]["torch"]).partition("+")[0]
    return "-".join([*re.findall(r"[a-z0-9]+", name), count, "torch", torch_version])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
