"""Pictures as files: PNG for the screen, SVG for print. The same numbers give the same bytes."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.report.figure_types import Axis, Panel, Picture, Series, shorten
from vicinal.report.figures import NAMES, pictures
from vicinal.runs.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from vicinal.analysis.comparison import Comparison

WIDTH_INCHES, HEIGHT_INCHES, ROW_INCHES, DPI = 5.2, 3.9, 0.24, 150
"""Size of a panel, height of a row of categories or of the legend, and resolution."""
PANELS_PER_ROW = 3
MAX_LABEL_CHARACTERS = 36  # length of a category's label, which leaves room for the drawing; the tables have the name
METADATA: dict[str, dict[str, None]] = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
"""Entries of each format that matplotlib would write, and that would differ between days or versions."""
STYLE: dict[Any, Any] = {
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

    Series that are hidden at first in a crowded picture are left out; the page has them all. Pictures of an earlier
    comparison that this one does not have are deleted.
    """
    return draw_pictures(pictures(comparison), NAMES, folder)


def draw_pictures(found: Sequence[Picture], names: Sequence[str], folder: Path) -> list[Path]:
    """Write pictures as :func:`draw` does, and delete those with the other names."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    folder.mkdir(parents=True, exist_ok=True)
    for name, suffix in product(names, METADATA):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)
    files = []
    for picture in found:
        with mpl.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing", UserWarning)  # a name in a script the font lacks
            mpl.rcdefaults()  # a user's own style would give other bytes
            mpl.rcParams.update(STYLE)
            drawn = figure(picture)
            # Not savefig, which would lay the figure out again for each file.
            png, svg = io.BytesIO(), io.BytesIO()
            FigureCanvasAgg(drawn).print_png(png, metadata=METADATA[".png"])  # type: ignore[no-untyped-call]
            drawn.set_layout_engine("none")  # it has been laid out
            FigureCanvasSVG(drawn).print_svg(svg, metadata=METADATA[".svg"])  # type: ignore[no-untyped-call]
            for suffix, content in zip(METADATA, (png, svg), strict=True):
                files.append(folder / f"{picture.name}{suffix}")
                write(files[-1], content.getvalue())
    return files


def figure(picture: Picture) -> Figure:
    """Draw a picture."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(picture.panels) / PANELS_PER_ROW)
    count = math.ceil(len(picture.panels) / rows)
    names = {series.name for panel in picture.panels for series in panel.series if series.shown}
    categories = max(len(panel.y.ticks) for panel in picture.panels)
    columns = max(1, min(len(names), int(count * WIDTH_INCHES * 10 / max(map(len, names)))))
    legend = 0 if categories else math.ceil(len(names) / columns)
    height = rows * max(HEIGHT_INCHES, ROW_INCHES * categories + 1.4) + ROW_INCHES * legend
    drawn = Figure(figsize=(count * WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    drawn.suptitle(_literal(picture.title))
    handles: dict[str, Line2D] = {}
    places = iter(drawn.subplots(rows, count, squeeze=False).flat)
    for panel, axes in zip(
        picture.panels, places, strict=False
    ):  # panels first: else zip would take one place too many
        for series in panel.series:
            if series.shown:
                handles.setdefault(_literal(series.name), _draw(axes, series))  # not its bound, which comes later
        _set_axes(axes, panel)
        if categories and panel is not picture.panels[0] and panel.y == picture.panels[0].y:
            axes.tick_params(labelleft=False)
    for axes in places:
        axes.remove()
    if legend:
        drawn.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    return drawn


def _draw(axes: Axes, series: Series) -> Line2D:
    """Draw one series, and return its line for the legend."""
    style, kind = series.style, series.kind
    if kind == "dots":
        axes.vlines(*_whiskers(series.x, series.low, series.high), color=style.color, linewidth=1.2)
        axes.hlines(*_whiskers(series.y, series.x_low, series.x_high), color=style.color, linewidth=1.2)
    elif series.low:
        colors = {"facecolor": (style.color, 0.13), "edgecolor": (style.color, 0.5)}
        axes.fill_between(series.x, series.low, series.high, linewidth=0.7, **colors)  # type: ignore[arg-type]
    (line,) = axes.plot(
        series.x,
        series.y,
        color=style.color,
        marker="" if kind in ("level", "bound") else style.marker,
        linestyle="" if kind == "dots" else style.dash,
        linewidth=1.0 if kind == "bound" else 1.6,
        markersize=5.5,
        markevery=max(1, len(series.x) // 8) if kind == "curve" else None,
    )
    return line


def _whiskers(
    at: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    """Return the places, lower ends and upper ends of the intervals that there are."""
    ends = [ends for ends in zip(at, low, high, strict=False) if not any(map(math.isnan, ends))]
    return [place for place, _, _ in ends], [start for _, start, _ in ends], [end for _, _, end in ends]


def _set_axes(axes: Axes, panel: Panel) -> None:
    if panel.x.log:
        axes.set_xscale("log")
    axes.set(xlabel=_literal(panel.x.title), ylabel=_literal(panel.y.title))
    _set_axis(axes.xaxis, panel.x)
    _set_axis(axes.yaxis, panel.y)
    axes.set(xlim=panel.x.ends, ylim=panel.y.ends)


def _set_axis(drawn: DrawnAxis, axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    if axis.ticks:
        places, texts = zip(*axis.ticks, strict=True)
        drawn.set_ticks(places, labels=[_literal(shorten(text, MAX_LABEL_CHARACTERS)) for text in texts])
        drawn.set_ticks([], minor=True)
    elif axis.percent:
        drawn.set_major_formatter(lambda value, _: f"{100 * value:.6g}%")
        drawn.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    elif axis.whole:
        drawn.set_major_locator(MaxNLocator(integer=True))


def _literal(text: str) -> str:
    """Escape matplotlib's markup for mathematics."""
    return text.replace("$", r"\$")
