"""What a plan makes of the images, which may be less than it says of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vicinal.mixing.masks import Boxes, Weights
from vicinal.mixing.plan import MixPlan


def own_share(plan: MixPlan, shape: Sequence[int]) -> Tensor:
    """How much of each mixed sample is its own: the mean of its mask over the pixels, (B,), or (1,) if all have one.

    That is ``plan.lam``, unless a mask does something else than the labels: a box that was cut off at the border under
    labels that were not corrected for it (``CutMix(correct_lam=False)``). A mask inside the network is not looked at,
    since the size of the features is not known here, and ``plan.lam`` is returned.

    Args:
        plan: on the host, where it is decided.
        shape: of the batch of images, (B, C, H, W).
    """
    if plan.mask is None or plan.layer is not None:
        return plan.lam
    if isinstance(plan.mask, Weights):
        return plan.mask.lam
    batch, height, width = len(plan.lam), shape[2], shape[3]
    if isinstance(plan.mask, Boxes):
        return plan.mask.outside(height, width)
    own = plan.mask.mix(torch.ones(batch, 1, height, width), torch.zeros(batch, 1, height, width))
    return own.mean((1, 2, 3))
