"""The figure of decision regions and hidden representations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vicinal.visualize.boundary import REACH, SIDE, STRATEGIES, Regions, probability, regions, square
from vicinal.visualize.canvas import INK, OWN, PALE, PARTNER, style, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = 11
CAPTION = (
    "Colour: probability of the blue class, in steps; black line: one half. "
    "Left: the plane of the points. Right: what a layer of two units in the middle\n"
    "of the network makes of them; grey dots: of points spread evenly over the square on the left. "
    "Accuracy: on fresh points. Spread: of a class, along its\n"
    "longest direction, as a share of the distance between the classes."
)


def show(toys: Sequence[str], out: Path, seed: int = 0, report: Callable[[str], None] = print) -> Path:
    """Train on the toys and draw a row each to ``out``."""
    torch.set_num_threads(1)  # the network is tiny: more threads are slower, and change the last digits
    found = {toy: {name: regions(toy, strategy, seed) for name, strategy in STRATEGIES.items()} for toy in toys}
    for toy, strategies in found.items():
        for name, each in strategies.items():
            report(f"{toy:8} {name:9} accuracy {each.accuracy:.4f}  spread of the hidden classes {each.spread:.3f}")
    with style():
        return write(figure(found), out)


def figure(found: Mapping[str, Mapping[str, Regions]]) -> Figure:
    """A row a toy; a column a strategy, first in the plane of the points, then in that of the hidden layer.

    Args:
        found: {toy: {strategy: regions}}, every toy with the same strategies.
    """
    from matplotlib.figure import Figure

    names = list(next(iter(found.values())))
    count, side = len(names), 1.9
    width, height = 2 * count * side + 0.9, len(found) * (side + 0.27) + 1.25
    drawn = Figure(figsize=(width, height))
    shape = {"top": 1 - 0.5 / height, "bottom": 0.8 / height, "wspace": 0.07, "hspace": 0.17}
    middle = 0.5 + 0.12 / width
    left = drawn.add_gridspec(len(found), count, left=0.35 / width, right=middle - 0.13 / width, **shape)
    right = drawn.add_gridspec(len(found), count, left=middle + 0.13 / width, right=1 - 0.1 / width, **shape)
    for row, (toy, strategies) in enumerate(found.items()):
        for column, (name, each) in enumerate(strategies.items()):
            axes = drawn.add_subplot(left[row, column])
            hidden = drawn.add_subplot(right[row, column])
            _regions(axes, each)
            _hidden(hidden, each)
            if row == 0:
                axes.set_title(name, weight="bold")
                hidden.set_title(name, weight="bold")
            if column == 0:
                axes.set_ylabel(toy, weight="bold", size=10)
    for grid, text in ((left, "decision regions"), (right, "hidden representations")):
        boxes = [grid[0, index].get_position(drawn) for index in (0, count - 1)]
        drawn.text((boxes[0].x0 + boxes[1].x1) / 2, 1 - 0.08 / height, text, ha="center", va="top", size=11)
    drawn.text(0.35 / width, 0.1 / height, CAPTION, va="bottom", size=8.5, color=INK)
    return drawn


def _regions(axes: Axes, found: Regions) -> None:
    ends = (-REACH, REACH, -REACH, REACH)
    _field(axes, found.model, square(SIDE), ends)
    _points(axes, found.points, found.labels)
    _frame(axes, ends, f"accuracy {found.accuracy:.3f}")


def _hidden(axes: Axes, found: Regions) -> None:
    low, high = found.hidden.amin(dim=0), found.hidden.amax(dim=0)
    half = (high - low).max() / 2 * 1.15  # the same scale in both directions, so that flat looks flat
    middle = (low + high) / 2
    head: nn.Module = found.model[2]
    _field(axes, head, middle + square(SIDE, 1.0) * half, _ends(middle, half))
    x, y = found.background.T.numpy()
    axes.scatter(x, y, s=1.5, color=PALE, linewidths=0)
    _points(axes, found.hidden, found.labels)
    _frame(axes, _ends(middle, half), f"spread {found.spread:.2f}")


def _ends(middle: Tensor, half: Tensor) -> tuple[float, float, float, float]:
    (left, bottom), (right, top) = (middle - half).tolist(), (middle + half).tolist()
    return left, right, bottom, top


def _field(axes: Axes, model: nn.Module, lattice: Tensor, ends: tuple[float, float, float, float]) -> None:
    """The probability of class 1 over a square."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("classes", [PARTNER, "#ffffff", OWN], N=LEVELS)
    field = probability(model, lattice).reshape(SIDE, SIDE).numpy()
    axes.imshow(field, cmap=colors, vmin=0, vmax=1, extent=ends, origin="lower", alpha=0.45, interpolation="nearest")
    x, y = torch.linspace(*ends[:2], SIDE).numpy(), torch.linspace(*ends[2:], SIDE).numpy()
    if field.min() < 0.5 < field.max():
        axes.contour(x, y, field, levels=[0.5], colors=[INK], linewidths=1.0)


def _points(axes: Axes, points: Tensor, labels: Tensor) -> None:
    for label, color, marker in ((0, PARTNER, "s"), (1, OWN, "o")):
        x, y = points[labels == label].T.numpy()
        axes.scatter(x, y, s=5, color=color, marker=marker, edgecolors="white", linewidths=0.25)


def _frame(axes: Axes, ends: tuple[float, float, float, float], note: str) -> None:
    axes.set(xlim=ends[:2], ylim=ends[2:], xticks=[], yticks=[])
    axes.set_xlabel(note, size=8.5, labelpad=3)
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set(visible=True, color="#bbbbbb")
