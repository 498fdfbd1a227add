"""The Python files that a number depends on, each by its hash: so code that is not that of a result can be named."""

from __future__ import annotations

import hashlib
import json
import pydoc
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
COMPUTING = ("data", "mixing", "models", "training", "components.py", "experiment.py", "session.py")
"""Of the package. What is left reads, shows, reports or launches, and changes no number."""
VERSIONED = ("torch", "torchvision")
"""Packages whose version is recorded, and stands for their files."""
SHOWN = 4


@cache
def sources(targets: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash of each file that computes, by its name such as ``vicinal/mixing/laws.py``.

    Args:
        targets: dotted names of components, as ``_target_`` has them; the file of each that is not in this package
            counts too.
    """
    found = {}
    for name in COMPUTING:
        place = PACKAGE / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found[file.relative_to(PACKAGE.parent).as_posix()] = file
    for target in targets:
        module = getattr(pydoc.locate(target), "__module__", None) or ""
        if module.partition(".")[0] not in (PACKAGE.name, *VERSIONED):
            own = getattr(sys.modules.get(module), "__file__", None)
            if own is not None and Path(own).is_file():
                found[f"{module.replace('.', '/')}.py"] = Path(own)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:10] for name, file in sorted(found.items())}


def digest(files: Mapping[str, str]) -> str:
    """One hash for all of them, ten hex digits."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:10]


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of the files that differ, the first few of them; empty if none does."""
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
