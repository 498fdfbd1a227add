"""Mappings within mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(content: Mapping[str, Any], separator: str = "/") -> dict[str, Any]:
    """Return {"test": {"last": {"acc1": 0.98}}} as {"test/last/acc1": 0.98}."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        inside = flat(value, separator) if isinstance(value, Mapping) else None
        values |= {name: value} if inside is None else {f"{name}{separator}{key}": item for key, item in inside.items()}
    return values
