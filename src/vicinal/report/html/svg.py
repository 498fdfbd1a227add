"""Pictures as SVG inside a page, in the page's own colours: for a page that is written again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vicinal.report.figure_types import Axis, Panel, Series
from vicinal.report.html.markup import Markup, element
from vicinal.report.html.plotly_json import SHAPES, STROKES, short

WIDTH, HEIGHT, ROW = 400, 260, 20
"""Units of a panel, about pixels, and of a row of categories."""
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 40
MARKS = 8
"""Most markers on a curve."""
Place = Callable[[float], float]


def draw(panel: Panel, words: str) -> Markup:
    """One panel.

    Args:
        panel: to draw.
        words: that say what it is, for who cannot see it.
    """
    shown = [series for series in panel.series if series.shown]
    left = LEFT + max((6 * len(short(text)) - 36 for _, text in panel.y.ticks), default=0)
    height = max(HEIGHT, ROW * len(panel.y.ticks) + TOP + BOTTOM)
    x, across = _scale(panel.x, [at for series in shown for at in _span(series, "x")], left, WIDTH - RIGHT)
    y, up = _scale(panel.y, [at for series in shown for at in _span(series, "y")], height - BOTTOM, TOP)
    return element(
        "svg",
        *(element("path", d=f"M{x(at):.1f} {TOP}V{height - BOTTOM}", class_="grid") for at, _ in across),
        *(element("path", d=f"M{left} {y(at):.1f}H{WIDTH - RIGHT}", class_="grid") for at, _ in up),
        *(_text(text, x(at), height - BOTTOM + 16, "middle") for at, text in across),
        *(_text(short(text), left - 6, y(at) + 4, "end") for at, text in up),
        _text(panel.x.title, (left + WIDTH - RIGHT) / 2, height - 6, "middle"),
        *(part for series in shown for part in _series(series, x, y)),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=words,
        class_="drawn",
    )


def _series(series: Series, x: Place, y: Place) -> list[Markup]:
    style, parts = series.style, []
    points = [(x(at), y(value)) for at, value in zip(series.x, series.y, strict=True) if math.isfinite(value)]
    if series.kind == "dots":
        ends = zip(series.y, series.x_low, series.x_high, strict=False)
        parts += [
            element("path", d=f"M{x(low):.1f} {y(at):.1f}H{x(high):.1f}", stroke=style.color)
            for at, low, high in ends
            if math.isfinite(low)
        ]
    else:
        band = [each for each in zip(series.x, series.low, series.high, strict=False) if math.isfinite(each[1])]
        if len(band) == 1:
            ((at, low, high),) = band
            parts.append(element("path", d=f"M{x(at):.1f} {y(low):.1f}V{y(high):.1f}", stroke=style.color))
        elif band:
            edge = [(x(at), y(high)) for at, _, high in band] + [(x(at), y(low)) for at, low, _ in reversed(band)]
            parts.append(element("path", d=f"{_path(edge)}Z", fill=style.color, class_="band"))
        thin = 1 if series.kind == "bound" else 2
        dash = STROKES[style.dash]
        parts.append(
            element("path", d=_path(points), fill="none", stroke=style.color, stroke_width=thin, stroke_dasharray=dash)
        )
    if series.kind in ("line", "curve", "dots"):
        step = max(1, math.ceil(len(points) / MARKS)) if series.kind == "curve" else 1
        marked = points[::-1][::step]  # the last one always: a curve that has only begun is a point
        shape = SHAPES[style.marker]
        parts += [
            element("path", d=shape, fill=style.color, transform=f"translate({a:.1f} {b:.1f})") for a, b in marked
        ]
    return parts


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _span(series: Series, axis: str) -> list[float]:
    values = (*series.x, *series.x_low, *series.x_high) if axis == "x" else (*series.y, *series.low, *series.high)
    return [value for value in values if math.isfinite(value)]


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> tuple[Place, list[tuple[float, str]]]:
    """Where a value is between two places of the picture, and the ticks."""
    if axis.percent:  # an interval may reach further, but no accuracy does
        values = [min(max(value, 0.0), 1.0) for value in values]
    low, high = axis.ends or _around(min(values), max(values), axis)
    turn = math.log if axis.log else float
    first, last = turn(low), turn(high)

    def place(value: float) -> float:
        value = min(max(value, low), high)
        return start + (turn(value) - first) / (last - first) * (end - start)

    return place, list(axis.ticks) or _ticks(low, high, axis)


def _around(low: float, high: float, axis: Axis) -> tuple[float, float]:
    """A little room; a single value is in the middle."""
    if axis.whole:
        return low - 0.3, max(high, low + 1) + 0.3
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float, axis: Axis) -> list[tuple[float, str]]:
    """Three to six round numbers."""
    raw = (high - low) / 5
    step = 10 ** math.floor(math.log10(raw))
    step *= next(round_ for round_ in (1, 2, 5, 10) if round_ * step >= raw)
    step = max(step, 1) if axis.whole else step
    places = [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(at, f"{100 * at:.4g}%" if axis.percent else f"{at:.4g}") for at in places]
