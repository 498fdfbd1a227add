"""What a picture is: panels of series, as numbers. They are drawn as files by ``plots``, in a browser by ``plotly``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Okabe and Ito's colours, told apart by the colour-blind too; their black is left out for pages that are dark."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Style:
    """One cell or strategy, in all pictures alike; the names are matplotlib's."""

    color: str
    marker: str
    dash: str


@dataclass(frozen=True)
class Series:
    """What has one entry in the legend.

    Attributes:
        kind: ``line``, points joined, with their intervals as a band; ``curve``, likewise of many points; ``level``,
            the same at every x; ``dots``, points that are not joined, with whiskers; ``bound``, a curve that the one
            of the same name cannot be expected to pass.
        x: of the points; a fraction, a number or the place of a category.
        low, high: ends of the interval in y; empty where there is none, NaN at a point that has none.
        x_low, x_high: likewise in x.
        hover: a line a point, on top of the numbers.
        shown: False for what one has to ask for.
    """

    name: str
    style: Style
    kind: Literal["line", "curve", "level", "dots", "bound"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    x_low: tuple[float, ...] = ()
    x_high: tuple[float, ...] = ()
    hover: tuple[str, ...] = ()
    shown: bool = True


@dataclass(frozen=True)
class Axis:
    title: str
    percent: bool = False
    log: bool = False
    whole: bool = False
    """There is nothing between its whole numbers."""
    ticks: tuple[tuple[float, str], ...] = ()
    """(place, text); empty leaves them to the library."""
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    x: Axis
    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Picture:
    """Panels that share a legend. ``name`` is that of its files."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
