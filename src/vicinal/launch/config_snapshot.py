"""A sweep's own copy of the configs, so that a file edited while it runs cannot change its later jobs."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.errors import UserError

if TYPE_CHECKING:
    from vicinal.config.composition import Seen


def contents(folder: Path) -> dict[str, bytes]:
    """All files below ``folder`` by their names in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(files: Mapping[str, bytes]) -> str:
    """Ten hex digits of a hash over the names and the contents of files."""
    total = hashlib.sha256()
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:10]


def freeze(seen: Mapping[str, Seen], folder: Path) -> Path:
    """Write the files that a sweep has seen into ``folder/conf-<digest>``, unless they are there already.

    The copy appears whole or not at all, so several processes may run the same sweep.

    Args:
        seen: by their names in the copy.
        folder: in which the copy is made.

    Raises:
        UserError: a file has been edited since, or the copy that is there has been.
    """
    for each in seen.values():
        if not each.path.is_file() or each.path.read_bytes() != each.content:
            raise UserError(f"{each.path} was edited while the sweep was checked: start it again")
    files = {name: each.content for name, each in seen.items()}
    frozen = folder / f"conf-{digest(files)}"
    partial = folder / f"{frozen.name}-{uuid.uuid4().hex}.partial"
    try:
        for name, content in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        try:
            partial.rename(frozen)
        except OSError:  # a folder that is not empty is not replaced
            if not frozen.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if contents(frozen) != files:
        raise UserError(f"{frozen} is not the copy any more that it was: remove it")
    return frozen
