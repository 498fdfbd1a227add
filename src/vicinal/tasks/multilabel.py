"""Multi-label classification: any number of classes per sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vicinal.tasks.metric import MeanMetric, Metric
from vicinal.tasks.task import Bounds, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy in nats, the mean over the classes; (B,). Targets may be soft."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def subset_acc(logits: Tensor, targets: Tensor) -> Tensor:
    """Return whether all classes of a sample are right, (B,)."""
    return ((logits > 0) == (targets > 0.5)).all(dim=1)


@dataclass(frozen=True)
class F1(Metric):
    """2 TP / (2 TP + FP + FN) of classes whose probability is above 0.5, as scikit-learn's ``f1_score``.

    average: "micro", over all decisions, or "macro", the mean over the classes; 0 for a class that neither has.
    """

    average: str

    def sums(self, outputs: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return true positives, and the sum of predicted and true ones, per class, (2, K)."""
        import torch

        predicted, true = outputs > 0, targets > 0.5
        return torch.stack([(predicted & true).sum(0), predicted.sum(0) + true.sum(0)]).to(dtype)

    def value(self, totals: Tensor, count: int) -> Tensor:
        both, either = totals.sum(dim=1, keepdim=True) if self.average == "micro" else totals
        score: Tensor = (2 * both / either.clamp(min=1)).mean()
        return score


class MultilabelLoss:
    """The binary cross-entropy to the mixed targets, which are soft."""

    def __call__(self, plan: MixPlan, outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        losses = bce(outputs.float(), plan.mix_targets(targets))
        return losses.mean() if weight is None else (weight * losses).mean()


class Multilabel(Task):
    """Whether a sample has each class: (N, K) float32, 0 or 1."""

    losses = ("bce",)

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        for name, part in data.parts.items():
            y = part.targets
            fits = y.is_floating_point() and y.dim() == 2 and y.shape[1] == len(data.class_names)
            if not fits or not ((y == 0) | (y == 1)).all():
                wanted = f"(N, {len(data.class_names)}) floats that are 0 or 1"
                raise ValueError(f"task must fit the targets: multilabel needs {wanted}, got others in {name}")

    def example_targets(self, batch: int, classes: int, inputs: Sequence[int]) -> Tensor:
        import torch

        return (torch.arange(batch)[:, None] >> torch.arange(classes).clamp(max=62)) % 2 == 1

    def compared(self, targets: Tensor) -> Tensor:
        """Return which classes a sample has, bool (B, K): sets, and no numbers that have distances."""
        return targets > 0.5

    def loss(
        self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None
    ) -> MultilabelLoss:
        return MultilabelLoss()

    def score(self, plan: MixPlan, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the target's weight of the predicted set of classes, (B,)."""
        return plan.pair_loss(lambda targets: subset_acc(outputs, targets).float(), targets)

    def bounds(self, plan: MixPlan, targets: Tensor, classes: int, loss: Any) -> Bounds:
        import torch

        same = plan.alike(targets).to(targets.dtype)
        mixed = plan.mix_targets(targets).clamp(0, 1)  # a sum of many weights is 1 up to rounding
        entropy = torch.special.entr(mixed) + torch.special.entr(1 - mixed)
        weight = torch.where(same > 0, 1.0, plan.lam) if plan.pairs else torch.full_like(same, torch.nan)
        return Bounds(same, entropy.sum(dim=1), entropy.mean(dim=1), torch.maximum(weight, 1 - weight))

    def caption(self, members: Sequence[tuple[float, Any]], class_names: Sequence[str]) -> str:
        """Return such as ``0.73 (cat, dog) + 0.27 (bird)``."""
        sets = [", ".join(name for name, has in zip(class_names, target, strict=True) if has) for _, target in members]
        if len(sets) == 1:
            return sets[0] or "none"
        return " + ".join(f"{weight:.2f} ({names})" for (weight, _), names in zip(members, sets, strict=True))

    def read(self, outputs: Tensor, model: nn.Module | None = None) -> Tensor:
        return outputs.float()


MULTILABEL = Multilabel(
    name="multilabel",
    metrics=(
        F1("f1", "F1 over all decisions", "%", "higher", "micro", short="F1"),
        F1("f1_macro", "mean F1 of the classes", "%", "higher", "macro", short="macro F1"),
        MeanMetric("subset_acc", "subset accuracy: all classes right", "%", "higher", subset_acc, short="subset"),
        MeanMetric("cross_entropy", "binary cross-entropy", "nats", "lower", bce, short="BCE"),
    ),
    selection="f1",
    score_key="subset_acc",
    loss_key="cross_entropy",
)
