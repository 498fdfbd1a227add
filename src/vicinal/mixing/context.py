"""What a strategy may look at when it plans a batch, beside the batch's shape, and the parts that look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """Facts on the batch and the training. The loop provides those that ``strategy.needs`` names; the others are None.

    Attributes:
        images: (B, C, H, W) normalised, not mixed yet; or other inputs, such as token ids (B, L) int64.
        saliency: (B, H, W), how much each pixel matters to the loss, on any device; (B, L) of each word.
        labels: (B,) int64, on the CPU; or other targets, (B, ...). Those of a regression are (B, D) floats in standard
            deviations, and sets of classes (B, K) bool.
        counts: training images per class, (K,) int64, on the CPU.
        epoch: of the batch, from 1.
        epochs: of the whole training.
        progress: share of the training's steps that are done, in [0, 1).
        shapes: {depth: shape of one sample there, (C, ...)} of the blocks that the strategy mixes.
    """

    images: Tensor | None = None
    saliency: Tensor | None = None
    labels: Tensor | None = None
    counts: Tensor | None = None
    epoch: int | None = None
    epochs: int | None = None
    progress: float | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None


NOTHING = Context()
"""Nothing but the shape is known."""


def need(value: T | None, name: str) -> T:
    """Return a fact of the context. Raises ValueError where it was not provided."""
    if value is None:
        raise ValueError(f"context.{name} is needed: strategy.sample(shape, generator, Context({name}=...))")
    return value


def need_classes(context: Context, key: str) -> Tensor:
    """Return the class of each sample, (B,) int64. Raises ValueError on the key if a sample has not one class."""
    labels = need(context.labels, "labels")
    if labels.dim() != 1 or labels.is_floating_point():
        shape = (*labels.shape,)
        raise ValueError(f"{key} must be one without classes: a sample of these data has not one, targets {shape}")
    return labels


def need_numbers(context: Context, key: str) -> Tensor:
    """Return the numeric target of each sample, (B, D) float64. Raises ValueError on the key if targets are others."""
    labels = need(context.labels, "labels")
    if labels.dim() != 2 or not labels.is_floating_point():
        what = f"labels {(*labels.shape,)} {str(labels.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{key} must be a rule without distances: they are of the numbers of a regression, not of {what}"
        )
    return labels.double()


@dataclass(frozen=True)
class Part:
    """A law, a partner rule or a label rule. Its fields are keys of the strategies, or its own."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Facts of the context that it looks at."""
