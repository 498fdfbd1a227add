"""The strategies. Each is a choice of parts; none holds state, touches a model or a device.

A new one is a subclass of :class:`Mixup`, here or in any module, and one file in ``conf/mixup``: its fields are its
keys in the config. It overrides :meth:`~Mixup.draw_lam`, :meth:`~Mixup.draw_partner` or :meth:`~Mixup.make_plan`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from vicinal.mixing.laws import symmetric_beta, symmetric_beta_cdf
from vicinal.mixing.masks import Boxes
from vicinal.mixing.plan import MixPlan

INPUT = "input"
"""The name of the depth before the first block."""


class Strategy(ABC):
    """Decide what is mixed in a batch."""

    mixed_weight: float = 1.0
    clean_weight: float = 0.0
    """Weights of the loss on the mixed batch and of that on the same batch, unmixed."""

    @property
    def depths(self) -> Sequence[str]:
        """Places where this strategy mixes: "input" or names of blocks; empty if nowhere."""
        return (INPUT,)

    def law(self, bins: int) -> list[float] | None:
        """Return the probability that lambda is drawn from each of ``bins`` equal parts of [0, 1]; None if not known.

        Samples that are not mixed have a lambda of exactly 1, which belongs to the last. A plan may change it further.
        """
        return None

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        """Return the plan of one batch.

        Args:
            shape: of the batch of images, (B, C, H, W). Any B >= 1.
            generator: a CPU generator that nothing else draws from. Decisions are made on the host, so that the plan
                (which block? mixed at all?) is known without waiting for a device; ``plan.to`` moves it.
        """


@dataclass(frozen=True)
class NoMix(Strategy):
    """Empirical risk minimisation: every sample is itself. Draws nothing."""

    @property
    def depths(self) -> Sequence[str]:
        return ()

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        return MixPlan(lam=torch.ones(shape[0]), partner=torch.arange(shape[0]), active=False)


@dataclass(frozen=True, kw_only=True)
class Mixup(Strategy):
    """Template of all strategies that mix: one lambda and one partner per sample.

    It draws lambda, then whether to mix, then the partners, and :meth:`make_plan` draws last. So from the same
    generator, the first batch has the same lambda and partners under all strategies that draw them in the same way.

    Attributes:
        prob: in [0, 1], the probability that a batch (a sample, if ``per_sample``) is mixed.
        per_sample: one lambda (box, decision) per sample instead of one per batch.
        mixed_weight: > 0, finite, of the loss on the mixed batch.
        clean_weight: >= 0, finite, of the loss on the same batch, unmixed, which takes a second pass.

    Raises:
        ValueError: one of them is out of its range.
    """

    prob: float = 1.0
    per_sample: bool = False
    mixed_weight: float = 1.0
    clean_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}")
        if not 0 < self.mixed_weight < math.inf:
            raise ValueError(f"mixed_weight must be a finite number > 0, got {self.mixed_weight}")
        if not 0 <= self.clean_weight < math.inf:
            raise ValueError(f"clean_weight must be a finite number >= 0, got {self.clean_weight}")

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        if generator.device.type != "cpu":
            raise ValueError(f"a plan is decided on the host: the generator must be on the CPU, not {generator.device}")
        batch = shape[0]
        rows = batch if self.per_sample else 1
        lam = self.draw_lam(rows, generator)
        chance = torch.rand(rows, generator=generator)
        if self.prob < 1:
            lam = torch.where(chance < self.prob, lam, 1.0)
        partner = self.draw_partner(batch, generator)
        lowest, highest = (lam.item(),) * 2 if rows == 1 else map(float, lam.aminmax())
        if not 0 <= lowest <= highest <= 1:
            raise ValueError(f"draw_lam must return numbers in [0, 1], got {lowest:g} to {highest:g}")
        active = lowest < 1
        plan = self.make_plan(lam, partner, shape, generator)
        return replace(plan, lam=plan.lam.float().expand(batch), active=active)

    @abstractmethod
    def draw_lam(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return ``rows`` weights of the sample itself, float64 (rows,) in [0, 1]; 1 mixes nothing."""

    def draw_partner(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the index of each sample's partner, int64 (batch,): a random permutation, self included."""
        return torch.randperm(batch, generator=generator)

    @abstractmethod
    def make_plan(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        """Return the plan with its mask and depth, and with lambda as the weight of the labels.

        Args:
            lam: float64 (B,), or (1,) for the whole batch, as that of the plan may be; 1 where nothing is to be mixed.
            partner: int64 (B,).
            shape: of the batch of images, (B, C, H, W).
            generator: for what the strategy draws beside lambda and partners.
        """


@dataclass(frozen=True)
class BetaMixup(Mixup):
    """Base of input mixup, manifold mixup and CutMix: lambda ~ Beta(alpha, alpha), not folded.

    Attributes:
        alpha: >= 0, finite. Mixing grows with it; 0 is off.

    Raises:
        ValueError: one of them is out of its range.
    """

    alpha: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be a finite number >= 0, got {self.alpha}")
        super().__post_init__()

    def draw_lam(self, rows: int, generator: torch.Generator) -> Tensor:
        return symmetric_beta(self.alpha, rows, generator)

    def law(self, bins: int) -> list[float]:
        below = [symmetric_beta_cdf(edge / bins, self.alpha) for edge in range(bins + 1)]
        shares = [self.prob * (upper - lower) for lower, upper in pairwise(below)]
        shares[-1] += 1 - self.prob
        return shares


@dataclass(frozen=True)
class InputMixup(BetaMixup):
    """Input mixup (Zhang et al., arXiv 1710.09412; facebookresearch/mixup-cifar10 ``train.py``)."""

    def make_plan(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        return MixPlan(lam, partner)


@dataclass(frozen=True)
class ManifoldMixup(BetaMixup):
    """Manifold mixup (Verma et al., arXiv 1806.05236; vikasverma1077/manifold_mixup ``supervised/``).

    Input mixup at the output of one block per batch, drawn uniformly from ``layers``.

    Attributes:
        layers: names of blocks as in ``model.named_modules()``; "input" is the input itself; a name given twice is
            drawn twice as often. Whole blocks, not the convolutions inside them: the author reports poor results
            otherwise (issue 8 of that repository).
    """

    layers: Sequence[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, str) or not self.layers or not all(self.layers):
            raise ValueError(f'layers must be a list of block names or "{INPUT}", at least one, got {self.layers!r}')

    @property
    def depths(self) -> Sequence[str]:
        return self.layers

    def make_plan(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        # Nothing is drawn where there is no choice: at "input" alone this is input mixup, bit for bit, to the end.
        index = int(torch.randint(len(self.layers), (), generator=generator)) if len(self.layers) > 1 else 0
        layer = self.layers[index]
        return MixPlan(lam, partner, layer=None if layer == INPUT else layer)


@dataclass(frozen=True, kw_only=True)
class CutMix(BetaMixup):
    """CutMix (Yun et al., arXiv 1905.04899; clovaai/CutMix-PyTorch ``train.py``).

    The partner's pixels are pasted into a box of area about 1 - lambda. The box is cut off at the border, so it is
    smaller than drawn: at 32 pixels E[1 - lambda] is 0.278 for alpha 0.2 and 0.299 for alpha 1, not 0.5.

    Attributes:
        correct_lam: set lambda to 1 - box area / image area, as the reference does; else the lambda that was drawn
            stays the weight of the labels.
    """

    correct_lam: bool = True

    def make_plan(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        boxes = Boxes.sample(lam, shape[-2], shape[-1], generator)
        return MixPlan(boxes.outside if self.correct_lam else lam, partner, mask=boxes)
