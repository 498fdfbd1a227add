"""The identity of a run: the same request has the same one, wherever and whenever it is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def cell_id(effective: Mapping[str, Any]) -> str:
    """Return ten hex digits of a hash of all that can change a result, except the seed.

    Args:
        effective: plain containers, typed (1 and 1.0 are the same float), keys without effect left out.
    """
    canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def run_id(cell: str, seed: int) -> str:
    return f"{cell}-s{seed}"
