"""What a perfect learner would reach on mixed targets: why train accuracy stays low and train loss high."""

import torch
from torch import Tensor

from vicinal.mixing.plan import MixPlan


def accuracy_ceiling(plan: MixPlan, labels: Tensor) -> Tensor:
    """Highest possible ``plan.correct`` of each sample, (B,) float32.

    max(lam, 1 - lam), or 1 where both labels are the same class.
    """
    lam = torch.where(_same_class(plan, labels), 1.0, plan.lam)
    return torch.maximum(lam, 1 - lam)


def loss_floor(plan: MixPlan, labels: Tensor, num_classes: int, label_smoothing: float = 0.0) -> Tensor:
    """Lowest possible ``plan.loss`` of each sample, (B,) float32, in nats: the entropy of its target.

    Without smoothing this is the binary entropy of lambda, or 0 where both labels are the same class.
    """
    same = _same_class(plan, labels)
    lam = torch.where(same, 1.0, plan.lam)
    spread = label_smoothing / num_classes
    own: Tensor = torch.special.entr((1 - label_smoothing) * lam + spread)
    other = torch.special.entr((1 - label_smoothing) * (1 - lam) + spread)
    rest = torch.special.entr(torch.full_like(lam, spread))
    return own + torch.where(same, (num_classes - 1) * rest, other + (num_classes - 2) * rest)


def _same_class(plan: MixPlan, labels: Tensor) -> Tensor:
    """Bool (B,): the sample's target is one class alone."""
    return labels == labels[plan.partner] if plan.active else torch.ones_like(labels, dtype=torch.bool)
