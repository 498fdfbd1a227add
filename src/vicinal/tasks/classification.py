"""Classification: one class per sample. Torch is imported inside the functions: tables read this module too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self

from vicinal.tasks.class_accuracy import BalancedAccuracy, GroupAccuracy
from vicinal.tasks.metric import MeanMetric, Metric
from vicinal.tasks.task import Bounds, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import Loss, LossSettings

ECE_BINS = 15
"""Bins of equal width over [0, 1]."""
EPSILON = 1e-6
"""Rounding of weights that sum to 1."""


class ClassOutputs(NamedTuple):
    """Outputs of a batch, and what several metrics need of them, computed once.

    logits: (B, K) float32, whose softmax are the probabilities.
    probabilities: (B, K).
    confidence: (B,), the probability of the predicted class.
    predicted: (B,) int64, the predicted class.
    """

    logits: Tensor
    probabilities: Tensor
    confidence: Tensor
    predicted: Tensor


def acc1(outputs: ClassOutputs, labels: Tensor) -> Tensor:
    return outputs.predicted == labels


def acc5(outputs: ClassOutputs, labels: Tensor) -> Tensor:
    top = outputs.logits.topk(min(5, outputs.logits.shape[1]), dim=1, sorted=False).indices
    return (top == labels[:, None]).any(dim=1)


def nll(outputs: ClassOutputs, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats, summed over the batch by one kernel."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs.logits, labels, reduction="sum")


def brier(outputs: ClassOutputs, labels: Tensor) -> Tensor:
    """Return the squared distance between probabilities and one-hot label, summed over the classes: in [0, 2].

    The original convention (Brier, Monthly Weather Review 78, 1950); for two classes, half of it is common as well.
    """
    own = labels[:, None]
    own_distance = outputs.probabilities.gather(1, own) - 1
    return outputs.probabilities.square().scatter_(1, own, own_distance.square()).sum(dim=1)


class CalibrationError(Metric):
    """Expected calibration error with 15 equal-width bins (Guo et al., arXiv 1706.04599, equation 3).

    As torchmetrics' ``MulticlassCalibrationError(norm="l1", n_bins=15)``, where a confidence of exactly 1 has its own
    bin; importing that takes longer than the first epoch of the default job.
    """

    def sums(self, outputs: ClassOutputs, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return hits and confidence per bin, (2, 16)."""
        import torch
        from torch.nn.functional import one_hot

        index = torch.bucketize(outputs.confidence, _edges(targets.device), right=True) - 1
        # A product with one-hot rows instead of a scatter gives the same bits every time on a GPU too.
        member = one_hot(index, ECE_BINS + 1).to(dtype)
        return torch.stack([acc1(outputs, targets).to(dtype), outputs.confidence.to(dtype)]) @ member

    def value(self, totals: Tensor, count: int) -> Tensor:
        hits, confidence = totals
        error: Tensor = (hits - confidence).abs().sum() / count
        return error


@cache
def _edges(device: torch.device) -> Tensor:
    import torch

    return torch.linspace(0, 1, ECE_BINS + 1, device=device)


@dataclass(frozen=True)
class Classification(Task):
    """One class per sample, of logits (B, K).

    Attributes:
        sigmoid: whether a logit is the log-odds of its class, as ``trainer.loss=bce`` trains it. Probabilities are the
            sigmoids then, divided by their sum, and the softmax of the logits otherwise.
    """

    sigmoid: bool = False
    has_classes = True
    losses = ("ce", "bce", "bce_softmax", "focal")

    def strata(self, targets: Tensor) -> Tensor:
        """Return the targets, which are classes. Raises ValueError: they are none."""
        if targets.dim() != 1 or targets.is_floating_point():
            kind = "floats" if targets.is_floating_point() else "integers"
            found = f"({', '.join(['N', *map(str, targets.shape[1:])])}) {kind}"
            raise ValueError(f"task must fit the targets: classification needs (N,) integers, got {found}")
        return targets

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        for part in data.parts.values():
            self.strata(part.targets)

    def trained_with(self, loss: str) -> Self:
        return replace(self, sigmoid=loss == "bce")

    def bind(self, data: RunData, uneven: bool) -> Self:
        if not uneven:
            return self
        counts = self.counts(data.true_targets, len(data.class_names)).tolist()
        return replace(self, metrics=tuple(metric.bind(counts) for metric in self.metrics))

    def loss(self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None) -> Loss:
        from vicinal.tasks.losses import loss_of

        return loss_of(settings, counts, epoch)

    def score(self, plan: MixPlan, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the target's weight of the predicted class: lambda-weighted accuracy."""
        predicted = outputs.argmax(dim=1)
        return plan.pair_loss(lambda labels: (predicted == labels).float(), targets)

    def bounds(self, plan: MixPlan, targets: Tensor, classes: int, loss: Loss) -> Bounds:
        import torch

        if not plan.pairs and plan.active:
            mixed = plan.targets(targets, classes)
            own = mixed.gather(1, targets[:, None])[:, 0]
            entropy_of = torch.special.entr(mixed).sum(dim=1)
            return Bounds(own > 1 - EPSILON, entropy_of, loss.floor(mixed), mixed.amax(dim=1))
        same = targets == targets[plan.partner] if plan.active else torch.ones_like(targets, dtype=torch.bool)
        weight = torch.where(same, 1.0, plan.lam)  # of the sample's own class
        if loss.plain:
            floor = entropy(weight, classes, loss.label_smoothing)  # without building the targets
        else:
            floor = loss.floor(plan.targets(targets, classes))
        return Bounds(same, entropy(weight, classes), floor, torch.maximum(weight, 1 - weight))

    def clean_floor(self, counts: Tensor, loss: Loss) -> float:
        import torch

        if loss.plain:
            return entropy(torch.ones(1), len(counts), loss.label_smoothing).item()
        return float(loss.floor(torch.eye(len(counts))).double() @ counts.double() / counts.sum())

    def caption(self, members: Sequence[tuple[float, int]], class_names: Sequence[str]) -> str:
        """Return such as ``0.73 cat + 0.27 dog``, or ``cat``."""
        if len(members) == 1:
            return class_names[members[0][1]]
        return " + ".join(f"{weight:.2f} {class_names[label]}" for weight, label in members)

    def read(self, outputs: Tensor, model: nn.Module | None = None) -> ClassOutputs:
        logits = outputs.float()
        if not self.sigmoid:
            probabilities = logits.softmax(dim=1)
            return ClassOutputs(logits, probabilities, *probabilities.max(dim=1))
        from torch.nn.functional import logsigmoid

        predicted = logits.argmax(dim=1, keepdim=True)  # probabilities of two that are nearly sure are the same number
        logits = logsigmoid(logits)  # whose softmax they are
        probabilities = logits.softmax(dim=1)
        return ClassOutputs(logits, probabilities, probabilities.gather(1, predicted)[:, 0], predicted[:, 0])

    def record(self, outputs: ClassOutputs, targets: Tensor) -> dict[str, Tensor]:
        return {"labels": targets, "predicted": outputs.predicted, "confidence": outputs.confidence}


def entropy(weight: Tensor, classes: int, label_smoothing: float = 0.0) -> Tensor:
    """Return the entropy in nats of targets with these weights (B,) of one class, and the rest on another; (B,).

    Without smoothing this is the binary entropy.
    """
    import torch

    entr, other = torch.special.entr, 1 - weight
    if not label_smoothing:
        return entr(weight) + entr(other)  # type: ignore[no-any-return]
    share, spread = 1 - label_smoothing, label_smoothing / classes
    rest = entr(torch.full_like(weight, spread))  # of one class; where both labels are the same, the other is one more
    return entr(share * weight + spread) + entr(share * other + spread) + (classes - 2) * rest  # type: ignore[no-any-return]


CLASSIFICATION = Classification(
    name="classification",
    metrics=(
        MeanMetric("acc1", "top-1 accuracy", "%", "higher", acc1, short="top-1"),
        MeanMetric("acc5", "top-5 accuracy", "%", "higher", acc5, short="top-5"),
        MeanMetric("nll", "negative log-likelihood", "nats", "lower", nll, short="NLL"),
        CalibrationError("ece", "expected calibration error", "%", "lower", short="ECE"),
        MeanMetric("brier", "Brier score", "", "lower", brier, short="Brier"),
        BalancedAccuracy("balanced_acc", "balanced accuracy", "%", "higher", short="balanced"),
        GroupAccuracy("acc_many", "accuracy of the largest classes", "%", "higher", "many", short="many-shot"),
        GroupAccuracy("acc_medium", "accuracy of the medium classes", "%", "higher", "medium", short="medium-shot"),
        GroupAccuracy("acc_few", "accuracy of the smallest classes", "%", "higher", "few", short="few-shot"),
    ),
    selection="acc1",
    score_key="acc1",
    loss_key="nll",
)
