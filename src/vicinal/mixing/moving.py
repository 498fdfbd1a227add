"""Move parts of a plan to another device."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")


def on_device(part: Part, device: torch.device) -> Part:
    """Return a dataclass with its tensors and movable parts on a device; the copies do not wait for it."""
    moved: dict[str, Any] = {}
    for field in fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = value.to(device, non_blocking=True)
        elif hasattr(value, "to"):
            moved[field.name] = value.to(device)
    return replace(part, **moved)  # type: ignore[type-var]
