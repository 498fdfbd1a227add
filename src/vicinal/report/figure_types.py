"""Pictures as data: panels of series of numbers. ``matplotlib_plots`` draws them as files, ``html`` in a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours of Okabe and Ito, which colour-blind readers can tell apart, without black, for dark pages."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")


def shorten(text: str, most: int) -> str:
    """Cut the middle of a label longer than ``most`` characters: names that begin alike differ at the end."""
    return text if len(text) <= most else f"{text[: (most + 1) // 2 - 1]}…{text[-(most // 2) :]}"


@dataclass(frozen=True)
class Style:
    """Look of one cell or line, the same in all pictures; markers and dashes have matplotlib's names."""

    color: str
    marker: str
    dash: str


@dataclass(frozen=True)
class Series:
    """Points with one entry in the legend.

    ``line``: points joined, with their intervals as a band; ``curve``: the same of many points; ``level``: the same
    value at every x; ``dots``: points that are not joined, with whiskers; ``bound``: best possible values of the curve
    of the same name. Intervals are empty if there are none, and NaN at a point that has none.
    """

    name: str
    style: Style
    kind: Literal["line", "curve", "level", "dots", "bound"]
    x: tuple[float, ...]  # fractions, numbers or places of categories
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    x_low: tuple[float, ...] = ()
    x_high: tuple[float, ...] = ()
    hover: tuple[str, ...] = ()  # one line per point, shown above its numbers
    shown: bool = True  # at first


@dataclass(frozen=True)
class Axis:
    title: str
    percent: bool = False
    log: bool = False
    whole: bool = False  # whether all values are whole numbers
    ticks: tuple[tuple[float, str], ...] = ()  # (place, text); empty leaves them to the library
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
