"""The strategies. Each is a choice of mask, depth, law and partner; none holds state, touches a model or a device.

A new one is one small class here (or anywhere) and one file in ``conf/mixup``: its fields are its keys in the config.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vicinal.mixing.laws import symmetric_beta, symmetric_beta_cdf
from vicinal.mixing.masks import Boxes
from vicinal.mixing.plan import MixPlan

INPUT = "input"
"""The name of the depth before the first block."""


class Strategy(ABC):
    """Decides what is mixed in a batch."""

    @property
    def depths(self) -> Sequence[str]:
        """Where this strategy mixes: "input" or names of blocks; nowhere if there are none."""
        return (INPUT,)

    def law(self, bins: int) -> list[float] | None:
        """How often each of ``bins`` equal parts of [0, 1] is asked for as lambda, if that is known; their sum is 1.

        A lambda of exactly 1, of what is not mixed, belongs to the last. What a plan makes of it may be something else.
        """
        return None

    @abstractmethod
    def sample(self, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        """The plan of one batch.

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


class BetaMixup(Strategy):
    """What input mixup, manifold mixup and CutMix share: lambda ~ Beta(alpha, alpha), not folded, and random partners.

    The partners are a random permutation of the batch, self included. All draw lambda, then whether to mix, then the
    partners, and only then what is their own: with the same generator, the first batch has the same lambda and
    partners under each of them. A subclass says in :meth:`place` what they are used for.

    Attributes:
        alpha: >= 0, finite. Mixing grows with it; 0 is off.
        prob: in [0, 1], the probability that a batch (a sample, if ``per_sample``) is mixed.
        per_sample: one lambda (box, decision) a sample instead of one a batch.

    Raises:
        ValueError: alpha or prob is out of its range.
    """

    alpha: float
    prob: float
    per_sample: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be a finite number >= 0, got {self.alpha}")
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}")

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        if generator.device.type != "cpu":
            raise ValueError(f"a plan is decided on the host: the generator must be on the CPU, not {generator.device}")
        batch = shape[0]
        rows = batch if self.per_sample else 1
        lam = symmetric_beta(self.alpha, rows, generator)
        chance = torch.rand(rows, generator=generator)
        if self.prob < 1:
            lam = torch.where(chance < self.prob, lam, 1.0)
        partner = torch.randperm(batch, generator=generator)
        active = (lam if rows == 1 else lam.min()).item() < 1
        plan = self.place(lam, partner, shape, generator)
        return MixPlan(plan.lam.float().expand(batch), plan.partner, plan.layer, plan.mask, active)

    def law(self, bins: int) -> list[float]:
        below = [symmetric_beta_cdf(edge / bins, self.alpha) for edge in range(bins + 1)]
        shares = [self.prob * (upper - lower) for lower, upper in pairwise(below)]
        shares[-1] += 1 - self.prob
        return shares

    @abstractmethod
    def place(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        """Mask and depth for lam, float64 (B,) or (1,), and partner, int64 (B,)."""


@dataclass(frozen=True)
class InputMixup(BetaMixup):
    """Input mixup (Zhang et al., arXiv 1710.09412; facebookresearch/mixup-cifar10 ``train.py``)."""

    alpha: float
    prob: float = 1.0
    per_sample: bool = False

    def place(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        return MixPlan(lam, partner)


@dataclass(frozen=True)
class ManifoldMixup(BetaMixup):
    """Manifold mixup (Verma et al., arXiv 1806.05236; vikasverma1077/manifold_mixup ``supervised/``).

    Input mixup at the output of one block a batch, drawn uniformly from ``layers``.

    Attributes:
        layers: names of blocks as in ``model.named_modules()``; "input" is the input itself; a name given twice is
            drawn twice as often. Whole blocks, not the convolutions inside them: the author reports poor results
            otherwise (issue 8 of that repository).
    """

    alpha: float
    layers: Sequence[str]
    prob: float = 1.0
    per_sample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, str) or not self.layers or not all(self.layers):
            raise ValueError(f'layers must be a list of block names or "{INPUT}", at least one, got {self.layers!r}')

    @property
    def depths(self) -> Sequence[str]:
        return self.layers

    def place(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        # Nothing is drawn where there is no choice: at "input" alone this is input mixup, bit for bit, to the end.
        index = int(torch.randint(len(self.layers), (), generator=generator)) if len(self.layers) > 1 else 0
        layer = self.layers[index]
        return MixPlan(lam, partner, layer=None if layer == INPUT else layer)


@dataclass(frozen=True)
class CutMix(BetaMixup):
    """CutMix (Yun et al., arXiv 1905.04899; clovaai/CutMix-PyTorch ``train.py``).

    The partner's pixels are pasted into a box of area about 1 - lambda. The box is cut off at the border, so it is
    smaller than asked for: at 32 pixels E[1 - lambda] is .278 for alpha .2 and .299 for alpha 1, not .5.

    Attributes:
        correct_lam: set lambda to 1 - box area / image area, as the reference does; else the lambda that was drawn
            stays the weight of the labels.
    """

    alpha: float
    prob: float = 1.0
    per_sample: bool = False
    correct_lam: bool = True

    def place(self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator) -> MixPlan:
        height, width = shape[-2:]
        boxes = Boxes.sample(lam, height, width, generator)
        if self.correct_lam:
            lam = boxes.outside(height, width)
        return MixPlan(lam, partner, mask=boxes)
