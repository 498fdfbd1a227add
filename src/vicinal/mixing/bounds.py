"""What a perfect learner would reach on mixed targets: why train accuracy stays low and train loss high."""

import torch
from torch import Tensor

from vicinal.mixing.plan import MixPlan


def same_class(plan: MixPlan, labels: Tensor) -> Tensor:
    """Bool (B,): the sample's target is one class alone."""
    return labels == labels[plan.partner] if plan.active else torch.ones_like(labels, dtype=torch.bool)


def class_weight(lam: Tensor, same: Tensor) -> Tensor:
    """Weight of the sample's own class in its target, (B,): lambda, or 1 where both labels are the same class."""
    return torch.where(same, 1.0, lam)


def accuracy_ceiling(weight: Tensor) -> Tensor:
    """Highest possible ``plan.correct`` of each sample, (B,) float32, for its own class's weight (B,)."""
    return torch.maximum(weight, 1 - weight)


def loss_floor(weight: Tensor, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
    """Lowest possible ``plan.loss`` of each sample, (B,) float32, in nats: the entropy of its target.

    Without smoothing this is the binary entropy of its own class's weight (B,).
    """
    entr, other = torch.special.entr, 1 - weight
    if not label_smoothing:
        return entr(weight) + entr(other)  # type: ignore[no-any-return]
    share, spread = 1 - label_smoothing, label_smoothing / num_classes
    rest = entr(torch.full_like(weight, spread))  # of one class; where both labels are the same, the other is one more
    return entr(share * weight + spread) + entr(share * other + spread) + (num_classes - 2) * rest  # type: ignore[no-any-return]
