"""Mixing hidden features on a CPU, forward and backward, in two passes over memory instead of ten."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vicinal.mixing.masks import Weights, pairs


def is_permutation(partner: Tensor) -> bool:
    """Whether each sample is the partner of exactly one."""
    return int(torch.bincount(partner, minlength=len(partner)).max()) == 1


class Blend(torch.autograd.Function):
    """``Weights(lam).mix(x, x[partner])`` to the bit, for a permutation ``partner`` (B,) and x of shape (B, ...).

    A sample gets its gradient from two places, its own and that of the sample whose partner it is. Their weighted sum
    is made in float32 and rounded once: in float32 that is torch's own gradient of the plain form to the bit, in a
    shorter type torch rounds each part first.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(lam, partner)
        return Weights(lam).fill(x, partner, torch.empty_like(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        lam, partner = ctx.saved_tensors
        whose = torch.argsort(partner)  # whose partner a sample is
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        own_weight = lam.to(dtype).view(-1, *[1] * (gradient.dim() - 1))
        other_weight = 1 - own_weight[whose]
        out = torch.empty_like(gradient)
        for few, own, other in pairs(gradient, whose, out, dtype):
            other.mul_(other_weight[few]).add_(own * own_weight[few])
        return out, None, None
