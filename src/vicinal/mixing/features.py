"""Strategies for hidden features: noise on top of the mix, moments in the place of values, alignment, blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.feature_transforms import AlignFeatures, ExchangeMoments, per_sample
from vicinal.mixing.label_rules import Area, Drawn, LabelRule, Majority, Remix
from vicinal.mixing.layouts import channels_first, places
from vicinal.mixing.masks import ScalarMask
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.strategies import ManifoldMixup
from vicinal.mixing.strategy import INPUT

LARGEST_SEED = 2**62


@dataclass(frozen=True, kw_only=True)
class NoisyPlan(MixPlan):
    """A plan with noise on what is mixed: (1 + multiplied (2 U - 1)) h + added N for U uniform and N normal.

    multiplied, added: standard scales of the two.
    seed: of the noise, whose shape is known only in the network.
    """

    compiles = False
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
        noisy = (1 + self.multiplied * (2 * uniform - 1)) * mixed + self.added * normal
        return torch.where(per_sample(self.own_share(x.shape) < 1, x), noisy, mixed)


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


@dataclass(frozen=True, kw_only=True)
class MoEx(CountedMixup, ManifoldMixup):
    """Moment exchange (Li et al., arXiv 2002.11102; Boyiliee/MoEx): normalised features with the partner's moments.

    Nothing else of the partner is mixed in, so the target has a constant weight, ``label_weight``. The paper: 0.9 with
    ``prob`` 1 on ImageNet, 0.5 with 0.25 on CIFAR; after the first stage. The vector of each word or patch, of features
    (B, L, width), has moments of its own.
    """

    meaningless = (Area, Drawn, Majority, Remix)
    labels: str | LabelRule = "constant"
    label_weight: float = 0.9
    most_members: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if getattr(self._parts.get("partner"), "transform", None):
            raise ValueError(f"partner must be a sample for MoEx, whose moments are taken, got {self.partner}")

    @staticmethod
    def default_layers(blocks: Sequence[str], shape_at: Callable[[str], Sequence[int]]) -> list[str]:
        return [*blocks[:1]]

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        plan = super().make_plan(lam, partner, shape, generator, context)
        mask = ScalarMask(lam.float().expand(len(partner)))  # 1 where nothing is mixed, else 0
        return MixPlan(lam, partner, plan.layer, mask, transform=ExchangeMoments(tuple(shape)))


@dataclass(frozen=True, kw_only=True)
class AlignMix(ManifoldMixup):
    """AlignMix (Venkataramanan et al., arXiv 2103.15375, section 3; shashankvkt/AlignMixup): mix features once aligned.

    At "input" it is input mixup; at a block, either the partner's features move to the sample's places or the reverse,
    by a coin. The paper: alpha 2, the input or the last convolution's features; here the last block with places.
    """

    most_members: ClassVar[int] = 2

    @staticmethod
    def default_layers(blocks: Sequence[str], shape_at: Callable[[str], Sequence[int]]) -> list[str]:
        for block in reversed(blocks):
            if places((1, *shape_at(block)), (1, *shape_at(INPUT))) > 1:
                return [INPUT, block]
        raise ValueError("no block returns one tensor with two or more places to align")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        plan = super().make_plan(lam, partner, shape, generator, context)
        to_partner = bool(torch.rand((), generator=generator) < 0.5)
        return plan if plan.layer is None else plan.transformed(AlignFeatures(to_partner, lam < 1, tuple(shape)))


@dataclass(frozen=True, kw_only=True)
class PatchUpPlan(MixPlan):
    """Blocks of hidden features that are swapped or mixed with the partner's.

    inputs: shape of the batch of inputs, which tells where the channels are.
    block: side of a block, in positions.
    gamma: about the share of the positions that is in blocks.
    soft: mix inside the blocks; else swap.
    seed: of the blocks, whose number is known only in the network.
    kept: after a forward pass, the share that was not changed: a number for each tensor of the block.
    """

    compiles = False
    inputs: tuple[int, ...]
    block: int
    gamma: float
    soft: bool
    seed: int
    kept: list[Tensor]

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        self.check(x)
        if not self.active:
            return x
        changed = self.blocks(x.shape[1:]).to(x.device, non_blocking=True)
        self.kept.append(1 - changed.float().mean())
        other = self.others(x)
        return self._inside(changed, x, other if self.transform is None else self.transform(x, other))

    def own_part(self, like: Tensor) -> Tensor:
        if self.layer is not None or not self.active:
            return super().own_part(like)
        changed = self.blocks(like.shape[1:]).to(like.device)
        return self._inside(changed, torch.ones_like(like), torch.zeros_like(like))

    def _inside(self, changed: Tensor, x: Tensor, other: Tensor) -> Tensor:
        """Mix in the other, or put it, where blocks are; not in samples whose lambda is 1."""
        mixed = per_sample(self.lam < 1, x)
        return torch.where(changed & mixed, ScalarMask(self.lam).mix(x, other) if self.soft else other, x)

    def blocks(self, shape: Sequence[int]) -> Tensor:
        """Return where features (C, ...) are changed, the same for the whole batch, bool."""
        generator = torch.Generator().manual_seed(self.seed)
        if len(shape) < 3:  # without positions
            return torch.rand(*shape, generator=generator) < self.gamma
        if not channels_first((1, *shape), self.inputs):
            return self.blocks((shape[-1], *shape[:-1])).movedim(0, -1)
        height, width = shape[-2:]
        block = min(self.block, height, width)
        block -= 1 - block % 2  # with a middle
        rate = self.gamma * height * width / (block**2 * (height - block + 1) * (width - block + 1))
        middles = (torch.rand(*shape, generator=generator) < rate).float()
        return F.max_pool2d(middles[None], block, stride=1, padding=block // 2)[0] > 0

    def settled(self) -> MixPlan:
        if not (self.active and self.kept):
            return self
        kept = torch.stack(self.kept).mean()
        inside = self.lam if self.soft else (self.lam == 1).to(self.lam.dtype)
        return MixPlan(kept + (1 - kept) * inside, self.partner, self.layer)


@dataclass(frozen=True, kw_only=True)
class PatchUp(ManifoldMixup):
    """PatchUp (Faramarzi et al., arXiv 2006.07794, section 3; chandar-lab/PatchUp): mix or swap blocks of features.

    Blocks are drawn per channel and position, the same for the whole batch. At "input" they are of pixels, where the
    reference does CutMix instead. With the share p that is kept, and the target's weights w = p + (1 - p) lambda, the
    paper's loss is p L(own) + (1 - p) L(inside) + L(w). The first two terms are L(w) as well, so ``mixed_weight`` is 2.

    Attributes:
        block: >= 1, side of a block in positions; made odd, and at most the side of the features.
        gamma: in (0, 1], the share of the features that is in blocks, if blocks were small and did not overlap.
        soft: mix inside the blocks by lambda; else swap. The paper: gamma 0.75 and prob 1, else 0.5 and 0.7.
    """

    most_members: ClassVar[int] = 2
    mixed_weight: float | str = 2.0
    block: int = 7
    gamma: float = 0.75
    soft: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise ValueError(f"block must be >= 1, got {self.block}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        plan = super().make_plan(lam, partner, shape, generator, context)
        seed = int(torch.randint(LARGEST_SEED, (), generator=generator))
        return PatchUpPlan(
            lam,
            partner,
            plan.layer,
            inputs=tuple(shape),
            block=self.block,
            gamma=self.gamma,
            soft=self.soft,
            seed=seed,
            kept=[],
        )

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        """Return the law of lambda inside the blocks; swapped blocks have none."""
        return super().law_of_lambda(bins, context) if self.soft else None

    def weigh_labels(self, plan: MixPlan, shape: Sequence[int], context: Context) -> Tensor:
        """Return lambda, by which blocks are mixed; :meth:`PatchUpPlan.settled` weighs the labels."""
        return plan.lam
