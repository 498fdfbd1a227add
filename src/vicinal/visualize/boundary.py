"""Decision regions and hidden representations under mixing, on points in the plane.

After arXiv 1806.05236, figure 1: a network whose layer in the middle has two units, so that it can be drawn.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from sklearn.datasets import make_circles, make_moons
from torch import Tensor, nn

from vicinal.mixing import InputMixup, ManifoldMixup, NoMix, Strategy, mixed_forward
from vicinal.training.rng_streams import RngStreams
from vicinal.visualize.canvas import INK, OWN, PALE, PARTNER, write

TOYS = ("moons", "circles", "spirals")
HIDDEN = "hidden"
STRATEGIES: dict[str, Strategy] = {
    "none": NoMix(),
    "input": InputMixup(alpha=1.0),
    "manifold": ManifoldMixup(alpha=1.0, layers=[HIDDEN]),
}
"""Manifold mixup mixes the two units in the middle alone: at the input it would be input mixup."""
POINTS, BATCH, STEPS, LR = 512, 128, 1500, 5e-3
REACH, SIDE = 1.9, 161  # the drawn square is [-REACH, REACH] in both directions, SIDE points a side
BACKGROUND_SIDE = 31  # points a side whose representations are shown
COLORS = LinearSegmentedColormap.from_list("classes", [PARTNER, "#ffffff", OWN], N=11)
CAPTION = (
    "Colour: probability of the blue class, in steps; black line: one half. "
    "Left: the plane of the points. Right: what a layer of two units in the middle\n"
    "of the network makes of them; grey dots: of points spread evenly over the square on the left. "
    "Accuracy: on fresh points. Spread: of a class, along its\n"
    "longest direction, as a share of the distance between the classes."
)


@dataclass(frozen=True)
class Regions:
    """A trained network on one toy."""

    model: nn.Sequential  # in evaluation mode
    points: Tensor  # (N, 2), trained on
    labels: Tensor  # (N,)
    hidden: Tensor  # (N, 2), their representations in the middle of the network
    accuracy: float  # on points of the same law that were not trained on
    spread: float  # see :func:`spread`


def show(toys: Sequence[str], out: Path, seed: int = 0) -> Path:
    """Train on the toys, print the numbers and draw one row per toy to ``out``."""
    torch.set_num_threads(1)  # the network is tiny: more threads are slower, and change the last digits
    trained = {toy: {name: regions(toy, strategy, seed) for name, strategy in STRATEGIES.items()} for toy in toys}
    for toy, by_strategy in trained.items():
        for name, item in by_strategy.items():
            print(f"{toy:8} {name:9} accuracy {item.accuracy:.4f}  spread of the hidden classes {item.spread:.3f}")
    return write(out, partial(figure, trained))


def toy(name: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points of two classes that no line separates: (count, 2) float32 in [-1.5, 1.5], and labels (count,).

    Each class has half of them. Moons and circles are scikit-learn's ``make_moons`` and ``make_circles``, with noise.
    """
    if name == "spirals":
        return spirals(count, seed)
    if name == "moons":
        points, labels = make_moons(count, noise=0.12, random_state=seed)
        points = (points - [0.5, 0.25]) * [1.0, 1.4]
    else:
        points, labels = make_circles(count, noise=0.1, factor=0.5, random_state=seed)
        points = points * 1.3
    return torch.from_numpy(points).float(), torch.from_numpy(labels).long()


def spirals(count: int, seed: int, turns: float = 1.25, noise: float = 0.035) -> tuple[Tensor, Tensor]:
    """Return two arms of an Archimedean spiral, the second half a turn behind the first."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    share = torch.rand(count, generator=generator).sqrt()  # as dense outside as inside
    angle = 2 * math.pi * turns * share + math.pi * labels
    radius = 0.15 + 1.25 * share
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return points + noise * torch.randn(count, 2, generator=generator), labels


def bottleneck(width: int = 64) -> nn.Sequential:
    """Return a network (B, 2) -> logits (B, 2), with a block ``hidden`` whose output is (B, 2)."""
    return nn.Sequential(
        OrderedDict(
            trunk=nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            hidden=nn.Linear(width, 2),
            head=nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2)),
        )
    )


def regions(name: str, strategy: Strategy, seed: int = 0, steps: int = STEPS) -> Regions:
    """Train on one toy for some seconds. The same seed gives the same initial weights and the same batches."""
    points, labels = toy(name, POINTS, seed)
    model = train(points, labels, strategy, seed, steps)
    fresh, answers = toy(name, 4 * POINTS, seed + 1)
    with torch.inference_mode():
        hidden = model[:2](points)
        accuracy = (model(fresh).argmax(dim=1) == answers).float().mean().item()
    return Regions(model, points, labels, hidden, accuracy, spread(hidden, labels))


def train(points: Tensor, labels: Tensor, strategy: Strategy, seed: int, steps: int) -> nn.Sequential:
    """Train with Adam, its learning rate along half a cosine."""
    streams = RngStreams(seed)
    with streams.default("init"):
        model = bottleneck()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(len(points), (BATCH,), generator=streams.order)
        plan = strategy.sample((BATCH, 2), streams.mixing)
        loss = plan.loss(mixed_forward(model, points[batch], plan), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


def square(side: int, reach: float = REACH) -> Tensor:
    """Return points on a lattice over [-reach, reach] squared, row by row from below: (side * side, 2)."""
    ends = torch.linspace(-reach, reach, side)
    return torch.cartesian_prod(ends, ends).flip(1)


@torch.inference_mode()
def probability(model: nn.Module, points: Tensor) -> Tensor:
    """Return that of class 1, (N,), for points (N, 2)."""
    share: Tensor = model(points).softmax(dim=1)[:, 1]
    return share


def spread(hidden: Tensor, labels: Tensor) -> float:
    """Return the extent of the representations (N, 2) of a class, as a share of the distance between the classes.

    The largest singular value of a class's centred representations over sqrt(n), which is their standard deviation
    along their longest direction, over the distance between the two means; mean over the classes. Manifold mixup makes
    it small, as arXiv 1806.05236 says of the singular values of hidden representations.
    """
    classes = [hidden[labels == label].double() for label in (0, 1)]
    means = [points.mean(dim=0) for points in classes]
    extents = [
        torch.linalg.svdvals(points - mean)[0] / len(points) ** 0.5 for points, mean in zip(classes, means, strict=True)
    ]
    return float(torch.stack(extents).mean() / (means[0] - means[1]).norm())


def figure(trained: Mapping[str, Mapping[str, Regions]]) -> Figure:
    """Draw one row per toy and one column per strategy, in the plane of the points and in that of the hidden layer.

    Every toy has the same strategies.
    """
    names = list(next(iter(trained.values())))
    drawn = Figure(figsize=(4.0 * len(names) + 0.4, 2.15 * len(trained) + 1.1), layout="constrained")
    left, right = drawn.subfigures(1, 2)  # type: ignore[misc]
    for half, title, draw in ((left, "decision regions", _plane), (right, "hidden representations", _hidden)):
        half.suptitle(title, size=11)
        panels = half.subplots(len(trained), len(names), squeeze=False)
        for axes, name in zip(panels[0], names, strict=True):
            axes.set_title(name, weight="bold")
        for row, (toy, by_strategy) in zip(panels, trained.items(), strict=True):
            row[0].set_ylabel(toy, weight="bold", size=10)
            for axes, item in zip(row, by_strategy.values(), strict=True):
                draw(axes, item)
    drawn.supxlabel(CAPTION, x=0.01, ha="left", size=8.5, color=INK)
    return drawn


def _plane(axes: Axes, item: Regions) -> None:
    _field(axes, item.model, torch.zeros(2), REACH)
    _points(axes, item.points, item.labels)
    axes.set_xlabel(f"accuracy {item.accuracy:.3f}", size=8.5, labelpad=3)


def _hidden(axes: Axes, item: Regions) -> None:
    low, high = item.hidden.amin(dim=0), item.hidden.amax(dim=0)
    half = (high - low).max().item() / 2 * 1.15  # the same scale in both directions, so that flat looks flat
    _field(axes, item.model[2], (low + high) / 2, half)
    x, y = item.model[:2](square(BACKGROUND_SIDE)).T.detach().numpy()
    axes.scatter(x, y, s=1.5, color=PALE, linewidths=0)
    _points(axes, item.hidden, item.labels)
    axes.set_xlabel(f"spread {item.spread:.2f}", size=8.5, labelpad=3)


def _field(axes: Axes, model: nn.Module, middle: Tensor, half: float) -> None:
    """Draw the probability of class 1 over the square of all that is at most ``half`` from ``middle`` in x and y."""
    x, y = (middle[:, None] + torch.linspace(-half, half, SIDE)).numpy()
    field = probability(model, middle + square(SIDE, half)).reshape(SIDE, SIDE).numpy()
    ends = (x[0], x[-1], y[0], y[-1])
    axes.imshow(field, cmap=COLORS, vmin=0, vmax=1, extent=ends, origin="lower", alpha=0.45, interpolation="nearest")
    if field.min() < 0.5 < field.max():
        axes.contour(x, y, field, levels=[0.5], colors=[INK], linewidths=1.0)
    axes.set(xlim=ends[:2], ylim=ends[2:], xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set(visible=True, color="#bbbbbb")


def _points(axes: Axes, points: Tensor, labels: Tensor) -> None:
    for label, color, marker in ((0, PARTNER, "s"), (1, OWN, "o")):
        x, y = points[labels == label].T.numpy()
        axes.scatter(x, y, s=5, color=color, marker=marker, edgecolors="white", linewidths=0.25)
