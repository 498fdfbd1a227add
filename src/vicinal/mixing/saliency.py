"""Strategies that look at what matters in an image: SaliencyMix, and PuzzleMix without a compiled graph cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.context import Context, need
from vicinal.mixing.fields import SoftMask
from vicinal.mixing.layouts import IMAGES
from vicinal.mixing.masks import Boxes
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.puzzle import SOLVERS, Transport, block_energy, transported

RADII = (2, 4, 8)
"""Of the surroundings that a pixel is compared with, in pixels."""
MOST_HALVINGS = 4
"""PuzzleMix cuts a side into 2, 4, 8 or 16 blocks."""


def centre_surround(images: Tensor) -> Tensor:
    """Return how much each pixel differs from its surroundings at three scales, (B, H, W), for images (B, C, H, W)."""
    gray = images.float().mean(dim=1, keepdim=True)
    saliency = torch.zeros_like(gray)
    for radius in RADII:
        mean = F.avg_pool2d(gray, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
        saliency += (gray - mean).abs()
    return saliency[:, 0]


@dataclass(frozen=True)
class SaliencyMix(Mixup):
    """SaliencyMix (Uddin et al., arXiv 2006.01791, section 3.2): CutMix around the partner's most salient pixel.

    Written from the formula. Each sample has a box of its own; the reference's code takes the box of the first partner
    for the whole batch, and OpenCV's saliency, in whose place :func:`centre_surround` stands.
    """

    mixes = IMAGES
    looks = frozenset({"images"})

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        size, images = (shape[-2], shape[-1]), need(context.images, "images")
        peak = centre_surround(images.detach()).flatten(1).argmax(dim=1).cpu()[partner]
        share = (1 - lam).sqrt().expand(shape[0])
        lengths = [(side * share).long() for side in size]
        return MixPlan(lam, partner, mask=Boxes.around([peak // size[1], peak % size[1]], lengths, size))


@dataclass(frozen=True, kw_only=True)
class PuzzleMix(Mixup):
    """PuzzleMix (Kim et al., arXiv 2009.06962; snu-mllab/PuzzleMix ``mixup.py``): keep the salient blocks of both.

    Masks z in {0, 1/2, 1} per block minimise the saliency that is lost, plus a smoothness of neighbours and a prior of
    lambda (section 3.2 and 3.3): see :func:`~vicinal.mixing.puzzle.block_energy`, where the reference's costs of colour
    jumps are left out. Then the blocks of each image move to where the mask shows them (section 3.4).

    Attributes:
        solver: ``icm``, a few vectorised sweeps, or ``exact``, a minimum cut by scipy, which is far slower.
        smoothness: >= 0, of neighbouring blocks. The reference: 1.2.
        prior: >= 0, of lambda. The reference: 0.2.
        transport: whether blocks move.
        move_cost: >= 0, of moving a block. The reference: 0.8.

    A plan raises ValueError: height or width is odd, so that there are no halves.
    """

    mixes = IMAGES
    looks = frozenset({"saliency"})
    solver: str = "icm"
    smoothness: float = 1.2
    prior: float = 0.2
    transport: bool = True
    move_cost: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver}")
        for name in ("smoothness", "prior", "move_cost"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        height, width = shape[-2:]
        sides = [side for k in range(1, MOST_HALVINGS + 1) if not (height % (side := 2**k) or width % side)]
        if not sides:
            raise ValueError(f"PuzzleMix halves images, whose sides must be even, got {height} x {width} pixels")
        blocks = sides[int(torch.randint(len(sides), (), generator=generator))]
        pixels = need(context.saliency, "saliency").detach().float()
        saliency = F.avg_pool2d(pixels[:, None], (height // blocks, width // blocks))[:, 0].cpu()
        saliency = saliency / saliency.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        own, other = saliency, saliency[partner]
        few = lam.float().expand(shape[0])
        energy = block_energy(own, other, few, self.smoothness, self.prior)
        mask = torch.where(few[:, None, None] < 1, SOLVERS[self.solver](energy), 1.0)
        large = mask.repeat_interleave(height // blocks, dim=1).repeat_interleave(width // blocks, dim=2)
        plan = MixPlan(lam, partner, mask=SoftMask(large[:, None]))
        if not self.transport:
            return plan
        moved = transported(own, mask, self.move_cost), transported(other, 1 - mask, self.move_cost)
        return plan.transformed(Transport(*moved, blocks))
