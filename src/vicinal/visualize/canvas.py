"""Figures as PNG files: readable by the colour-blind, and the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.report.figure_types import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN, PARTNER = COLORS[0], COLORS[1]
"""Blue is a sample's own, vermilion its partner's, in images, masks and targets alike."""
INK, PALE = "#222222", "#767676"
DPI = 120
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": DPI,
}


@contextmanager
def style() -> Iterator[None]:
    """Inside, figures look like those of this package, whatever a user's own settings are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def write(figure: Figure, file: Path) -> Path:
    """Write a PNG of at most 256 colours; its folder is made. The caller is inside :func:`style`."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    pixels = Image.fromarray(drawn).convert("RGB")
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True, dpi=(DPI, DPI))
    return file


def strategy_color(name: str) -> str:
    """The same in all pictures; of an option that is not ours, one that no other has."""
    known = {"none": INK, "input": COLORS[0], "manifold": COLORS[2], "cutmix": COLORS[1]}
    return known.get(name, COLORS[3])
