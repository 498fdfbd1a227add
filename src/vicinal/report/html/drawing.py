"""Figures as SVG: positions, ticks and paths, which the templates draw in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from vicinal.report.figure_types import Axis, Panel, Picture, Series, shorten

WIDTH, MIN_HEIGHT, ROW_HEIGHT = 400, 260, 20
"""Size of a panel and height of a row of categories, in units of the drawing, which are about pixels."""
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 40  # margins, in the same units
CHARACTER_WIDTH = 6  # of a category's label, in the same units
MAX_MARKERS = 6  # markers on a curve
MAX_LABEL_CHARACTERS = 24  # length of a category's label: a phone has no room for more. The tooltip has the whole name.
Ticks = list[tuple[str, str]]  # (position, text)
Scale = Callable[[float], float]


@dataclass(frozen=True)
class DrawnSeries:
    """A series in units of the drawing."""

    series: Series  # itself
    index: int  # of its name in the legend
    line: str  # path through all points, also where it is not drawn; the tooltip reads the positions from it
    band: str  # path around the intervals of a line
    whiskers: str  # path of the intervals of single points
    markers: list[tuple[str, str]]  # positions
    values: dict[str, Any]
    """Labels of the points (one if all are the same) and, for ``x`` and ``y``, the numbers and the ends of their
    intervals without rounding, as JSON can hold them: for tooltips."""


@dataclass(frozen=True)
class DrawnPanel:
    """A panel in units of the drawing; its data area reaches from ``left`` to ``right`` and ``top`` to ``bottom``."""

    panel: Panel
    height: float
    left: float
    bottom: float
    x_ticks: Ticks
    y_ticks: Ticks
    series: list[DrawnSeries]
    width: float = WIDTH
    right: float = WIDTH - RIGHT
    top: float = TOP

    @property
    def axes(self) -> dict[str, dict[str, Any]]:
        """The axes whose values a tooltip gives: where ticks have names, the point's own label says it."""
        axes = {"x": self.panel.x, "y": self.panel.y}
        return {name: {"title": axis.title, "percent": axis.percent} for name, axis in axes.items() if not axis.ticks}


@dataclass(frozen=True)
class Figure:
    """A picture, the first series of each name in its legend, and its panels."""

    picture: Picture
    legend: list[Series]
    panels: list[DrawnPanel]


def figure(picture: Picture) -> Figure:
    """Lay out the panels of a picture."""
    legend: dict[str, Series] = {}
    for series in (series for panel in picture.panels for series in panel.series):
        legend.setdefault(series.name, series)
    names = list(legend)
    return Figure(picture, list(legend.values()), [_panel(panel, names) for panel in picture.panels])


def _panel(panel: Panel, names: list[str]) -> DrawnPanel:
    left = LEFT + max(
        (CHARACTER_WIDTH * (len(shorten(text, MAX_LABEL_CHARACTERS)) - 6) for _, text in panel.y.ticks), default=0
    )
    height = max(MIN_HEIGHT, ROW_HEIGHT * len(panel.y.ticks) + TOP + BOTTOM)
    bottom = height - BOTTOM
    across = [value for series in panel.series for value in (*series.x, *series.x_low, *series.x_high)]
    up = [value for series in panel.series for value in (*series.y, *series.low, *series.high)]
    x, x_ticks = _scale(panel.x, across, left, WIDTH - RIGHT)
    y, y_ticks = _scale(panel.y, up, bottom, TOP)
    series = [_series(series, names.index(series.name), x, y) for series in panel.series]
    shown = [(at, shorten(text, MAX_LABEL_CHARACTERS)) for at, text in y_ticks]
    return DrawnPanel(panel, height, left, bottom, x_ticks, shown, series)


def _series(series: Series, index: int, x: Scale, y: Scale) -> DrawnSeries:
    points = [(x(at), y(value)) for at, value in zip(series.x, series.y, strict=True)]
    step = math.ceil(len(points) / MAX_MARKERS) if series.kind == "curve" else 1
    labels = [f"{series.name}, at best"] if series.kind == "bound" else series.hover
    return DrawnSeries(
        series,
        index,
        line=_path(points),
        band="" if series.kind == "dots" else _band(series, x, y),
        whiskers=_whiskers(series, x, y) if series.kind == "dots" else "",
        # From the end: a curve that has only begun is a point.
        markers=[]
        if series.kind in ("level", "bound")
        else [(f"{a:.1f}", f"{b:.1f}") for a, b in points[::-1][::step]],
        values={
            "labels": labels if len(set(labels)) > 1 else labels[:1],
            "x": [_numbers(numbers) for numbers in (series.x, series.x_low, series.x_high)],
            "y": [_numbers(numbers) for numbers in (series.y, series.low, series.high)],
        },
    )


def _band(series: Series, x: Scale, y: Scale) -> str:
    """Return one polygon per stretch of points that have an interval."""
    points = zip(series.x, series.low, series.high, strict=False)
    paths = []
    for finite, group in groupby(points, lambda point: math.isfinite(point[1])):
        if finite:
            stretch = list(group)
            upper = [(x(at), y(high)) for at, _, high in stretch]
            lower = [(x(at), y(low)) for at, low, _ in reversed(stretch)]
            paths.append(f"{_path([*upper, *lower])}Z")
    return "".join(paths)


def _whiskers(series: Series, x: Scale, y: Scale) -> str:
    across = zip(series.y, series.x_low, series.x_high, strict=False)
    up = zip(series.x, series.low, series.high, strict=False)
    lines = [f"M{x(low):.1f} {y(at):.1f}H{x(high):.1f}" for at, low, high in across if math.isfinite(low)]
    lines += [f"M{x(at):.1f} {y(low):.1f}V{y(high):.1f}" for at, low, high in up if math.isfinite(low)]
    return "".join(lines)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON can hold them, short; [] if none is finite."""
    numbers = [None if not math.isfinite(value) else int(value) if value == int(value) else value for value in values]
    return numbers if any(number is not None for number in numbers) else []


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> tuple[Scale, Ticks]:
    """Return the map from values to positions between ``start`` and ``end``, and the ticks at their positions."""
    values = [value for value in values if math.isfinite(value)]
    if axis.percent:  # an interval may reach further, but no share does
        values = [min(max(value, 0.0), 1.0) for value in values]
    low, high = axis.ends or _limits(min(values), max(values), axis)
    transform = math.log if axis.log else float
    first, last = transform(low), transform(high)

    def position(value: float) -> float:
        value = min(max(value, low), high)
        return start + (transform(value) - first) / (last - first) * (end - start)

    return position, [(f"{position(value):.1f}", text) for value, text in axis.ticks or _ticks(low, high, axis)]


def _limits(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """Return limits with a little room; a single value is in the middle."""
    if axis.whole:
        return low - 0.3, max(high, low + 1) + 0.3
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float, axis: Axis) -> list[tuple[float, str]]:
    """Return three to eight round numbers."""
    raw = (high - low) / 7.5
    step = 10 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    step = max(step, 1) if axis.whole else step
    values = [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, f"{100 * value:.4g}%" if axis.percent else f"{value:.4g}") for value in values]
