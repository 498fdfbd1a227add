"""Labels by attention: CutMix whose target has what the network looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.layouts import IMAGES
from vicinal.mixing.masks import Boxes
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategies import CutMix


def patch_grid(patches: int, size: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of so many square patches of an image of this height and width, row by row.

    Raises ValueError: no square patches tile it so.

    >>> patch_grid(15, (12, 20))
    (3, 5)
    """
    height, width = size
    rows = round((patches * height / width) ** 0.5)
    if not rows or patches % rows or rows * width != patches // rows * height:
        raise ValueError(f"{patches} patches are no grid of squares of an image of {height} x {width} pixels")
    return rows, patches // rows


@dataclass(frozen=True, kw_only=True)
class AttentionPlan(MixPlan):
    """A plan whose weights in the target are half area and half attention.

    block: name of the block whose output is attention, (B, heads, T, T), of the class token and T - 1 patches.
    seen: after a forward pass, the attention of the class token to the patches, (B, T - 1).
    """

    block: str
    seen: list[Tensor]

    @property
    def reads(self) -> str:
        return self.block

    def see(self, output: Tensor) -> None:
        self.seen[:] = [output.detach()[:, :, 0, 1:].float().mean(dim=1)]

    def settled(self) -> MixPlan:
        if not (self.active and self.seen and isinstance(self.mask, Boxes)):
            return self
        (attention,) = self.seen
        inside = self.mask.inside(*self.mask.size).float()
        grid = patch_grid(attention.shape[1], self.mask.size)
        share = F.adaptive_avg_pool2d(inside, grid).flatten(1).expand_as(attention)
        partner = (attention * share).sum(dim=1) / attention.sum(dim=1)
        return replace(self, lam=1 - (1 - self.lam + partner) / 2)


@dataclass(frozen=True, kw_only=True)
class TransMix(CutMix):
    """TransMix (Chen et al., arXiv 2111.09833, equation 5; Beckschen/TransMix): labels by area and attention.

    The partner's weight is the mean of the area of its box and of the attention of the class token to it, in the last
    block, over all heads. Needs a network with such attention, as :class:`~vicinal.models.vit.ViT` has.

    Attributes:
        attention: name of the module whose output is the attention, (B, heads, T, T).
    """

    mixes = IMAGES
    attention: str = "attention"

    @property
    def reads(self) -> Sequence[str]:
        return (self.attention,)

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        boxes = Boxes.sample(lam, shape[2:], generator, self.odd_sides)
        return AttentionPlan(lam, partner, mask=boxes, block=self.attention, seen=[])
