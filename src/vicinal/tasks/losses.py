"""Losses of classification, and the corrections of them for classes of different size."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing import MixPlan


class LossSettings(Protocol):
    """Keys of the trainer that choose the loss."""

    epochs: int
    label_smoothing: float
    loss: str
    bce_threshold: float | None
    focal_gamma: float
    class_weights: str
    class_weights_beta: float
    class_weights_from: float
    logit_adjustment: float


@dataclass(frozen=True)
class Loss(ABC):
    """A loss of logits (B, K) and the corrections that all losses can have.

    Attributes:
        label_smoothing: in [0, 1], the share of the target that is spread evenly over the classes.
        class_weights: (K,), factor of each class's cost; None for 1.
        log_prior: (K,), added to the logits in training; None for 0.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    log_prior: Tensor | None = None

    @property
    def plain(self) -> bool:
        """True for the cross-entropy with nothing but label smoothing, whose floor has a form of its own."""
        return False

    @abstractmethod
    def __call__(self, plan: MixPlan, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of a mixed batch, a scalar; with ``weight`` (B,), the mean of the weighted losses."""

    @abstractmethod
    def floor(self, targets: Tensor) -> Tensor:
        """Return the lowest loss, (B,), for soft targets (B, K) before smoothing; NaN where it is not known."""

    def adjusted(self, logits: Tensor) -> Tensor:
        """Return the logits that the loss is taken of (Menon et al., arXiv 2007.07314, equation 10)."""
        return logits if self.log_prior is None else logits + self.log_prior

    def weighed(self, values: Tensor) -> Tensor:
        """Return values of the classes, (B, K), times the class weights."""
        return values if self.class_weights is None else values * self.class_weights.to(values)


def at_least_float32(logits: Tensor) -> Tensor:
    """Return logits of 16 bits in float32, others as they are: in bf16, losses and weights have three digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class PerClassLoss(Loss):
    """A loss that is given by its cost of each class: a mixed target has the weighted sum of their costs."""

    @abstractmethod
    def costs(self, logits: Tensor) -> Tensor:
        """Return the loss if each class alone were the target, (B, K)."""

    def lowest(self, targets: Tensor, total: Tensor) -> Tensor:
        """Return the least sum over k of targets_k * cost_k that any logits have, (B,); NaN where it is not known.

        Args:
            targets: (B, K) >= 0, with label smoothing and class weights.
            total: (B,), their sum.
        """
        return torch.where(targets.amax(dim=1) == total, 0.0, math.nan)

    def __call__(self, plan: MixPlan, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        costs = self.weighed(self.costs(at_least_float32(self.adjusted(logits))))
        if self.label_smoothing:  # the same for all labels is the mean
            costs = torch.lerp(costs, costs.mean(dim=1, keepdim=True), self.label_smoothing)
        return plan.mean_loss(lambda labels: costs.gather(1, labels[:, None])[:, 0], labels, weight)

    def floor(self, targets: Tensor) -> Tensor:
        even = torch.full_like(targets, 1 / targets.shape[1])
        weighed = self.weighed(torch.lerp(targets, even, self.label_smoothing))
        return self.lowest(weighed, weighed.sum(dim=1))


class CrossEntropy(PerClassLoss):
    """The cross-entropy of softmax probabilities, in nats."""

    @property
    def plain(self) -> bool:
        return self.class_weights is None

    def __call__(self, plan: MixPlan, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        if self.plain:
            return plan.loss(self.adjusted(logits), labels, self.label_smoothing, weight)  # by fewer kernels
        return super().__call__(plan, logits, labels, weight)

    def costs(self, logits: Tensor) -> Tensor:
        return -logits.log_softmax(dim=1)

    def lowest(self, targets: Tensor, total: Tensor) -> Tensor:
        floor: Tensor = torch.special.entr(targets).sum(dim=1) - torch.special.entr(total)
        return floor


class BinaryCrossEntropy(PerClassLoss):
    """The binary cross-entropy of each class's sigmoid, the mean over the classes (timm ``BinaryCrossEntropy``)."""

    def costs(self, logits: Tensor) -> Tensor:
        return (F.softplus(logits).sum(dim=1, keepdim=True) - logits) / logits.shape[1]

    def lowest(self, targets: Tensor, total: Tensor) -> Tensor:
        entr, other = torch.special.entr, total[:, None] - targets
        floor: Tensor = (entr(targets) + entr(other) - entr(total)[:, None]).mean(dim=1)
        return floor


class SoftmaxBinaryCrossEntropy(BinaryCrossEntropy):
    """The binary cross-entropy of softmax probabilities, the mean over the classes, as manifold mixup trains with.

    vikasverma1077/manifold_mixup ``main.py`` takes ``BCELoss`` of a softmax. Logarithms are cut at -100, as there.
    """

    def costs(self, logits: Tensor) -> Tensor:
        log_p = logits.log_softmax(dim=1).clamp(min=-100)
        # log(1 - p) without the cancellation of 1 - p.
        log_rest = torch.log(-torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).tiny))).clamp(min=-100)
        return (log_rest - log_p - log_rest.sum(dim=1, keepdim=True)) / logits.shape[1]


@dataclass(frozen=True)
class TwoHot(Loss):
    """Binary cross-entropy to all classes whose weight in the target is above a threshold, each a whole label.

    timm ``BinaryCrossEntropy(target_threshold)``; Wightman et al., arXiv 2110.00476. A sample's factor is the mean of
    the class weights over its target.

    Attributes:
        threshold: >= 0.
    """

    threshold: float = 0.0

    def __call__(self, plan: MixPlan, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        logits = at_least_float32(self.adjusted(logits))
        mixed = plan.targets(labels, logits.shape[1])
        whole = (mixed > self.threshold).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, whole, reduction="none").mean(dim=1)
        if self.class_weights is not None:
            losses = losses * self.weighed(mixed).sum(dim=1)
        return losses.mean() if weight is None else (weight * losses).mean()

    def floor(self, targets: Tensor) -> Tensor:
        return targets.new_zeros(len(targets))


@dataclass(frozen=True)
class Focal(PerClassLoss):
    """The focal loss (1 - p)^gamma * -log p of softmax probabilities (Lin et al., arXiv 1708.02002, equation 4).

    Its floor for mixed targets is not known.

    Attributes:
        gamma: >= 0; 0 is the cross-entropy.
    """

    gamma: float = 2.0

    def costs(self, logits: Tensor) -> Tensor:
        log_p = logits.log_softmax(dim=1)
        # 1 - p without cancellation, and not 0, where a power below 1 has no finite gradient.
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma) * log_p


def weights_of_classes(kind: str, counts: Tensor, beta: float) -> Tensor:
    """Return a factor per class, (K,) float32, whose mean over the training images is 1; 0 for a class without any.

    Args:
        kind: "inverse", proportional to 1 / n, or "effective", to (1 - beta) / (1 - beta^n) (Cui et al.,
            arXiv 1901.05555).
        counts: training images per class, (K,).
        beta: in [0, 1).
    """
    n = counts.double()
    sizes = n if kind == "inverse" else (1 - beta**n) / (1 - beta)
    raw = torch.where(n > 0, 1 / sizes, 0.0)
    return (raw * n.sum() / (raw * n).sum()).float()


def loss_of(settings: LossSettings, counts: Tensor | None, epoch: int) -> Loss:
    """Return the loss that the config names.

    Args:
        settings: of the trainer.
        counts: training images per class, (K,) int64, on the device of the training; None where nothing needs them.
        epoch: from 1. Class weights begin late where ``class_weights_from`` says so (deferred re-weighting, Cao et al.,
            arXiv 1906.07413).
    """
    makers: dict[str, Callable[[], Loss]] = {
        "ce": CrossEntropy,
        "bce": BinaryCrossEntropy if settings.bce_threshold is None else lambda: TwoHot(threshold=threshold),
        "bce_softmax": SoftmaxBinaryCrossEntropy,
        "focal": lambda: Focal(gamma=settings.focal_gamma),
    }
    threshold = settings.bce_threshold or 0.0
    loss = replace(
        makers["ce" if settings.loss == "auto" else settings.loss](), label_smoothing=settings.label_smoothing
    )
    done, start = epoch - 1, settings.class_weights_from
    # A quotient is rounded as a share that was typed is; a product may be above a whole epoch.
    if settings.class_weights != "none" and (done if start > 1 else done / settings.epochs) >= start:
        assert counts is not None
        weights = weights_of_classes(settings.class_weights, counts, settings.class_weights_beta)
        loss = replace(loss, class_weights=weights)
    if settings.logit_adjustment:
        assert counts is not None
        prior = (counts.double() / counts.sum()).clamp(min=1e-12).log()  # of a class without images too
        loss = replace(loss, log_prior=(settings.logit_adjustment * prior).float())
    return loss
