"""A plain multi-layer perceptron."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from vicinal.models.shapes import is_probability
from vicinal.utils.image_size import ImageSize, sides


class MLP(nn.Sequential):
    """Linear, ReLU and dropout for each hidden layer, then a linear classifier; blocks ``hidden1``, ``hidden2``, ...

    Args:
        channels, image_size, classes: of every network; the images are flattened.
        hidden: units of each hidden layer, each at least 1; an empty list is softmax regression.
        dropout: probability in [0, 1) of dropping a hidden unit.
    """

    def __init__(
        self,
        channels: int,
        image_size: ImageSize,
        classes: int,
        *,
        hidden: list[int] = [256, 256],  # noqa: B006 - read only; the hint is what the config is checked against
        dropout: float = 0.0,
    ) -> None:
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden: every layer must have at least 1 unit, got {hidden}")
        is_probability("dropout", dropout)
        super().__init__()
        widths = [channels * prod(sides(image_size)), *hidden]
        self.add_module("flatten", nn.Flatten())
        for depth, (inputs, units) in enumerate(pairwise(widths), start=1):
            self.add_module(f"hidden{depth}", nn.Sequential(nn.Linear(inputs, units), nn.ReLU(), nn.Dropout(dropout)))
        self.add_module("head", nn.Linear(widths[-1], classes))
        self.blocks = tuple(f"hidden{depth}" for depth in range(1, len(widths)))


def table_mlp(
    features: int,
    classes: int,
    *,
    hidden: list[int] = [128, 64],  # noqa: B006 - as above
    dropout: float = 0.0,
) -> MLP:
    """Return the perceptron for rows of a table, (B, features)."""
    return MLP(features, 1, classes, hidden=hidden, dropout=dropout)
