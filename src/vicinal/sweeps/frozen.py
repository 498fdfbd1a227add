"""A sweep's own copy of ``conf/``, so that a file edited while it runs cannot change its later jobs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from vicinal.errors import UserError


def digest(folder: Path) -> str:
    """Ten hex digits of a hash over the names and the contents of all files below ``folder``."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for part in (file.relative_to(folder).as_posix().encode(), file.read_bytes()):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:10]


def freeze(source: Path, folder: Path, expected: str) -> Path:
    """Copy ``source`` to ``folder/conf-<digest>``, unless that is there already.

    The copy appears whole or not at all, so several processes may run the same sweep.

    Args:
        source: the folder to copy.
        folder: in which the copy is made.
        expected: the digest that ``source`` had when it was read.

    Raises:
        UserError: ``source`` has been edited since, or the copy that is there has been.
    """
    frozen = folder / f"conf-{expected}"
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=f"{frozen.name}-", suffix=".partial"))
    try:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        if digest(partial) != expected:
            raise UserError(f"{source} was edited while the sweep was checked: start it again")
        try:
            partial.rename(frozen)
        except OSError:  # a folder that is not empty is not replaced
            if not frozen.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if digest(frozen) != expected:
        raise UserError(f"{frozen} is not the copy of {source} any more that it was: remove it")
    return frozen
