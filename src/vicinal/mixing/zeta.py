"""Zeta-mixup: the whole batch in every sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.several import blend


@dataclass(frozen=True, kw_only=True)
class ZetaMixup(CountedMixup):
    """Zeta-mixup (Abhishek et al., arXiv 2204.03323, section 3): weights 1 / rank^gamma.

    Ranks are a random order of the batch, the sample itself first; its weight is more than half from gamma 1.73 on.
    Lambda is not drawn.

    Attributes:
        gamma: >= 0, finite. The paper: 2.8.
    """

    gamma: float = 2.8

    def __post_init__(self) -> None:
        self._check_several("ZetaMixup")
        super().__post_init__()
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a finite number >= 0, got {self.gamma}")

    def draw_partner(self, batch: int, generator: torch.Generator, context: Context) -> Tensor:
        """Return partners that nothing reads, drawn so that later draws are those of earlier versions."""
        return torch.randperm(batch, generator=generator)

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        batch = shape[0]
        order = torch.rand(batch, batch, generator=generator).fill_diagonal_(-1).argsort(dim=1)  # itself first
        shares = torch.arange(1, batch + 1, dtype=torch.float64) ** -self.gamma
        shares = (shares / shares.sum()).expand(len(lam), -1)
        unmixed = torch.eye(1, batch, dtype=torch.float64)
        return blend(torch.where(lam[:, None] < 1, shares, unmixed), order[:, 1:])
