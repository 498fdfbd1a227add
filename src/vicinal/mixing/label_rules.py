"""Label rules: the weight of a sample in its target, from how much of the mixed image is its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import Context, Part, need, need_classes


@dataclass(frozen=True)
class LabelRule(Part, ABC):
    """Weigh labels."""

    @abstractmethod
    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        """Return the weight of the sample itself in its target, (B,) or (1,), in [0, 1]; 1 where nothing is mixed.

        Args:
            drawn: lambda as it was drawn, (B,) or (1,).
            area: the mean of the mask over the image, (B,) or (1,): 1 where nothing is mixed.
            partner: (B,) int64.
            context: of the batch.
        """


class Area(LabelRule):
    """The mean of the mask: what is really seen of the sample."""

    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        return area


class Drawn(LabelRule):
    """Lambda as it was drawn, whatever the mask became, as in CutMix without the correction of its area."""

    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        return drawn


class Majority(LabelRule):
    """All to the sample with the larger part: the input is mixed and the target is not (MixupIO, a control)."""

    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        return (area >= 0.5).to(area.dtype)


@dataclass(frozen=True)
class ConstantLabel(LabelRule):
    """The same weight wherever anything is mixed.

    Attributes:
        label_weight: of the sample itself, in [0, 1].
    """

    label_weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.label_weight <= 1:
            raise ValueError(f"label_weight must be in [0, 1], got {self.label_weight}")

    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        return torch.where(area < 1, self.label_weight, torch.ones_like(area))


@dataclass(frozen=True)
class Remix(LabelRule):
    """All to the rarer class where the classes differ much in size (Chou et al., arXiv 2007.03943, equation 6).

    With n_i and n_j training images of the sample's class and of its partner's, the weight of the sample is 0 where
    n_i / n_j >= kappa and lambda < tau, 1 where n_i / n_j <= 1 / kappa and 1 - lambda < tau, and else lambda.

    Attributes:
        kappa: >= 1, the ratio from which classes differ much. The paper: 3.
        tau: in [0, 1], how small the part of the larger class has to be. The paper: 0.5.
    """

    needs = frozenset({"labels", "counts"})
    kappa: float
    tau: float

    def __post_init__(self) -> None:
        if not self.kappa >= 1:
            raise ValueError(f"kappa must be >= 1, got {self.kappa}")
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau must be in [0, 1], got {self.tau}")

    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        own = need(context.counts, "counts")[need_classes(context, "labels")].double()
        ratio, area = own / own[partner], area.expand(len(partner))
        rarer = torch.where((ratio <= 1 / self.kappa) & (1 - area < self.tau), 1.0, area)
        return torch.where((ratio >= self.kappa) & (area < self.tau), 0.0, rarer)


LABEL_RULES: dict[str, type[LabelRule]] = {
    "area": Area,
    "drawn": Drawn,
    "majority": Majority,
    "remix": Remix,
    "constant": ConstantLabel,
}
"""Label rules by the names that ``mixup.labels`` takes."""
