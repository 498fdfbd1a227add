"""The two figures of mixing: images with masks and targets, and the law of lambda."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vicinal.visualize.canvas import INK, OWN, PALE, PARTNER, strategy_color, style, write
from vicinal.visualize.jobs import jobs
from vicinal.visualize.lambdas import ALPHAS, BINS, Law, laws, nominal
from vicinal.visualize.mixing import Row, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

BLOCKS = ORIGINALS, PARTNERS, MASKS, MIXED, TARGETS = ("originals", "partners", "masks m", "mixed", "targets")
SIDE = 0.72
"""Of an image, in inches."""
FEATURES = strategy_color("manifold")
HIGHEST = 7.0
"""Of the drawn densities; what is more is cut off and written down."""
IMAGES = 4


def show(overrides: Sequence[str], out: Path, images: int = IMAGES, alphas: Sequence[float] = ALPHAS) -> list[Path]:
    """Draw the grid to ``out``, and the laws of what has one to ``<out>-lambda.png``."""
    asked = jobs(overrides)
    found = laws(asked, alphas)
    with style():
        files = [write(grid(rows(asked, images)), out)]
        if found[0].effective:
            size = asked[0].experiment.dataset.values["image_size"]
            files.append(write(law_figure(found, size), out.with_name(f"{out.stem}-lambda{out.suffix}")))
    return files


def grid(shown: Sequence[Row]) -> Figure:
    """A row a strategy; blocks of originals, partners, masks, mixed images and targets, a sample a column in each."""
    from matplotlib.figure import Figure

    count = len(shown[0].plans)
    width, height = (1.1 + 5 * count * SIDE * 1.12 + 0.9, 1.0 + len(shown) * (SIDE + 0.42))
    figure = Figure(figsize=(width, height))
    outer = figure.add_gridspec(
        len(shown),
        len(BLOCKS),
        width_ratios=[1, 1, 1, 1, 1.25],
        left=1.0 / width,
        right=1 - 0.1 / width,
        top=1 - 0.42 / height,
        bottom=0.78 / height,
        wspace=0.07,
        hspace=0.42 / SIDE,
    )
    for index, row in enumerate(shown):
        for block, name in enumerate(BLOCKS):
            cells = outer[index, block].subgridspec(1, count, wspace=0.08)
            drawn = [figure.add_subplot(cells[0, sample]) for sample in range(count)]
            for sample, axes in enumerate(drawn):
                _cell(axes, row, name, sample)
            if index == 0:
                box = outer[0, block].get_position(figure)
                place = (box.x0 + box.x1) / 2
                figure.text(place, 1 - 0.12 / height, name, ha="center", va="top", weight="bold", size=10)
        box = outer[index, 0].get_position(figure)
        strategy, *more = row.label
        middle = (box.y0 + box.y1) / 2
        figure.text(0.1 / width, middle + 0.02 / height, strategy, va="bottom", size=10.5, weight="bold")
        figure.text(0.1 / width, middle, "\n".join(more), va="top", size=8.5, color=PALE)
    figure.text(0.1 / width, 0.1 / height, caption(shown), va="bottom", size=8.5, color=INK)
    return figure


def caption(shown: Sequence[Row]) -> str:
    """What one has to know to read the grid."""
    text = "Image k is the first of the k-th batch that a run with this config trains on. "
    text += "Blue is the image's own part, vermilion its partner's."
    if any(layer is not None for row in shown for layer in row.layers):
        text += (
            "\nGreen frame: the output of the named block is mixed, not the image; the picture shows the same weights "
        )
        text += "on the pixels."
    return text


def _cell(axes: Axes, row: Row, block: str, sample: int) -> None:
    """One image of one block; a partner is drawn only where there is one."""
    if block == TARGETS:
        _bars(axes, row, sample)
        return
    active, layer = row.plans[sample].active, row.layers[sample]
    own, other = (row.data.class_names[int(labels[sample])] for labels in (row.labels, row.partner_labels))
    if block == MASKS:
        mask, colors = row.masks[sample, 0].numpy(), _own_and_partner()
        axes.imshow(mask, cmap=colors, vmin=0, vmax=1, interpolation="nearest")
        note, color = f"mean {row.masks[sample].mean():.2f}", PALE
    elif block == PARTNERS:
        if active:
            _image(axes, row.pixels(row.partners)[sample])
        note, color = (other, PARTNER) if active else ("no partner", PALE)
    elif block == MIXED:
        _image(axes, row.pixels(row.mixed)[sample])
        note = f"at {layer or 'input'}" if active else "not mixed"
        color = INK if layer is None else FEATURES
    else:
        _image(axes, row.pixels(row.originals)[sample])
        note, color = own, OWN
    axes.set(xticks=[], yticks=[], aspect="equal", box_aspect=1)
    axes.set_xlabel(_short(note), size=8, labelpad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=2.0 if color == FEATURES else 1.4 if color != PALE else 0.8)


def _image(axes: Axes, pixels: Tensor) -> None:
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _own_and_partner() -> LinearSegmentedColormap:
    """From m = 0, the partner's colour, to m = 1, that of the sample itself."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("m", [PARTNER, OWN])


def _bars(axes: Axes, row: Row, sample: int) -> None:
    """The classes of a target with their weights, as bars from 0 to 1."""
    names, target = row.data.class_names, row.targets[sample]
    own, other = int(row.labels[sample]), int(row.partner_labels[sample])
    active = row.plans[sample].active
    for place, label in enumerate([own, other] if active and own != other else [own]):
        weight = target[label].item()
        axes.barh(place, weight, height=0.42, color=OWN if label == own else PARTNER)
        both = " (both)" if active and own == other else ""
        axes.text(0.02, place - 0.27, f"{_short(names[label])}  {weight:.2f}{both}", va="bottom", size=7.5)
    axes.set(xlim=(0, 1), ylim=(1.5, -0.75), xticks=[], yticks=[])
    for name, spine in axes.spines.items():
        spine.set(visible=name in ("left", "right"), color="#cccccc")


def _short(text: str, length: int = 10) -> str:
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")


def law_figure(shown: Sequence[Law], size: int) -> Figure:
    """A panel an alpha: the density of Beta(alpha, alpha), and of the lambdas that the strategies really use."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(shown) + 0.3, 3.5), layout="constrained")
    figure.suptitle(f"The law of lambda, asked for and in effect, for images of {size} x {size} pixels", size=11)
    drawn = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, law in zip(drawn, shown, strict=True):
        _law(axes, law)
    drawn[0].set_ylabel("density (1 is uniform)")
    handles, names = drawn[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _law(axes: Axes, law: Law) -> None:
    x, edges = np.linspace(0, 1, 1001)[1:-1], np.linspace(0, 1, BINS + 1)
    for line, each in enumerate(law.effective):
        color = strategy_color(each.names[0])
        axes.stairs(each.density, edges, fill=True, color=color, alpha=0.22)
        axes.stairs(each.density, edges, color=color, linewidth=1.4, label=", ".join(each.names))
        for bar in np.flatnonzero(each.density > HIGHEST):
            place, up = ((edges[bar] + edges[bar + 1]) / 2, HIGHEST), (0, 2 + 9 * line)
            text = f"{each.density[bar]:.1f}"
            axes.annotate(text, place, up, textcoords="offset points", color=color, size=7.5, ha="center")
        note = f"E[1 - lambda] = {each.partner:.2f}, lambda = 1 in {each.unmixed:.0%}"
        place = (0.5, 0.97 - 0.07 * line)
        axes.text(*place, note, transform=axes.transAxes, ha="center", va="top", color=color, size=8)
    axes.plot(x, nominal(law.alpha, x), color=INK, linewidth=1.3, linestyle="--", label="Beta(alpha, alpha)")
    axes.set(xlim=(0, 1), ylim=(0, HIGHEST), xlabel="lambda, weight of a sample itself")
    cut = any((each.density > HIGHEST).any() for each in law.effective)
    axes.set_title(f"alpha {law.alpha:g}", pad=22 if cut else 6)
