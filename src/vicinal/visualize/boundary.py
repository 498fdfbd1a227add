"""What mixing does to decision regions and hidden representations, on points in the plane.

After arXiv 1806.05236, figure 1: a network whose layer in the middle has two units, so that it can be drawn.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vicinal.mixing import InputMixup, ManifoldMixup, NoMix, Strategy, mixed_forward
from vicinal.training.rng_streams import RngStreams
from vicinal.visualize.toys import toy

HIDDEN = "hidden"
STRATEGIES: dict[str, Strategy] = {
    "none": NoMix(),
    "input": InputMixup(alpha=1.0),
    "manifold": ManifoldMixup(alpha=1.0, layers=[HIDDEN]),
}
"""Manifold mixup mixes the two units in the middle alone: at the input it would be input mixup."""
POINTS, BATCH, STEPS, LR = 512, 128, 1500, 5e-3
REACH, SIDE = 1.9, 161
"""The drawn square is [-REACH, REACH] in both directions, SIDE points a side."""


@dataclass(frozen=True)
class Regions:
    """A trained network on one toy.

    Attributes:
        points, labels: (N, 2) and (N,), trained on.
        hidden: (N, 2), their representations in the middle of the network.
        background: (M, 2), representations of points spread evenly over the drawn square.
        accuracy: on points of the same law that were not trained on.
        spread: see :func:`spread`.
        model: in evaluation mode.
    """

    points: Tensor
    labels: Tensor
    hidden: Tensor
    background: Tensor
    accuracy: float
    spread: float
    model: nn.Sequential


def bottleneck(width: int = 64) -> nn.Sequential:
    """(B, 2) -> logits (B, 2), through a block ``hidden`` whose output is (B, 2)."""
    return nn.Sequential(
        OrderedDict(
            trunk=nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            hidden=nn.Linear(width, 2),
            head=nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2)),
        )
    )


def regions(name: str, strategy: Strategy, seed: int = 0, steps: int = STEPS) -> Regions:
    """Train on one toy for some seconds. The same seed gives the same weights to begin with, and the same batches."""
    points, labels = toy(name, POINTS, seed)
    model = train(points, labels, strategy, seed, steps)
    fresh, answers = toy(name, 4 * POINTS, seed + 1)
    with torch.inference_mode():
        hidden, background = (model[:2](each) for each in (points, square(31)))
        accuracy = (model(fresh).argmax(dim=1) == answers).float().mean().item()
    return Regions(points, labels, hidden, background, accuracy, spread(hidden, labels), model)


def train(points: Tensor, labels: Tensor, strategy: Strategy, seed: int, steps: int) -> nn.Sequential:
    """Adam, its learning rate along half a cosine."""
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
    """Points on a lattice over [-reach, reach] squared, row by row from below: (side * side, 2)."""
    ends = torch.linspace(-reach, reach, side)
    y, x = torch.meshgrid(ends, ends, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


@torch.inference_mode()
def probability(model: nn.Module, points: Tensor) -> Tensor:
    """Of class 1, (N,), for points (N, 2)."""
    share: Tensor = model(points).softmax(dim=1)[:, 1]
    return share


def spread(hidden: Tensor, labels: Tensor) -> float:
    """How far the representations (N, 2) of a class reach, as a share of the distance between the classes.

    The largest singular value of a class's centred representations over sqrt(n), which is their standard deviation
    along their longest direction, over the distance between the two means; mean over the classes. Manifold mixup makes
    it small, as arXiv 1806.05236 says of the singular values of hidden representations.
    """
    own = [hidden[labels == label].double() for label in (0, 1)]
    means = [each.mean(dim=0) for each in own]
    reach = [torch.linalg.svdvals(each - mean)[0] / len(each) ** 0.5 for each, mean in zip(own, means, strict=True)]
    return float(torch.stack(reach).mean() / (means[0] - means[1]).norm())
