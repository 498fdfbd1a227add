"""UniMix: lambda and partner by the sizes of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context, need, need_classes
from vicinal.mixing.label_rules import LabelRule
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.partners import PartnerRule
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.several import blend


@dataclass(frozen=True, kw_only=True)
class UniMix(Mixup):
    """Input mixup whose law looks at the sizes of both classes (Xu et al., arXiv 2111.03874; Prior-LT ``core.py``).

    Lambda of sample i with partner j is (Beta(alpha, alpha) + n_j / (n_i + n_j)) mod 1, with n training images of the
    class. With alpha below 1 the peak is at n_j / (n_i + n_j), a larger part of the rarer class; the mean stays near
    0.5. With alpha 1 lambda is uniform, whatever the sizes are. Partners are drawn by ``balance``, of the paper 0.5 for
    CIFAR-10 and 0.1 for CIFAR-100. Its loss has ``trainer.logit_adjustment=1``.
    """

    most_members: ClassVar[int] = 2
    looks = frozenset({"labels", "counts"})
    per_sample: bool = True
    partner: str | PartnerRule = "class_balanced"
    balance: float = 0.5
    labels: str | LabelRule = "area"

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        sizes = need(context.counts, "counts")[need_classes(context, "the strategy")].double()
        other = sizes[partner]
        return blend(torch.where(lam < 1, (lam + other / (sizes + other)) % 1, lam), partner)

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        return None  # it depends on the classes of the pairs
