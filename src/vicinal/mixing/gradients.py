"""Gradients of what is mixed inside a network: each sample is chosen by another, and known by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vicinal.mixing.masks import ScalarMask, pairs


def inverse(partner: Tensor) -> Tensor | None:
    """Return whose partner each sample is, int64 (B,), on the host; None if that is not exactly one for each."""
    values, whose = partner.sort()
    return whose if torch.equal(values, torch.arange(len(partner))) else None


class ChooseFunction(torch.autograd.Function):
    """Fast path of ``x[partner]`` where ``partner`` (B,) is a permutation with this ``inverse``; to the bit.

    The gradient is ``gradient[inverse]``: each row is read once and written once, in no particular order. Of a plain
    index, torch adds the rows to zeros, since one may be chosen twice: on a GPU by a sort at each step, or, compiled,
    by atomic additions, unless ``trainer.deterministic`` is set. Made of plain operations, so that it compiles to a
    part of the loop around it. Not measured on a GPU yet.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, partner: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(partner, inverse)
        return x[partner]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        partner, inverse = ctx.saved_tensors
        chosen: Tensor = ChooseFunction.apply(gradient, inverse, partner)
        return chosen, None, None


class MixFunction(torch.autograd.Function):
    """Fast path of ``ScalarMask(lam).mix(x, x[partner])`` on a CPU, to the bit, in two passes over memory, not ten.

    ``partner`` (B,) is a permutation with this ``inverse``. A sample gets its gradient from two places: itself, and the
    sample that it is the partner of. Their weighted sum is computed in float32 and rounded once. In float32 that is
    torch's own gradient of the plain form to the bit; in a shorter type, torch rounds each part first. Not for
    ``torch.func``: its form of a function takes 3 % more of a step of the default network.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, lam: Tensor, partner: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(lam, inverse)
        return ScalarMask(lam).mix_out(x, partner, torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        lam, inverse = ctx.saved_tensors
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        own_weight = lam.to(dtype).view(-1, *[1] * (gradient.dim() - 1))
        other_weight = 1 - own_weight[inverse]
        if torch.is_grad_enabled():  # the gradient of a gradient is wanted
            wide = gradient.to(dtype)
            return (own_weight * wide + other_weight * wide[inverse]).to(gradient.dtype), None, None, None
        out = torch.empty_like(gradient)
        for few, own, other in pairs(gradient, inverse, out, dtype):
            other.mul_(other_weight[few]).add_(own * own_weight[few])
        return out, None, None, None
