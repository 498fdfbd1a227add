"""What a report's pictures show: the numbers of a comparison as series."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vicinal.analysis.comparison import validation_of
from vicinal.analysis.statistics import INTERVAL, Summary, summarise
from vicinal.report.figure_types import COLORS, DASHES, MARKERS, Axis, Panel, Picture, Series, Style

if TYPE_CHECKING:
    from vicinal.analysis.comparison import Cell, Shown

    Point = tuple[float, Cell, Summary]

LEARNING = {
    "val/acc1": (Axis("validation, top-1", percent=True), ""),
    "train/loss": (Axis("train loss, as trained"), "train/loss_floor"),
    "train/acc1": (Axis("train, as trained, top-1", percent=True), "train/acc1_ceiling"),
    "train_clean/acc1": (Axis("train, clean images, top-1", percent=True), ""),
}
"""What learning curves are drawn of, and the bound that is drawn beside it."""
NAMES = ("response", "cells", "learning", "calibration")
CROWDED = 10
"""More curves than these hide each other: only the chosen cells are shown at first."""
WIDE = 8.0
"""A swept key whose largest value is this many times the smallest has a logarithmic axis."""


def pictures(comparison: Shown) -> list[Picture]:
    """The response to a swept number (without one, a dot a cell), learning curves, calibration; none without data."""
    styles = _styles(comparison)
    key = axis_key(comparison)
    scores = _response(comparison, key, styles) if key else _dots(comparison, styles)
    found = [scores, _learning(comparison, styles), _calibration(comparison, styles)]
    return [picture for picture in found if picture.panels]


def axis_key(comparison: Shown) -> str | None:
    """The swept key that is drawn on x: alpha if it is swept, else the one with the most numbers; None without one."""
    numbers = {key: {_number(cell.values[key]) for cell in comparison.cells} - {None} for key in comparison.swept}
    keys = sorted((key for key in comparison.swept if len(numbers[key]) > 1), key=lambda key: -len(numbers[key]))
    return "mixup.alpha" if "mixup.alpha" in keys else next(iter(keys), None)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _line(cell: Cell, comparison: Shown) -> str:
    """The line that a cell is a point of: what it is apart from the key on x."""
    key = axis_key(comparison)
    if key is None:
        return cell.label
    rest = {each: cell.values[each] for each in comparison.swept if each != key}
    return ", ".join(text if each == "mixup" else f"{each}={text}" for each, text in rest.items()) or cell.strategy


def _styles(comparison: Shown) -> dict[str, Style]:
    """Of every line and every cell by its name: a colour a line, in a colour a marker and a dash a cell."""
    lines = dict.fromkeys(_line(cell, comparison) for cell in comparison.cells)
    styles = {line: _style(index % len(COLORS), index) for index, line in enumerate(lines)}
    used: Counter[str] = Counter()
    for cell in comparison.cells:
        color = styles[_line(cell, comparison)].color
        styles.setdefault(cell.label, _style(COLORS.index(color), used[color]))
        used[color] += 1
    return styles


def _style(color: int, index: int) -> Style:
    """The dash goes one further each time the markers begin again."""
    marker, dash = index % len(MARKERS), (index + index // len(MARKERS)) % len(DASHES)
    return Style(COLORS[color], MARKERS[marker], DASHES[dash])


def _scores(comparison: Shown) -> list[str]:
    """Validation, which chooses, and the reading of the test set that is tested; those that there are."""
    names = (validation_of(comparison.score), comparison.score)
    return [name for name in names if any(cell.scores(name) for cell in comparison.cells)]


def _rows(comparison: Shown, score: str) -> list[tuple[Cell, Summary]]:
    """The cells that have the score, each with what the table says of it."""
    scores = [(cell, list(cell.scores(score).values())) for cell in comparison.cells]
    return [(cell, summarise(values)) for cell, values in scores if values]


def _response(comparison: Shown, key: str, styles: dict[str, Style]) -> Picture:
    values = [_number(cell.values[key]) for cell in comparison.cells]
    x, places = _axis(key, [value for value in values if value is not None])
    panels = []
    for score in _scores(comparison):
        series = tuple(_lines(comparison, key, score, x, places, styles))
        panels.append(Panel(x, Axis(f"{comparison.headings[score]}, top-1", percent=True), series))
    caption = f"Mean over seeds and its {INTERVAL}. A level line is a cell that the key has no effect on."
    return Picture("response", f"Accuracy against {key}", caption, tuple(panels))


def _lines(
    comparison: Shown, key: str, score: str, x: Axis, places: dict[float, float], styles: dict[str, Style]
) -> Iterator[Series]:
    lines: dict[str, list[Point]] = {}
    for cell, row in _rows(comparison, score):
        value = _number(cell.values[key])
        if value is None:
            yield _series(cell.label, styles[cell.label], "level", [(end, cell, row) for end in x.ends or ()])
        else:
            lines.setdefault(_line(cell, comparison), []).append((places[value], cell, row))
    for line, points in lines.items():
        yield _series(line, styles[line], "line", sorted(points, key=lambda point: point[0]))


def _series(name: str, style: Style, kind: Literal["line", "level"], points: Sequence[Point]) -> Series:
    x, cells, rows = zip(*points, strict=True)
    mean, low, high = (tuple(getattr(row, what) for row in rows) for what in ("mean", "low", "high"))
    hover = tuple(_hover(cell, row.n) for cell, row in zip(cells, rows, strict=True))
    return Series(name, style, kind, x, mean, low, high, hover=hover)


def _hover(cell: Cell, n: int) -> str:
    return f"{cell.label}, n = {n}"


def _axis(key: str, values: Sequence[float]) -> tuple[Axis, dict[float, float]]:
    """The axis of a swept number, and where its values are on it.

    Ticks are at the values as far as there is room. On a logarithmic axis 0 stands one step left of the rest.
    """
    positive = sorted({value for value in values if value > 0})
    log = min(values) >= 0 and len(positive) > 1 and positive[-1] / positive[0] >= WIDE
    places = {value: value for value in sorted(set(values))}
    if log and 0.0 in places:
        places[0.0] = positive[0] ** 2 / positive[1]
    scale = {value: math.log(place) if log else place for value, place in places.items()}
    room = (max(scale.values()) - min(scale.values())) / 14
    ticks: list[tuple[float, str]] = []
    free = -math.inf
    for value, at in scale.items():
        if at >= free:
            ticks.append((places[value], f"{value:g}"))
            free = at + room
    left, right = min(scale.values()) - room, max(scale.values()) + room
    ends = (math.exp(left), math.exp(right)) if log else (left, right)
    return Axis(key, log=log, ticks=tuple(ticks), ends=ends), places


def _dots(comparison: Shown, styles: dict[str, Style]) -> Picture:
    count = len(comparison.cells)
    places = {cell.label: float(count - index) for index, cell in enumerate(comparison.cells)}
    y = Axis("", ticks=tuple((place, label) for label, place in places.items()), ends=(0.4, count + 0.6))
    panels = []
    for score in _scores(comparison):
        dots = tuple(
            Series(
                cell.label,
                styles[cell.label],
                "dots",
                x=(row.mean,),
                y=(places[cell.label],),
                x_low=(row.low,),
                x_high=(row.high,),
                hover=(_hover(cell, row.n),),
            )
            for cell, row in _rows(comparison, score)
        )
        panels.append(Panel(Axis(f"{comparison.headings[score]}, top-1", percent=True), y, dots))
    return Picture("cells", "Accuracy of the cells", f"Mean over seeds and its {INTERVAL}.", tuple(panels))


def _learning(comparison: Shown, styles: dict[str, Style]) -> Picture:
    """Accuracy and loss over epochs, mean and range over seeds; those of train with what nobody can do better than."""
    rows = {cell.label: comparison.curves(cell) for cell in comparison.cells}
    curves = {
        what: [curve for label in rows if (curve := _curve(label, rows[label], what, styles))] for what in LEARNING
    }
    best = set(comparison.best)
    crowded = max(map(len, curves.values())) > CROWDED and bool(best)
    panels = []
    for what, found in curves.items():
        y, bound = LEARNING[what]
        found += [curve for label in rows if (curve := _bound(label, rows[label], bound, styles))]
        if found:
            series = tuple(replace(curve, shown=not crowded or curve.name in best) for curve in found)
            panels.append(Panel(Axis("epoch", whole=True), y, series))
    caption = "Mean over the seeds that got as far; the band reaches from the smallest to the largest."
    if any(series.kind == "bound" for panel in panels for series in panel.series):
        caption += " Dotted: the best that can be had on the mixed batches, a ceiling of accuracy and a floor of loss."
    if crowded:
        caption += " Shown at first are the cells that validation chose."
    return Picture("learning", "Learning curves", caption, tuple(panels))


def _bound(name: str, runs: list[list[dict[str, Any]]], what: str, styles: dict[str, Style]) -> Series | None:
    """The ceiling or the floor, where batches were mixed: without, it says nothing."""
    curve = _curve(name, runs, what, styles) if what else None
    if curve is None or set(curve.y) <= {0.0, 1.0}:
        return None
    return replace(curve, kind="bound", style=replace(curve.style, dash=":"), low=(), high=())


def _curve(name: str, runs: list[list[dict[str, Any]]], what: str, styles: dict[str, Style]) -> Series | None:
    values: dict[int, list[float]] = {}
    for row in (row for rows in runs for row in rows if row.get(what) is not None):
        values.setdefault(row["epoch"], []).append(row[what])
    if not values:
        return None
    epochs = tuple(sorted(values))
    band = [(min(values[epoch]), max(values[epoch])) if len(values[epoch]) > 1 else (math.nan,) * 2 for epoch in epochs]
    return Series(
        name,
        styles[name],
        "curve",
        x=tuple(map(float, epochs)),
        y=tuple(math.fsum(values[epoch]) / len(values[epoch]) for epoch in epochs),
        low=tuple(low for low, _ in band),
        high=tuple(high for _, high in band),
        hover=tuple(f"{name}, n = {len(values[epoch])}" for epoch in epochs),
    )


def _calibration(comparison: Shown, styles: dict[str, Style]) -> Picture:
    """Calibration error and likelihood against accuracy: what the results hold. A reliability diagram needs bins."""
    score = comparison.score
    y = {"ece": Axis("expected calibration error", percent=True), "nll": Axis("negative log-likelihood, nats")}
    x = Axis(f"{comparison.headings[score]}, top-1", percent=True)
    panels = []
    for metric, axis in y.items():
        dots, most = [], 1.0 if metric == "ece" else math.inf
        for cell, row in _rows(comparison, score):
            values = list(cell.scores(score, metric).values())
            if not values:
                continue
            over = summarise(values, most)
            dots.append(
                Series(
                    cell.label,
                    styles[cell.label],
                    "dots",
                    x=(row.mean,),
                    y=(over.mean,),
                    low=(over.low,),
                    high=(over.high,),
                    x_low=(row.low,),
                    x_high=(row.high,),
                    hover=(_hover(cell, row.n),),
                )
            )
        if dots:
            panels.append(Panel(x, axis, tuple(dots)))
    caption = f"Mean over seeds and, both ways, its {INTERVAL}. Lower and further right is better."
    return Picture("calibration", "Calibration against accuracy", caption, tuple(panels))
