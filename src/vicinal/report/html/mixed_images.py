"""Mixed images as the networks saw them, from the run folders."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from vicinal.runs import mixed_sheet
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder

IMAGES_PER_CELL = 8


Image = tuple[str, str]  # A ``data:`` URL and a caption


def collect(folders: Mapping[str, Sequence[Path]]) -> dict[str, Sequence[Image]]:
    """Return the images of the first run with some of each cell, from {label of the cell: folders of its runs}."""
    return {label: images for label, runs in folders.items() if (images := _first(runs))}


def _first(folders: Sequence[Path]) -> Sequence[Image]:
    for sheet in (RunFolder(folder).mixed for folder in folders):
        try:
            return _read(sheet, sheet.lstat().st_mtime_ns)
        except (OSError, DamagedError):  # missing, or not what was written
            continue
    return ()


@lru_cache(maxsize=256)
def _read(sheet: Path, modified: int) -> tuple[Image, ...]:
    """Read images from all over the sheet, so that several batches, and lambdas, are seen."""
    rows = mixed_sheet.read(sheet, IMAGES_PER_CELL)
    return tuple((f"data:image/png;base64,{base64.b64encode(png).decode()}", text) for png, text in rows)
