"""The pictures of a report: the numbers of a comparison as series."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vicinal.analysis.comparison import validation_of
from vicinal.analysis.records import ABSENT
from vicinal.analysis.statistics import INTERVAL, Summary
from vicinal.report.figure_types import COLORS, DASHES, MARKERS, Axis, Panel, Picture, Series, Style
from vicinal.tasks import Metric

if TYPE_CHECKING:
    from vicinal.analysis.comparison import Cell, Shown

    Rows = list[dict[str, Any]]

NAMES = ("response", "cells", "learning", "metrics")
MOST_CURVES = 10  # of more curves, which would hide each other, only those of the chosen cells are shown at first
LOG_RATIO = 8.0  # A swept key has a logarithmic axis if its largest value is at least this many times the smallest


def pictures(comparison: Shown) -> list[Picture]:
    """Return the response to a swept number (without one, the cells), learning curves and the other metrics.

    Pictures without data are left out.
    """
    drawing = _Drawing(comparison)
    scores = drawing.response(drawing.key) if drawing.key else drawing.cells()
    found = [scores, drawing.learning(), drawing.metrics()]
    return [picture for picture in found if picture.panels]


def axis_key(comparison: Shown) -> str | None:
    """Return the swept key for the x-axis: alpha if it is swept, else the one with the most numbers, if any."""
    numbers = {key: {_number(cell.values[key]) for cell in comparison.cells} - {None} for key in comparison.swept}
    keys = sorted((key for key in comparison.swept if len(numbers[key]) > 1), key=lambda key: -len(numbers[key]))
    return "mixup.alpha" if "mixup.alpha" in keys else next(iter(keys), None)


class _Drawing:
    def __init__(self, comparison: Shown) -> None:
        self.comparison = comparison
        self.task, self.metric = comparison.task, comparison.metric
        self.name = self.metric.title[:1].upper() + self.metric.title[1:]
        self.key = axis_key(comparison)
        self.styles = self._styles()

    def response(self, key: str) -> Picture:
        """Draw the scores over a swept number, one line per combination of the other swept keys."""
        numbers = [_number(cell.values[key]) for cell in self.comparison.cells]
        x, places = _swept_axis(key, [value for value in numbers if value is not None])
        panels = [Panel(x, self._axis(score), tuple(self._lines(score, x, places))) for score in self._scores()]
        level = {cell.values[key] for cell in self.comparison.cells if _number(cell.values[key]) is None}
        why = [*(["has no effect"] if ABSENT in level else []), *(f"is {text}" for text in sorted(level - {ABSENT}))]
        caption = f"Mean over seeds and its {INTERVAL}."
        if why:
            caption += f" A level line is a cell in which the key {' or '.join(why)}."
        return Picture("response", f"{self.name} against {key}", caption, tuple(panels))

    def cells(self) -> Picture:
        """Draw the scores of each cell in a row of its own."""
        count = len(self.comparison.cells)
        places = {cell.label: float(count - index) for index, cell in enumerate(self.comparison.cells)}
        y = Axis("", ticks=tuple((place, label) for label, place in places.items()), ends=(0.4, count + 0.6))
        panels = []
        for score in self._scores():
            dots = tuple(self._dot(cell, row, places[cell.label]) for cell, row in self._rows(score))
            panels.append(Panel(self._axis(score), y, dots))
        return Picture("cells", f"{self.name} of the cells", f"Mean over seeds and its {INTERVAL}.", tuple(panels))

    def learning(self) -> Picture:
        """Draw score and loss over epochs, mean and range over seeds; on mixed batches with the best possible value."""
        label = self.metric.short or self.metric.title
        axes = {
            f"val/{self.task.selection}": (_axis(f"validation, {label}", self.metric), ""),
            "train/loss": (Axis("train loss, as trained"), "train/loss_floor"),
        }
        if (key := self.task.score_key) is not None:
            score = self.task.metric(key)
            label = score.short or score.title
            axes[f"train/{key}"] = (_axis(f"train, as trained, {label}", score), f"train/{key}_ceiling")
            axes[f"train_clean/{key}"] = (_axis(f"train, clean samples, {label}", score), "")
        rows = {cell.label: self.comparison.curves(cell) for cell in self.comparison.cells}
        curves = {column: self._curves(rows, column) for column in axes}
        best = set(self.comparison.best)
        crowded = max(map(len, curves.values())) > MOST_CURVES and bool(best)
        panels = []
        for column, (y, bound) in axes.items():
            if series := [*curves[column], *self._bounds(rows, bound)]:
                shown = tuple(replace(curve, shown=not crowded or curve.name in best) for curve in series)
                panels.append(Panel(Axis("epoch", whole=True), y, shown))
        caption = "Mean over the seeds that got as far; the band reaches from the smallest to the largest."
        if any(series.kind == "bound" for panel in panels for series in panel.series):
            caption += " Dotted: the best possible on mixed batches, a ceiling of the score and a floor of the loss."
        if crowded:
            caption += " Shown at first are the cells that validation chose."
        return Picture("learning", "Learning curves", caption, tuple(panels))

    def metrics(self) -> Picture:
        """Draw every other metric, and the seconds of training, against the selection metric."""
        score, panels = self.comparison.score, []
        for metric in self.task.others:
            dots = []
            for cell, row in self._rows(score):
                if (other := cell.summary(score, metric.key)).n:
                    dots.append(replace(self._dot(cell, row, other.mean), low=(other.low,), high=(other.high,)))
            if dots:
                panels.append(Panel(self._axis(score), _axis(metric.title, metric), tuple(dots)))
        times = [(cell, row, cell.seconds()) for cell, row in self._rows(score)]
        if dots := [
            replace(self._dot(cell, row, time.mean), low=(max(time.low, 0.0),), high=(time.high,))
            for cell, row, time in times
            if time.n
        ]:
            panels.append(Panel(self._axis(score), Axis("seconds of training"), tuple(dots)))
        caption = (
            f"Mean over seeds and, both ways, its {INTERVAL}. Seconds are without evaluation, as they were measured."
        )
        if lower := [metric.title for metric in (self.metric, *self.task.others) if metric.better == "lower"]:
            caption += f" Lower is better: {', '.join(lower)}."
        return Picture("metrics", f"Other metrics against {self.metric.title}", caption, tuple(panels))

    def _styles(self) -> dict[str, Style]:
        """Style every line and every cell by its name: a colour per line; within it, a marker and a dash per cell."""
        cells = self.comparison.cells
        lines = dict.fromkeys(map(self._line, cells))
        styles = {line: _style(index % len(COLORS), index) for index, line in enumerate(lines)}
        used: Counter[str] = Counter()
        for cell in cells:
            color = styles[self._line(cell)].color
            styles.setdefault(cell.label, _style(COLORS.index(color), used[color]))
            used[color] += 1
        return styles

    def _line(self, cell: Cell) -> str:
        """Return the name of the line that a cell is a point of: its values of the keys that are not on x."""
        if self.key is None:
            return cell.label
        rest = {key: cell.values[key] for key in self.comparison.swept if key != self.key}
        return ", ".join(text if key == "mixup" else f"{key}={text}" for key, text in rest.items()) or cell.strategy

    def _scores(self) -> list[str]:
        """Return the validation score, which chooses, and the test score that is tested, if there are any."""
        names = (validation_of(self.comparison.score), self.comparison.score)
        return [name for name in names if any(cell.scores(name) for cell in self.comparison.cells)]

    def _axis(self, score: str) -> Axis:
        return _axis(f"{self.comparison.headings[score]}, {self.metric.short or self.metric.title}", self.metric)

    def _rows(self, score: str) -> list[tuple[Cell, Summary]]:
        """Return the cells that have the score, each with its summary."""
        rows = [(cell, cell.summary(score)) for cell in self.comparison.cells]
        return [(cell, row) for cell, row in rows if row.n]

    def _lines(self, score: str, x: Axis, places: dict[float, float]) -> Iterator[Series]:
        lines: dict[str, list[tuple[float, Cell, Summary]]] = {}
        for cell, row in self._rows(score):
            value = _number(cell.values[x.title])
            if value is None:
                yield self._series(cell.label, "level", [(end, cell, row) for end in x.ends or ()])
            else:
                lines.setdefault(self._line(cell), []).append((places[value], cell, row))
        for line, points in lines.items():
            yield self._series(line, "line", sorted(points, key=lambda point: point[0]))

    def _series(
        self, name: str, kind: Literal["line", "level"], points: Sequence[tuple[float, Cell, Summary]]
    ) -> Series:
        x, cells, rows = zip(*points, strict=True)
        mean, low, high = (tuple(getattr(row, field) for row in rows) for field in ("mean", "low", "high"))
        hover = tuple(f"{cell.label}, n = {row.n}" for cell, row in zip(cells, rows, strict=True))
        return Series(name, self.styles[name], kind, x, mean, low, high, hover=hover)

    def _dot(self, cell: Cell, x: Summary, y: float) -> Series:
        style, hover = self.styles[cell.label], f"{cell.label}, n = {x.n}"
        return Series(cell.label, style, "dots", (x.mean,), (y,), x_low=(x.low,), x_high=(x.high,), hover=(hover,))

    def _curves(self, rows: dict[str, list[Rows]], column: str) -> list[Series]:
        """Return mean and range over the runs of a column of ``metrics.jsonl``, one curve per cell that has it."""
        curves = []
        for name, runs in rows.items():
            values: dict[int, list[float]] = {}
            for row in (row for epochs in runs for row in epochs if row.get(column) is not None):
                values.setdefault(row["epoch"], []).append(row[column])
            if values:
                points = [
                    (float(epoch), math.fsum(numbers) / len(numbers), *_range(numbers), f"{name}, n = {len(numbers)}")
                    for epoch, numbers in sorted(values.items())
                ]
                x, y, low, high, hover = zip(*points, strict=True)
                curves.append(Series(name, self.styles[name], "curve", x, y, low, high, hover=hover))
        return curves

    def _bounds(self, rows: dict[str, list[Rows]], column: str) -> list[Series]:
        """Return the ceiling or the floor where batches were mixed; without mixing it is always 1 or 0."""
        return [
            replace(curve, kind="bound", style=replace(curve.style, dash=":"), low=(), high=())
            for curve in (self._curves(rows, column) if column else [])
            if not set(curve.y) <= {0.0, 1.0}
        ]


def _axis(title: str, metric: Metric) -> Axis:
    """Return the axis of a metric; where it shows percent, the ticks have the unit."""
    unit = f", {metric.unit}" if metric.unit and not metric.percent else ""
    return Axis(f"{title}{unit}", metric.percent)


def _range(numbers: Sequence[float]) -> tuple[float, float]:
    return (min(numbers), max(numbers)) if len(numbers) > 1 else (math.nan, math.nan)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _style(color: int, index: int) -> Style:
    """Return a style whose dash moves on by one each time the markers begin again."""
    marker, dash = index % len(MARKERS), (index + index // len(MARKERS)) % len(DASHES)
    return Style(COLORS[color], MARKERS[marker], DASHES[dash])


def _swept_axis(key: str, values: Sequence[float]) -> tuple[Axis, dict[float, float]]:
    """Return the axis of a swept number, and {value: position}.

    Ticks are at the values as far as there is room. On a logarithmic axis 0 is one step left of the rest.
    """
    positive = sorted({value for value in values if value > 0})
    log = min(values) >= 0 and len(positive) > 1 and positive[-1] / positive[0] >= LOG_RATIO
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
