"""What is said of several runs: each remark once, with the number of runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def summarise(remarks: Iterable[tuple[Path, str]]) -> list[str]:
    """Return a line per remark, given the folders of runs and what is to be said of each.

    A remark that begins with the path of a file in its folder is the same one for that file of another run.
    """
    folders: dict[tuple[str, str], list[Path]] = {}
    for folder, text in remarks:
        inside = f"{folder}{os.sep}"
        link = os.sep if text.startswith(inside) else ": "
        folders.setdefault((link, text.removeprefix(inside)), []).append(folder)
    return [
        f"{of[0]}{link}{remark}" if len(of) == 1 else f"{len(of)} runs, such as {of[0]}: {remark}"
        for (link, remark), of in folders.items()
    ]
