"""Move parts of a plan to another device."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Part = TypeVar("Part")


def on_device(part: Part, device: torch.device) -> Part:
    """Return a dataclass with its tensors and movable parts on a device; the copies do not wait for it.

    Those in tuples, lists and dictionaries too.
    """
    moved = {field.name: _moved(getattr(part, field.name), device) for field in fields(part)}  # type: ignore[arg-type]
    return replace(part, **moved)  # type: ignore[type-var]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, tuple | list | dict):
        return tree_map(partial(_moved, device=device), value)
    return value
