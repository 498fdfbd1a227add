"""Partner rules: which sample of the batch a sample is mixed with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import Context, Part, need, need_classes, need_numbers
from vicinal.mixing.transforms import Blank, Transform


@dataclass(frozen=True)
class PartnerRule(Part, ABC):
    """Choose partners."""

    transform: ClassVar[Transform | None] = None
    """Change of the partner before it is mixed in."""
    drawn: ClassVar[bool] = True
    """Whether chance decides, so that a second draw can give other partners."""

    @abstractmethod
    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        """Return the index of each sample's partner, int64 (batch,), for any batch >= 1."""


class Permutation(PartnerRule):
    """A random permutation, self included (facebookresearch/mixup-cifar10 ``train.py``)."""

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.randperm(batch, generator=generator)


class Derangement(PartnerRule):
    """A random permutation of one cycle: no sample is its own partner, unless it is alone."""

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        cycle = torch.randperm(batch, generator=generator)
        partner = torch.empty_like(cycle)
        partner[cycle] = cycle.roll(-1)
        return partner


class Roll(PartnerRule):
    """The sample before: i with i - 1 (torchvision ``v2.MixUp``). Draws nothing."""

    drawn = False

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.arange(batch).roll(1)


class Next(PartnerRule):
    """The sample after: i with i + 1. Draws nothing."""

    drawn = False

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.arange(batch).roll(-1)


class Flip(PartnerRule):
    """The batch from its end: i with B - 1 - i (timm ``Mixup``). Draws nothing; a sample in the middle has itself."""

    drawn = False

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.arange(batch).flip(0)


class SameClass(PartnerRule):
    """A random permutation within each class."""

    needs = frozenset({"labels"})

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        labels = need_classes(context, "partner")
        orders = [torch.randperm(batch, generator=generator) for _ in range(2)]
        by_class, other = (order[labels[order].argsort(stable=True)] for order in orders)
        partner = torch.empty_like(by_class)
        partner[by_class] = other
        return partner


class OtherClass(PartnerRule):
    """Any sample of another class, drawn with replacement; itself where there is none."""

    needs = frozenset({"labels"})

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        labels = need_classes(context, "partner")
        return _pick((labels[:, None] != labels).double(), generator)


@dataclass(frozen=True)
class ClassBalanced(PartnerRule):
    """A sample of a rare class more often: P(j) ~ n(y_j)^-balance, with n training images of its class.

    UniMix (Xu et al., arXiv 2111.03874; Prior-LT ``core.py``): with replacement, within the batch.

    Attributes:
        balance: >= 0; 0 does not look at the classes; 1 makes all classes in the batch as likely as one another. Over
            shuffled batches a class that most of them lack is still rarer. Of batches that are class-balanced
            themselves, it takes the rarest most.
    """

    needs = frozenset({"labels", "counts"})
    balance: float

    def __post_init__(self) -> None:
        if not 0 <= self.balance < math.inf:
            raise ValueError(f"balance must be a finite number >= 0, got {self.balance}")

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        sizes = need(context.counts, "counts")[need_classes(context, "partner")].double()
        return (sizes / sizes.min()).pow(-self.balance).multinomial(batch, replacement=True, generator=generator)


@dataclass(frozen=True)
class LabelKernel(PartnerRule):
    """A sample whose target is near: P(j) ~ exp(-(y_i - y_j)^2 / (2 bandwidth^2)), self included, with replacement.

    C-Mixup (Yao et al., arXiv 2210.05775, equation 6; huaxiuyao/C-Mixup ``algorithm.py``), within the batch. It is a
    method of regression: only targets that are numbers have such a distance, one or several.

    Attributes:
        bandwidth: > 0, in the unit of ``context.labels``: in a training, standard deviations of a numeric target.
    """

    needs = frozenset({"labels"})
    bandwidth: float

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be > 0, got {self.bandwidth}")

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        targets = need_numbers(context, "partner")
        return _pick(torch.exp(-((torch.cdist(targets, targets) / self.bandwidth) ** 2) / 2), generator)


@dataclass(frozen=True)
class Nearest(PartnerRule):
    """k-mixup (Greenewald et al., arXiv 2106.02933, section 2): optimal transport between groups of samples.

    The batch in a random order and in another are cut into groups of ``group``; within each pair of groups, the sum of
    squared distances between the images is made least by ``scipy.optimize.linear_sum_assignment``.

    Attributes:
        group: k >= 1; 1 is a random permutation.
    """

    needs = frozenset({"images"})
    group: int

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group must be >= 1, got {self.group}")

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        from scipy.optimize import linear_sum_assignment

        inputs = need(context.images, "images")
        if not inputs.is_floating_point():
            raise ValueError(
                "partner must be a rule without distances: these inputs are numbers of words, which have none"
            )
        x = inputs.detach().flatten(1).float()
        partner = torch.empty(batch, dtype=torch.int64)
        orders = [torch.split(torch.randperm(batch, generator=generator), self.group) for _ in range(2)]
        for own, other in zip(*orders, strict=True):
            cost = torch.cdist(x[own.to(x.device)], x[other.to(x.device)]).square().cpu()
            rows, columns = map(torch.from_numpy, linear_sum_assignment(cost))
            partner[own[rows]] = other[columns]
        return partner


class NoPartner(PartnerRule):
    """Nothing: zeros, the mean colour after normalisation, without a label. Draws nothing.

    Cutout (DeVries and Taylor, arXiv 1708.04552) is a box with it.
    """

    transform = Blank()

    def draw(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.arange(batch)  # so that all of the target is the sample's own


PARTNERS: dict[str, type[PartnerRule]] = {
    "permutation": Permutation,
    "derangement": Derangement,
    "roll": Roll,
    "flip": Flip,
    "next": Next,
    "same_class": SameClass,
    "other_class": OtherClass,
    "nearest": Nearest,
    "class_balanced": ClassBalanced,
    "label_kernel": LabelKernel,
    "blank": NoPartner,
}
"""Partner rules by the names that ``mixup.partner`` takes."""


def _pick(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one column per row with probabilities proportional to its weights, (B, B); its own where all are 0."""
    weights += torch.diag((weights.sum(dim=1) == 0).to(weights.dtype))
    return weights.multinomial(1, generator=generator).squeeze(1)
