"""More than two samples in one: their weights, and the plan that carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.plan import MixPlan
from vicinal.mixing.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class SeveralPlan(MixPlan):
    """A plan of K samples each: x~_i = sum_k w_ik x_p_k(i), and the same for the targets.

    Attributes:
        shares: (B, K) float32, the weights, which sum to 1; the first is that of the sample itself, ``lam``.
        indices: (B, K) int64, which samples; the first is the sample itself, the second ``partner``.
    """

    pairs = False
    shares: Tensor
    indices: Tensor

    @property
    def weights(self) -> Tensor:
        return self.shares if self.active else torch.eye(1, self.shares.shape[1]).to(self.shares).expand_as(self.shares)

    @property
    def members(self) -> Tensor:
        return self.indices

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        self.check(x)
        return self._sum(x) if self.active else x

    def mix_targets(self, targets: Tensor) -> Tensor:
        if not self.active:
            return targets
        if not targets.is_floating_point():
            raise TypeError(f"blending needs floating-point targets, got {targets.dtype}")
        return self._sum(targets)

    def pair_loss(self, per_sample_loss: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """Return sum_k w_k loss(targets[p_k]) for any loss, (B,): K calls."""
        if not self.active:
            return per_sample_loss(targets)
        losses = torch.stack([per_sample_loss(targets[index]) for index in self.indices.unbind(1)], dim=1)
        return (losses * self.shares.to(losses.dtype)).sum(dim=1)

    def loss(
        self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, weight: Tensor | None = None
    ) -> Tensor:
        if not self.active:
            return super().loss(logits, labels, label_smoothing, weight)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # rounded weights would not sum to 1
        targets = self.targets(labels, logits.shape[1]).to(logits.dtype)  # one pass, whatever K is
        losses = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
        return losses.mean() if weight is None else (weight * losses).mean()

    def weighted(self, lam: Tensor) -> Self:
        if lam is not self.lam:
            raise ValueError('labels must be "area" where more than two samples are mixed')
        return super().weighted(lam)

    def transformed(self, transform: Transform) -> Self:
        raise ValueError("partner must not be blank where more than two samples are mixed")

    def own_share(self, shape: object) -> Tensor:
        return self.lam

    def own_part(self, like: Tensor) -> Tensor:
        shape = like.shape if self.size is None else (len(like), *self.size)
        return self.shares[:, 0].view(-1, *[1] * (len(shape) - 1)).expand(shape)

    def _sum(self, x: Tensor) -> Tensor:
        """Return the weighted sum as one matrix product, (B, B) @ (B, ...), in float32 at least.

        Autocast would round it to 16 bits, and the weights of a target would not sum to 1.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        matrix = torch.zeros(len(x), len(x), dtype=dtype, device=x.device)
        matrix.scatter_add_(1, self.indices, self.shares.to(dtype))
        with torch.autocast(x.device.type, enabled=False):
            return (matrix @ x.to(dtype).reshape(len(x), -1)).view(x.shape).to(x.dtype)


def blend(lam: Tensor, partner: Tensor, layer: str | None = None) -> MixPlan:
    """Return the plan of weighted means at a depth.

    Args:
        lam: (B,) or (1,) for pairs; (B, K) or (1, K) for K samples each, the weight of the sample itself first.
        partner: int64 (B,) for pairs; (B, K - 1).
        layer: as in the plan.
    """
    if lam.dim() == 1:
        return MixPlan(lam, partner, layer)
    batch = len(partner)
    shares = lam.float().expand(batch, -1)
    indices = torch.cat([torch.arange(batch)[:, None], partner], dim=1)
    return SeveralPlan(shares[:, 0], indices[:, min(1, indices.shape[1] - 1)], layer, shares=shares, indices=indices)
