"""Mix hidden features on a CPU, forward and backward, in two passes over memory instead of ten."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vicinal.mixing.masks import ScalarMask, pairs


def is_permutation(partner: Tensor) -> bool:
    """Return whether each sample is the partner of exactly one."""
    return int(torch.bincount(partner, minlength=len(partner)).max()) == 1


class MixFunction(torch.autograd.Function):
    """Fast path of ``ScalarMask(lam).mix(x, x[partner])``, to the bit, where ``partner`` (B,) is a permutation.

    A sample gets its gradient from two places: itself, and the sample that it is the partner of. Their weighted sum is
    computed in float32 and rounded once. In float32 that is torch's own gradient of the plain form to the bit; in a
    shorter type, torch rounds each part first.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(lam, partner)
        return ScalarMask(lam).mix_out(x, partner, torch.empty_like(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        lam, partner = ctx.saved_tensors
        partner_of = torch.argsort(partner)  # the inverse permutation
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        own_weight = lam.to(dtype).view(-1, *[1] * (gradient.dim() - 1))
        other_weight = 1 - own_weight[partner_of]
        out = torch.empty_like(gradient)
        for few, own, other in pairs(gradient, partner_of, out, dtype):
            other.mul_(other_weight[few]).add_(own * own_weight[few])
        return out, None, None
