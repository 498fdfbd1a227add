"""Figures as PNG files: readable by the colour-blind, and the same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from PIL import Image

from vicinal.report.figure_types import COLORS

OWN, PARTNER = COLORS[:2]  # blue is a sample's own, vermilion its partner's, in images, masks and targets alike
INK, PALE = "#222222", "#767676"
STRATEGY_COLORS = {"none": INK, "input": OWN, "manifold": COLORS[2], "cutmix": PARTNER}
OTHER_COLOR = COLORS[3]  # colour of a strategy that is not in STRATEGY_COLORS
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


def write(file: Path, draw: Callable[[], Figure]) -> Path:
    """Draw a figure, whatever the user's own settings are, and write it as a PNG of at most 256 colours."""
    with matplotlib.style.context(STYLE, after_reset=True), io.BytesIO() as png:
        draw().savefig(png)
        pixels = Image.open(png).convert("RGB")
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True, dpi=(DPI, DPI))
    return file
