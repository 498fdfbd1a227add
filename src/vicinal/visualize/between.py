"""Errors of networks on the line between two test images, and how fast their output changes there.

After arXiv 1710.09412, figure 2, which draws both between training images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from vicinal.analysis.records import grouped
from vicinal.build import load_data, make_model
from vicinal.data import RunData, Samples
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import original
from vicinal.jobs.stored_config import stored_config
from vicinal.mixing import MixPlan
from vicinal.report.figure_types import DASHES, MARKERS
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.visualize.canvas import INK, OTHER_COLOR, STRATEGY_COLORS, write
from vicinal.visualize.jobs import images_of

PAIRS = 200
PLACES = 11  # values of lambda, evenly from 0 to 1
BATCH = 100
NAMES_PER_ROW = 2  # entries in a row of the legend
CAPTION = (
    "The same {pairs} random pairs of test images for every run. "
    "Miss: the predicted class is that of neither end. Gradient: Frobenius norm of the Jacobian\n"
    "of the logits with respect to the image, pixels in [0, 1], mean over the pairs."
)


class Stored(NamedTuple):
    """A completed run."""

    result: dict[str, Any]  # content of its ``result.json``
    model: nn.Module
    """With the weights of the last epoch (the averaged ones, if they are what was scored), in evaluation mode."""
    data: RunData  # what it was trained and tested on


class Between(NamedTuple):
    """One model on the lines between pairs, at P places."""

    pairs: int  # number of lines
    lam: Tensor  # (P,), weight of the first image of a pair, from 0 to 1
    miss: Tensor  # (P,), share of pairs for which the predicted class is that of neither end
    gradient: Tensor
    """(P,), mean over the pairs of the Frobenius norm of the Jacobian of the logits with respect to the image, pixels
    in [0, 1]: by how much the logits change for a change of the image by 1."""


class Line(NamedTuple):
    """A run: its ``result.json``, and what its model does between test images."""

    result: Mapping[str, Any]
    between: Between


def show(
    runs: Sequence[Path], out: Path, overrides: Sequence[str] = (), pairs: int = PAIRS, trusted: Sequence[str] = ()
) -> Path:
    """Draw the runs to ``out``, and print their numbers."""
    measured = lines(runs, overrides, pairs, trusted)
    for path, (_, between) in zip(runs, measured, strict=True):
        worst, mean = between.miss.max(), between.gradient.mean()
        print(f"{path.name}: misses at most {worst:.3f}, gradient norm {mean:.2f} on average")
    return write(out, partial(figure, measured))


def lines(
    runs: Sequence[Path], overrides: Sequence[str] = (), pairs: int = PAIRS, trusted: Sequence[str] = ()
) -> list[Line]:
    """Measure every run on the same pairs of test images.

    Raises UserError: a run cannot be loaded, or the test images of two runs are not the same.
    """
    measured: list[Line] = []
    first: tuple[Tensor, Tensor] | None = None
    for path in runs:
        result, model, data = stored(path, overrides, trusted)
        images, labels = shown = chain(data.test, pairs)
        first = first or shown
        if not all(map(torch.equal, first, shown)):
            raise UserError(f"{path}: its test images are not those of {runs[0]}, so the two cannot be compared")
        of_pixels = nn.Sequential(Normalize(data.mean, data.std), model).eval()
        measured.append(Line(result, between(of_pixels, images.float() / 255, labels)))
    return measured


def stored(path: Path, overrides: Sequence[str] = (), trusted: Sequence[str] = ()) -> Stored:
    """Load the weights and the data of a run, whose folder may have been moved, on the CPU.

    The `overrides` are ``key=value``, such as ``dataset.root`` on another machine; for `trusted` see
    :mod:`vicinal.jobs.stored_config`. Raises UserError if there is no completed run, or its config, its weights or its
    data are lost or refused.
    """
    folder = RunFolder(path)
    result = original(folder)
    words = ["trainer.device=cpu", "trainer.compile=false", *overrides]
    experiment = Experiment.composed(stored_config(folder.config, words, trusted))
    images_of(experiment)
    model = make_model(experiment)
    try:
        model.load_state_dict(weights(folder))
    except RuntimeError as error:  # other names or shapes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder.checkpoint}: the weights do not fit the network of {folder.config}: {reason}"
        ) from None
    return Stored(result, model.eval(), load_data(experiment))


def weights(folder: RunFolder) -> dict[str, Any]:
    """Return the weights of the last epoch by name. Raises UserError if they cannot be read."""
    advice = "so there are no weights; rerun=true trains the run again"
    try:
        return dict(checkpoint.load(folder.checkpoint, checkpoint.WEIGHTS)["model"])
    except FileNotFoundError:
        raise UserError(f"{folder.checkpoint} is missing, {advice}") from None
    except DamagedError as damage:
        raise UserError(f"{damage}, {advice}") from None


def chain(test: Samples, pairs: int) -> tuple[Tensor, Tensor]:
    """Return images (pairs, C, H, W) uint8 and labels (pairs,): random, the same every time; neighbours are pairs."""
    order = torch.randperm(len(test.targets), generator=torch.Generator().manual_seed(0))
    chosen = test.choose(order[:pairs])
    return chosen.gathered(), chosen.targets


def between(model: nn.Module, images: Tensor, labels: Tensor, places: int = PLACES) -> Between:
    """Measure errors and gradients between each image (N, C, H, W) and the next; the last one's partner is the first.

    The model returns logits (B, K) and is in evaluation mode; `places` are values of lambda.
    """
    lambdas = torch.linspace(0, 1, places)
    partner = torch.arange(1, len(labels) + 1) % len(labels)
    misses, gradients = [], []
    for lam in lambdas:
        mixed = MixPlan(lam.expand(len(labels)), partner).mix(images)
        logits, norms = zip(*(jacobian_norm(model, batch) for batch in torch.split(mixed, BATCH)), strict=True)
        predicted = torch.cat(logits).argmax(dim=1)
        misses.append(((predicted != labels) & (predicted != labels[partner])).float().mean())
        gradients.append(torch.cat(norms).mean())
    return Between(len(labels), lambdas, torch.stack(misses), torch.stack(gradients))


def jacobian_norm(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, K), and the Frobenius norm of each sample's Jacobian (B,): K backward passes per batch."""
    images = images.detach().requires_grad_()
    logits: Tensor = model(images)
    squares = torch.zeros(len(images))
    for logit in logits.sum(dim=0):  # in evaluation mode a sample's logits depend on no other sample
        (gradient,) = torch.autograd.grad(logit, images, retain_graph=True)
        squares += gradient.flatten(1).square().sum(dim=1)
    return logits.detach(), squares.sqrt()


def figure(lines: Sequence[Line]) -> Figure:
    """Draw misses on the left, gradient norms on the right; one colour per strategy, one marker per cell."""
    cells = grouped((line.result["cell_id"], line) for line in lines)
    names = Counter(cell[0].result["name"] for cell in cells.values())
    height = 4.2 + 0.2 * math.ceil(len(cells) / NAMES_PER_ROW)
    drawn = Figure(figsize=(9.6, height), layout="constrained")
    left, right = drawn.subplots(1, 2)
    for index, (cell_id, cell) in enumerate(cells.items()):
        result, lam = cell[0].result, cell[0].between.lam
        name = result["name"] if names[result["name"]] == 1 else f"{result['name']} {cell_id}"
        look = {
            "label": f"{name}, {len(cell)} seeds" if len(cell) > 1 else f"{name}, seed {result['seed']}",
            "color": STRATEGY_COLORS.get(result["choices"].get("mixup"), OTHER_COLOR),
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": DASHES[index % len(DASHES)],
        }
        _curves(left, lam, torch.stack([100 * line.between.miss for line in cell]), look)
        _curves(right, lam, torch.stack([line.between.gradient for line in cell]), look)
    for axes in (left, right):
        axes.set(xlim=(0, 1), xlabel="lambda: the image is lambda x_i + (1 - lambda) x_j")
        axes.set_ylim(bottom=0)
        axes.grid(True)
    left.set(title="Errors between test images", ylabel="misses, % of pairs")
    right.set(title="Gradients between test images", ylabel="gradient norm, logits per unit of pixel")
    drawn.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=NAMES_PER_ROW)
    seeds = " Thin: single seeds." if len(lines) > len(cells) else ""
    caption = CAPTION.format(pairs=lines[0].between.pairs) + seeds
    drawn.supxlabel(caption, x=0.01, ha="left", size=8.5, color=INK)
    return drawn


def _curves(axes: Axes, lam: Tensor, seeds: Tensor, look: Mapping[str, Any]) -> None:
    """Draw the mean over the seeds (S, P) of a cell, and thin lines for each."""
    if len(seeds) > 1:
        axes.plot(lam.numpy(), seeds.T.numpy(), color=look["color"], linewidth=0.6, alpha=0.5)
    axes.plot(lam.numpy(), seeds.mean(dim=0).numpy(), markersize=4, linewidth=1.6, **look)
