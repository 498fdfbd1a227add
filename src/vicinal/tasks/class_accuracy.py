"""Accuracy class by class: mean over all classes, and over those with many, medium and few training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vicinal.tasks.metric import Metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUPS = ("many", "medium", "few")
"""Training images of a class against the others."""


class BalancedAccuracy(Metric):
    """Mean recall over the classes that have samples, as scikit-learn's ``balanced_accuracy_score``."""

    def sums(self, outputs: Any, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return hits and samples per class, (2, K)."""
        import torch

        hits = outputs.predicted == targets
        counted = torch.stack([hits, torch.ones_like(hits)]).to(dtype)
        # Sums of whole numbers are exact in any order, so that a GPU gives the same bits every time.
        return counted.new_zeros(2, outputs.logits.shape[1]).index_add_(1, targets, counted)

    def value(self, totals: Tensor, count: int) -> Tensor:
        """Return the mean recall; 0 where there are no samples."""
        hits, samples = totals
        recall = hits / samples.clamp(min=1)
        mean: Tensor = recall.sum() / (samples > 0).sum().clamp(min=1)
        return mean


@dataclass(frozen=True)
class GroupAccuracy(BalancedAccuracy):
    """Mean recall over a third of the classes, by their number of training images, which :meth:`bind` gives.

    Many and few are K // 3 classes each, at least one, and medium are the rest, as three, four and three of ten classes
    (Liu et al., arXiv 1904.05160, cut at 100 and 20 images instead). Of equal numbers the first class has more.
    """

    group: str  # one of GROUPS
    classes: tuple[int, ...] = field(default=(), kw_only=True)

    @property
    def ready(self) -> bool:
        return bool(self.classes)

    def bind(self, counts: Sequence[int]) -> GroupAccuracy:
        order = sorted(range(len(counts)), key=lambda label: -counts[label])
        third = max(1, len(order) // 3)
        parts = (order[:third], order[third:-third], order[-third:])
        return replace(self, classes=tuple(parts[GROUPS.index(self.group)]))

    def value(self, totals: Tensor, count: int) -> Tensor:
        return super().value(totals[:, list(self.classes)], count)
