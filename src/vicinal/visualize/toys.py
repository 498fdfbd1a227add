"""Points in the plane that a line cannot part."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOYS = ("moons", "circles", "spirals")


def toy(name: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of two classes, as many of each: (count, 2) float32 within about [-1.5, 1.5], and labels (count,) int64.

    Moons and circles are scikit-learn's ``make_moons`` and ``make_circles``, with noise.
    """
    from sklearn.datasets import make_circles, make_moons

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
    """Two arms of an Archimedean spiral, the second half a turn behind the first."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    share = torch.rand(count, generator=generator).sqrt()  # as dense outside as inside
    angle = 2 * math.pi * turns * share + math.pi * labels
    radius = 0.15 + 1.25 * share
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return points + noise * torch.randn(count, 2, generator=generator), labels
