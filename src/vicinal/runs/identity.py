"""Who a run is: the same request has the same identity, wherever and whenever it is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def cell_id(effective: Mapping[str, Any]) -> str:
    """Ten hex digits of a hash of everything that can change a result, but the seed.

    Args:
        effective: plain containers, typed (1 and 1.0 are the same float), keys without effect left out.
    """
    canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def run_id(cell: str, seed: int) -> str:
    """A cell and a seed."""
    return f"{cell}-s{seed}"
