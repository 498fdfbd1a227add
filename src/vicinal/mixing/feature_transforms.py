"""Transforms of hidden features: moments in the place of values, and alignment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vicinal.mixing.layouts import channels_first, places
from vicinal.mixing.transforms import Transform

SINKHORN_EPSILON, SINKHORN_STEPS, SINKHORN_STOP = 0.1, 100, 0.1
"""Of AlignMix's transport, as in its reference: regularisation, most iterations, and the change that ends them, of a
sample's potentials, summed over its positions."""
SINKHORN_SCALED = 10
"""Steps that scale the same plan."""


def per_sample(chosen: Tensor, x: Tensor) -> Tensor:
    """Return a choice of samples, bool (B,) or (1,), in a shape that spreads over their values."""
    return chosen.view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class ExchangeMoments(Transform):
    """The sample with the partner's mean and deviation over the channels, at each position (PONO).

    inputs: shape of the batch of inputs, which tells where the channels are.

    Raises ValueError: there is one channel, whose mean is all of it, so that the partner would take the sample's place.
    """

    epsilon: ClassVar[float] = 1e-5
    inputs: tuple[int, ...]

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        channels = 1 if channels_first(x.shape, self.inputs) else -1
        if x.shape[channels] == 1:
            raise ValueError("moments are exchanged over channels, and there is one")
        moments = [torch.var_mean(part, dim=channels, keepdim=True, correction=0) for part in (x, other)]
        (own_std, own_mean), (std, mean) = (((variance + self.epsilon).sqrt(), mean) for variance, mean in moments)
        return (x - own_mean) / own_std * std + mean


@dataclass(frozen=True)
class AlignFeatures(Transform):
    """Each feature map in the places of the other, by optimal transport between all positions.

    to_partner: align the samples with their partners; else the partners with the samples.
    mixed: bool (B,) or (1,), whether a sample is mixed at all; one that is not keeps its places.
    inputs: shape of the batch of inputs, which tells where the channels are.

    Raises ValueError: the features are not (B, C, ...) with two or more places.
    """

    to_partner: bool
    mixed: Tensor
    inputs: tuple[int, ...]

    def own(self, x: Tensor, other: Tensor) -> Tensor:
        self._check(x)
        return torch.where(per_sample(self.mixed, x), aligned(other, x), x) if self.to_partner else x

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        self._check(x)
        return other if self.to_partner else aligned(x, other)

    def _check(self, x: Tensor) -> None:
        if places(x.shape, self.inputs) < 2:
            raise ValueError("features are aligned by their places, two or more beside channels (B, C, ...)")


def aligned(x: Tensor, other: Tensor) -> Tensor:
    """Return ``other`` (B, C, ...) with its positions moved to where those of ``x`` are alike.

    The plan of the transport is Sinkhorn's between uniform weights, for squared distances; no gradient goes through it.
    """
    # Autocast would round the products to 16 bits.
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        a, b = (part.flatten(2).transpose(1, 2).float() for part in (x, other))  # (B, positions, C)
        transport = a.shape[1] * sinkhorn(torch.cdist(a, b).square())
    return torch.einsum("bpq,bcq->bcp", transport.to(other.dtype), other.flatten(2)).view_as(other)


def sinkhorn(cost: Tensor) -> Tensor:
    """Return the plans of transport, (B, P, P), of costs (B, P, P) between uniform weights.

    Most steps scale rows and columns by products with a plan, not by sums of exponentials of the potentials: 100 steps
    take a tenth of the time for 49 positions, and a twelfth for 256 (64 samples, one CPU thread). The plan is made
    again from its logarithms every few steps, before a factor can leave float32: a step changes one by at most P.
    """
    places = cost.shape[1]
    logs = cost / -SINKHORN_EPSILON
    u = -math.log(places) - torch.logsumexp(logs, dim=2, keepdim=True)
    v = -math.log(places) - torch.logsumexp(logs + u, dim=1, keepdim=True)
    change = u.abs().sum(dim=1).mean() * SINKHORN_EPSILON
    logs = logs + u + v  # not with potentials apart: those of large costs would hide what is added to them
    plan, rows, columns = torch.exp(logs), torch.ones_like(u), torch.ones_like(v)
    for step in range(1, SINKHORN_STEPS):
        if change < SINKHORN_STOP:
            break
        if step % SINKHORN_SCALED == 0:
            logs = logs + rows.log() + columns.log()
            plan, rows, columns = torch.exp(logs), torch.ones_like(u), torch.ones_like(v)
        before = rows
        rows = 1 / places / (plan @ columns.transpose(1, 2))
        columns = 1 / places / (rows.transpose(1, 2) @ plan)
        change = (rows / before).log().abs().sum(dim=1).mean() * SINKHORN_EPSILON
    return plan * rows * columns
