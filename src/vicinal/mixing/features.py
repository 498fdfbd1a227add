"""Strategies for hidden features: noise on top of the mix, and moments in the place of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.label_rules import LabelRule
from vicinal.mixing.masks import ScalarMask
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategies import ManifoldMixup
from vicinal.mixing.transforms import Transform

LARGEST_SEED = 2**62


@dataclass(frozen=True, kw_only=True)
class NoisyPlan(MixPlan):
    """A plan with noise on what is mixed: (1 + multiplied (2 U - 1)) h + added N for U uniform and N normal.

    multiplied, added: standard scales of the two.
    seed: of the noise, whose shape is known only in the network.
    """

    multiplied: float
    added: float
    seed: int

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        mixed = super().mix(x, out)
        if not self.active:
            return mixed
        generator = torch.Generator(x.device).manual_seed(self.seed)
        uniform = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (1 + self.multiplied * (2 * uniform - 1)) * mixed + self.added * normal


@dataclass(frozen=True, kw_only=True)
class NoisyFeatureMixup(ManifoldMixup):
    """Noisy feature mixup (Lim et al., arXiv 2110.02180, section 3): manifold mixup, then noise at the same depth.

    The noise is scaled by two draws of Beta(2, 5) per batch. Written from the formula.

    Attributes:
        add: >= 0, finite, scale of the added noise. The paper: 0.4.
        multiply: >= 0, finite, scale of the multiplied noise. The paper: 0.2.
    """

    add: float = 0.4
    multiply: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("add", "multiply"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if self.members > 2:
            raise ValueError(f"members must be 2 for {type(self).__name__}, got {self.members}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        plan = super().make_plan(lam, partner, shape, generator, context)
        # Beta(2, 5) is the second smallest of six uniforms.
        multiplied, added = torch.rand(2, 6, dtype=torch.float64, generator=generator).sort().values[:, 1].tolist()
        seed = int(torch.randint(LARGEST_SEED, (), generator=generator))
        return NoisyPlan(
            lam, partner, plan.layer, multiplied=self.multiply * multiplied, added=self.add * added, seed=seed
        )


class ExchangeMoments(Transform):
    """The sample with the partner's mean and deviation over the channels, at each position (PONO)."""

    epsilon: ClassVar[float] = 1e-5

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        moments = [torch.var_mean(part, dim=1, keepdim=True, correction=0) for part in (x, other)]
        (own_std, own_mean), (std, mean) = (((variance + self.epsilon).sqrt(), mean) for variance, mean in moments)
        return (x - own_mean) / own_std * std + mean


@dataclass(frozen=True, kw_only=True)
class MoEx(ManifoldMixup):
    """Moment exchange (Li et al., arXiv 2002.11102; Boyiliee/MoEx): normalised features with the partner's moments.

    Nothing else of the partner is mixed in, so the target has a constant weight, ``label_weight``. The paper: 0.9 with
    ``prob`` 1 on ImageNet, 0.5 with 0.25 on CIFAR; after the first stage.
    """

    labels: str | LabelRule = "constant"
    label_weight: float = 0.9
    most_members: ClassVar[int] = 2

    @staticmethod
    def default_layers(blocks: Sequence[str]) -> list[str]:
        return [*blocks[:1]]

    def draw_lam(self, rows: int, generator: torch.Generator, context: Context) -> Tensor:
        return torch.zeros(rows, dtype=torch.float64)

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        plan = super().make_plan(lam, partner, shape, generator, context)
        mask = ScalarMask(lam.float().expand(len(partner)))  # 1 where nothing is mixed, else 0
        return MixPlan(lam, partner, plan.layer, mask, transform=ExchangeMoments())
