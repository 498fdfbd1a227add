"""Mixed images as the networks saw them, from the run folders into a page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from vicinal.report.html import layout
from vicinal.report.html.markup import Markup, element, join
from vicinal.runs import mixed_sheet
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder

SHOWN = 8
"""Images of a cell."""
WORDS = (
    "From left to right: an image, its partner, the mask (white: the image's own, black: its partner's) and what "
    "entered the network. Below: the weights of the two labels."
)
OPEN = 4
"""Cells whose images are seen at once; pages of large sweeps are long enough."""


def section(folders: Mapping[str, Sequence[Path]]) -> Markup | None:
    """Images of the first run of each cell that has some; None if there are none.

    Args:
        folders: {cell: those of its runs}.
    """
    found = {label: images for label, runs in folders.items() if (images := _first(runs))}
    if not found:
        return None
    cells = [_cell(label, images) for label, images in found.items()]
    rest = element("details", element("summary", f"and {len(cells) - OPEN} more"), *cells[OPEN:])
    content = join(element("p", WORDS), *cells[:OPEN], rest if cells[OPEN:] else None)
    return layout.section("Mixed images", content, identity="mixed")


def _cell(label: str, images: Sequence[Markup]) -> Markup:
    return element("div", element("h3", label), element("div", *images, class_="images"))


def _first(folders: Sequence[Path]) -> Sequence[Markup]:
    for sheet in (RunFolder(folder).mixed for folder in folders):
        try:
            return _images(sheet, sheet.lstat().st_mtime_ns)
        except (OSError, DamagedError):  # it is not there, or not what was written
            continue
    return ()


@lru_cache(maxsize=256)
def _images(sheet: Path, written: int) -> tuple[Markup, ...]:
    """Of a file as it was when it was ``written``."""
    # Evenly taken, so some of each batch: a lambda is of a batch.
    return tuple(_image(png, caption) for png, caption in mixed_sheet.read(sheet, SHOWN))


def _image(png: bytes, caption: str) -> Markup:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return element("figure", element("img", src=source, alt=""), element("figcaption", caption))
