"""The figure of what happens between test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vicinal.report.figure_types import DASHES, MARKERS
from vicinal.visualize.between import PAIRS, Line, lines
from vicinal.visualize.canvas import INK, strategy_color, style, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "The same {pairs} random pairs of test images for every run. "
    "Miss: the predicted class is that of neither end. Gradient: Frobenius norm of the Jacobian\n"
    "of the logits with respect to the image, pixels in [0, 1], mean over the pairs.{seeds}"
)


def show(
    runs: Sequence[Path],
    out: Path,
    overrides: Sequence[str] = (),
    pairs: int = PAIRS,
    trusted: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> Path:
    """Draw the runs to ``out``."""
    found = lines(runs, overrides, pairs, trusted)
    for path, line in zip(runs, found, strict=True):
        worst, mean = line.between.miss.max().item(), line.between.gradient.mean().item()
        report(f"{path.name}: misses at most {worst:.3f}, gradient norm {mean:.2f} on average")
    with style():
        return write(figure(found), out)


def figure(shown: Sequence[Line]) -> Figure:
    """Misses on the left, gradient norms on the right; a colour a strategy, a marker a cell."""
    from matplotlib.figure import Figure

    cells: dict[str, list[Line]] = {}
    for line in shown:
        cells.setdefault(line.cell_id, []).append(line)
    rows = -(-len(cells) // 3)
    height = 3.6 + 0.2 * rows
    drawn = Figure(figsize=(9.6, height))
    shape = {"left": 0.075, "right": 0.985, "top": 1 - 0.35 / height, "bottom": (1.1 + 0.2 * rows) / height}
    left, right = drawn.subplots(1, 2, gridspec_kw={**shape, "wspace": 0.17})
    names = Counter(runs[0].name for runs in cells.values())
    for index, (cell, runs) in enumerate(cells.items()):
        label = runs[0].name if names[runs[0].name] == 1 else f"{runs[0].name} {cell}"
        label += f", {len(runs)} seeds" if len(runs) > 1 else f", seed {runs[0].seed}"
        _cell(left, runs, index, [100 * run.between.miss for run in runs], label)
        _cell(right, runs, index, [run.between.gradient for run in runs], label)
    for axes in (left, right):
        axes.set(xlim=(0, 1), xlabel="lambda: the image is lambda x_i + (1 - lambda) x_j")
        axes.set_ylim(bottom=0)
        axes.grid(True)
    left.set(title="Errors between test images", ylabel="misses, % of pairs")
    right.set(title="Gradients between test images", ylabel="gradient norm, logits a unit of pixel")
    handles, labels = left.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.5 / height), ncols=-(-len(cells) // rows))
    seeds = " Thin: single seeds." if any(len(runs) > 1 for runs in cells.values()) else ""
    text = CAPTION.format(pairs=shown[0].between.pairs, seeds=seeds)
    drawn.text(0.02, 0.08 / height, text, va="bottom", size=8.5, color=INK)
    return drawn


def _cell(axes: Axes, runs: Sequence[Line], index: int, values: Sequence[Tensor], label: str) -> None:
    """The mean over the seeds of a cell, and thin lines for each."""
    color, x, both = strategy_color(runs[0].strategy), runs[0].between.lam.numpy(), torch.stack(list(values))
    if len(runs) > 1:
        axes.plot(x, both.T.numpy(), color=color, linewidth=0.6, alpha=0.5)
    mark, dash = MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]
    mean = both.mean(dim=0).numpy()
    axes.plot(x, mean, color=color, marker=mark, linestyle=dash, markersize=4, linewidth=1.6, label=label)
