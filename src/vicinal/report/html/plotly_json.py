"""Pictures as plotly draws them in a browser: its JSON, made without importing plotly, which takes a second."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from vicinal.report.figure_types import DASHES, MARKERS, Axis, Panel, Series, Style
from vicinal.report.html.markup import Markup, element

SYMBOLS = dict(
    zip(MARKERS, ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"), strict=True)
)
LINES = dict(zip(DASHES, ("solid", "dash", "dashdot", "dot"), strict=True))
SHAPES = dict(
    zip(
        MARKERS,
        (
            "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z",
            "M-3.5 -3.5H3.5V3.5H-3.5Z",
            "M0 -4.5L4.5 3.5H-4.5Z",
            "M0 -5L5 0L0 5L-5 0Z",
            "M0 4.5L4.5 -3.5H-4.5Z",
            "M-1.6 -4.5H1.6V-1.6H4.5V1.6H1.6V4.5H-1.6V1.6H-4.5V-1.6H-1.6Z",
            "M0 -2.2L2.4 -4.6L4.6 -2.4L2.2 0L4.6 2.4L2.4 4.6L0 2.2L-2.4 4.6L-4.6 2.4L-2.2 0L-4.6 -2.4L-2.4 -4.6Z",
            "M0 -5L1.3 -1.7L4.8 -1.5L2.1 .7L3 4.1L0 2.2L-3 4.1L-2.1 .7L-4.8 -1.5L-1.3 -1.7Z",
        ),
        strict=True,
    )
)
STROKES = dict(zip(DASHES, (None, "5 3", "5 2 1 2", "1.5 2"), strict=True))
HEIGHT, ROW = 340, 22
"""Pixels of a panel, and of a row of categories."""
FEW = 12
"""Whole numbers that can all have a tick."""
LONGEST = 24
"""Characters of a category beside its axis, else a phone has no room for the rest; pointing at a dot says it all."""


def draw(panel: Panel, names: Sequence[str]) -> dict[str, Any]:
    """``{"data": [...], "layout": {...}}`` without colours of text and grid: the page has a light and a dark set.

    Args:
        panel: to draw.
        names: of the picture's legend; a trace's ``meta`` is its place in it.
    """
    traces = []
    for series in panel.series:
        own = {"meta": names.index(series.name), "name": html.escape(series.name), "visible": series.shown}
        if series.kind != "dots" and any(map(math.isfinite, series.low)):
            traces.append(own | _band(series))
        traces.append(own | _points(series, panel))
    layout: dict[str, Any] = {
        "xaxis": _axis(panel.x),
        "yaxis": _axis(panel.y),
        "height": max(HEIGHT, ROW * len(panel.y.ticks) + 90),
        "margin": {"l": 60, "r": 14, "t": 10, "b": 50},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "showlegend": False,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    if panel.x.whole and max(at for series in panel.series for at in series.x) <= FEW:
        layout["xaxis"]["dtick"] = 1  # else there are ticks in between
    return {"data": traces, "layout": layout}


def swatch(style: Style) -> Markup:
    """A legend's entry: a piece of the line with its marker."""
    line = element("path", d="M1 6H27", stroke=style.color, stroke_width=2, stroke_dasharray=STROKES[style.dash])
    marker = element("path", d=SHAPES[style.marker], fill=style.color, transform="translate(14 6)")
    return element("svg", line, marker, viewBox="0 0 28 12", aria_hidden="true")


def _points(series: Series, panel: Panel) -> dict[str, Any]:
    style = series.style
    mode = {"line": "lines+markers", "curve": "lines+markers", "level": "lines", "dots": "markers", "bound": "lines"}[
        series.kind
    ]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": mode,
        "x": _numbers(series.x),
        "y": _numbers(series.y),
        "line": {"color": style.color, "dash": LINES[style.dash], "width": 1.2 if series.kind == "bound" else 2},
        "marker": {"symbol": SYMBOLS[style.marker], "size": 8, "maxdisplayed": 8 if series.kind == "curve" else 0},
    }
    if series.kind in ("curve", "bound"):
        limit = ", at best" if series.kind == "bound" else ""
        trace["hovertemplate"] = f"%{{fullData.name}}{limit}<br>epoch %{{x}}: %{{y:{_format(panel.y)}}}<extra></extra>"
    else:
        trace["text"] = _texts(series, panel)
        trace["hovertemplate"] = "%{text}<extra></extra>"
    if series.kind == "dots":
        trace |= _whiskers("error_y", series.y, series.low, series.high)
        trace |= _whiskers("error_x", series.x, series.x_low, series.x_high)
    return trace


def _whiskers(name: str, at: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    if not any(map(math.isfinite, low)):
        return {}
    up = _numbers([end - middle for end, middle in zip(high, at, strict=True)])
    down = _numbers([middle - end for end, middle in zip(low, at, strict=True)])
    return {name: {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}}


def _band(series: Series) -> dict[str, Any]:
    """A polygon for each stretch of points that have an interval; null parts them."""
    x: list[float | None] = []
    y: list[float | None] = []
    stretch: list[tuple[float, float, float]] = []
    for at, low, high in [*zip(series.x, series.low, series.high, strict=True), (math.nan, math.nan, math.nan)]:
        if math.isfinite(low):
            stretch.append((at, low, high))
        elif stretch:
            x += [*([None] if x else []), *(each[0] for each in stretch), *(each[0] for each in reversed(stretch))]
            y += [*([None] if y else []), *(each[1] for each in stretch), *(each[2] for each in reversed(stretch))]
            stretch = []
    red, green, blue = bytes.fromhex(series.style.color[1:])
    colors = [f"rgba({red},{green},{blue},{alpha})" for alpha in (0.13, 0.5)]
    fill = {"fill": "toself", "fillcolor": colors[0], "line": {"color": colors[1], "width": 1}}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip", **fill}


def _axis(axis: Axis) -> dict[str, Any]:
    drawn: dict[str, Any] = {"zeroline": False, "automargin": True}
    drawn["title"] = {"text": html.escape(axis.title), "standoff": 8, "font": {"size": 13}}
    if axis.log:
        drawn["type"] = "log"
    if axis.ends:
        drawn["range"] = [math.log10(end) for end in axis.ends] if axis.log else list(axis.ends)
    if axis.ticks:
        drawn["tickvals"] = [place for place, _ in axis.ticks]
        drawn["ticktext"] = [html.escape(short(text)) for _, text in axis.ticks]
        drawn["tickfont"] = {"size": 12}
    elif axis.percent:
        drawn["tickformat"] = ".2~%"
    return drawn


def _texts(series: Series, panel: Panel) -> list[str]:
    texts = []
    for index, hover in enumerate(series.hover):
        lines = [html.escape(hover)]
        for axis, at, low, high in (
            (panel.x, series.x, series.x_low, series.x_high),
            (panel.y, series.y, series.low, series.high),
        ):
            if low or axis.percent:
                between = f" ({_shown(low[index], axis)} to {_shown(high[index], axis)})" if low else ""
                lines.append(f"{html.escape(axis.title)}: {_shown(at[index], axis)}{between}")
        texts.append("<br>".join(lines))
    return texts


def _shown(value: float, axis: Axis) -> str:
    if math.isnan(value):
        return "?"
    return f"{value:.2%}" if axis.percent else f"{value:.4g}"


def _format(axis: Axis) -> str:
    return ".2%" if axis.percent else ".4g"


def short(text: str) -> str:
    """Without its middle: names that begin alike differ at the end."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 1]}…{text[-LONGEST // 2 :]}"


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
