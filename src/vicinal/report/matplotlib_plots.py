"""Pictures as files: PNG to look at, SVG to print; the same numbers give the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.report.figure_types import Axis, Panel, Picture, Series
from vicinal.report.figures import NAMES, pictures
from vicinal.runs.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from vicinal.analysis.comparison import Comparison

WIDTH, HEIGHT, DPI = 5.2, 3.9, 150
"""Of a panel, in inches, and dots an inch."""
ROW = 0.24
"""Inches a row of categories or of the legend takes."""
METADATA: dict[str, dict[str, None]] = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
"""A format's entries that matplotlib would make, and that would differ from day to day or version to version."""
OWN: dict[Any, Any] = {
    "svg.hashsalt": "vicinal",  # else matplotlib names elements at random
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``<picture>.png`` and ``<picture>.svg``, in light colours, and return their paths.

    Series that are not shown at first in a crowded picture are left out; the page has them all. Pictures of an earlier
    comparison that this one does not have are deleted.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    folder.mkdir(parents=True, exist_ok=True)
    for name, suffix in product(NAMES, METADATA):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)
    files = []
    for picture in pictures(comparison):
        with mpl.rc_context():
            mpl.rcdefaults()  # a user's own style would give other bytes
            mpl.rcParams.update(OWN)
            drawn = figure(picture)
            # Not savefig, which draws everything once more before each file to find the places.
            png, svg = io.BytesIO(), io.BytesIO()
            FigureCanvasAgg(drawn).print_png(png, metadata=METADATA[".png"])  # type: ignore[no-untyped-call]
            drawn.set_layout_engine("none")  # the places are found
            FigureCanvasSVG(drawn).print_svg(svg, metadata=METADATA[".svg"])  # type: ignore[no-untyped-call]
            for suffix, content in zip(METADATA, (png, svg), strict=True):
                files.append(folder / f"{picture.name}{suffix}")
                write(files[-1], content.getvalue())
    return files


def figure(picture: Picture) -> Figure:
    from matplotlib.figure import Figure

    count = len(picture.panels)
    names = {series.name for panel in picture.panels for series in panel.series if series.shown}
    categories = max(len(panel.y.ticks) for panel in picture.panels)
    columns = max(1, min(len(names), int(count * WIDTH * 10 / max(map(len, names)))))
    legend = 0 if categories else math.ceil(len(names) / columns)
    height = max(HEIGHT, ROW * categories + 1.4) + ROW * legend
    drawn = Figure(figsize=(count * WIDTH, height), dpi=DPI, layout="constrained")
    drawn.suptitle(_plain(picture.title))
    handles: dict[str, Line2D] = {}
    for axes, panel in zip(drawn.subplots(1, count, squeeze=False)[0], picture.panels, strict=True):
        for series in panel.series:
            if series.shown:
                line = _draw(axes, series)
                handles.setdefault(series.name, line)  # not its bound, which comes after it
        _set_axes(axes, panel)
        if categories and panel is not picture.panels[0]:
            axes.tick_params(labelleft=False)  # the same as to the left of it
    if legend:
        drawn.legend(list(handles.values()), list(map(_plain, handles)), loc="outside lower center", ncols=columns)
    return drawn


def _draw(axes: Axes, series: Series) -> Line2D:
    """Draw one series; what is returned stands for it in the legend."""
    style = series.style
    if series.kind != "dots" and series.low:
        axes.fill_between(
            series.x,
            series.low,
            series.high,
            facecolor=(style.color, 0.13),
            edgecolor=(style.color, 0.5),
            linewidth=0.7,
        )
    if series.kind == "dots":
        axes.vlines(*_whiskers(series.x, series.low, series.high), color=style.color, linewidth=1.2)
        axes.hlines(*_whiskers(series.y, series.x_low, series.x_high), color=style.color, linewidth=1.2)
    (line,) = axes.plot(
        series.x,
        series.y,
        color=style.color,
        marker="" if series.kind in ("level", "bound") else style.marker,
        linestyle="" if series.kind == "dots" else style.dash,
        linewidth=1.0 if series.kind == "bound" else 1.6,
        markersize=5.5,
        markevery=max(1, len(series.x) // 8) if series.kind == "curve" else None,
    )
    return line


def _whiskers(
    at: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    ends = [ends for ends in zip(at, low, high, strict=False) if not any(map(math.isnan, ends))]
    return [each[0] for each in ends], [each[1] for each in ends], [each[2] for each in ends]


def _set_axes(axes: Axes, panel: Panel) -> None:
    if panel.x.log:
        axes.set_xscale("log")
    axes.set_xlabel(_plain(panel.x.title))
    axes.set_ylabel(_plain(panel.y.title))
    _set_axis(axes.xaxis, panel.x)
    _set_axis(axes.yaxis, panel.y)
    if panel.x.ends:
        axes.set_xlim(panel.x.ends)
    if panel.y.ends:
        axes.set_ylim(panel.y.ends)


def _set_axis(drawn: DrawnAxis, axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    if axis.ticks:
        places, texts = zip(*axis.ticks, strict=True)
        drawn.set_ticks(places, labels=list(map(_plain, texts)))
        drawn.set_ticks([], minor=True)
    elif axis.percent:
        drawn.set_major_formatter(lambda value, _: f"{100 * value:.6g}%")
        drawn.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    elif axis.whole:
        drawn.set_major_locator(MaxNLocator(integer=True))


def _plain(text: str) -> str:
    """Without matplotlib's own mathematics."""
    return text.replace("$", r"\$")
