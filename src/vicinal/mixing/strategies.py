"""The strategies of the family's first papers. Each is a choice of parts; none holds state or touches a model.

A new one is a subclass of :class:`~vicinal.mixing.mixup.Mixup`, here or in any module, and one file in ``conf/mixup``:
its fields are its keys in the config. It says what the plan is; law, partners and labels are keys of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import Context
from vicinal.mixing.layouts import PLACES
from vicinal.mixing.masks import Boxes
from vicinal.mixing.mixup import MOST_MEMBERS, Mixup
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.several import blend
from vicinal.mixing.strategy import INPUT


@dataclass(frozen=True)
class InputMixup(Mixup):
    """Input mixup (Zhang et al., arXiv 1710.09412; facebookresearch/mixup-cifar10 ``train.py``)."""

    most_members = MOST_MEMBERS

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        return blend(lam, partner)


@dataclass(frozen=True)
class ManifoldMixup(Mixup):
    """Manifold mixup (Verma et al., arXiv 1806.05236; vikasverma1077/manifold_mixup ``supervised/``).

    Input mixup at the output of one block per batch, drawn uniformly from ``layers``.

    Attributes:
        layers: names of blocks as in ``model.named_modules()``; "input" is the input itself; a name given twice is
            drawn twice as often. Whole blocks, not the convolutions inside them: the author reports poor results
            otherwise (issue 8 of that repository).
    """

    most_members = MOST_MEMBERS
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, str) or not self.layers or not all(self.layers):
            raise ValueError(f'layers must be a list of block names or "{INPUT}", at least one, got {self.layers!r}')

    @property
    def depths(self) -> Sequence[str]:
        return self.layers

    @staticmethod
    def default_layers(blocks: Sequence[str], shape_at: Callable[[str], Sequence[int]]) -> list[str]:
        """Return ``layers`` for a model, as in the reference code.

        Args:
            blocks: of the model, in their order.
            shape_at: returns the shape of one sample at "input", or in the output of a block, (C, ...); () if that is
                not one tensor. It takes a pass through the model.

        Raises:
            ValueError: no block will do.
        """
        return [INPUT, *blocks[:2]]

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        # Nothing is drawn where there is no choice: at "input" alone this is input mixup, bit for bit, to the end.
        index = int(torch.randint(len(self.layers), (), generator=generator)) if len(self.layers) > 1 else 0
        layer = self.layers[index]
        return blend(lam, partner, None if layer == INPUT else layer)


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixup):
    """CutMix (Yun et al., arXiv 1905.04899; clovaai/CutMix-PyTorch ``train.py``).

    The partner's pixels are pasted into a box of area about 1 - lambda. The box is cut off at the border, so it is
    smaller than drawn: at 32 pixels E[1 - lambda] is 0.278 for alpha 0.2 and 0.299 for alpha 1, not 0.5. Clips of
    sound are cut in time alone: a span of about 1 - lambda.
    The reference sets lambda to 1 - box area / image area: ``labels="area"``.

    Attributes:
        odd_sides: whether a side of an odd number of pixels stays odd (timm from 1.0.29); else it is one less (the
            reference, torchvision, timm before).
    """

    mixes = PLACES
    odd_sides: bool = False

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        boxes = Boxes.sample(lam, shape[2:], generator, self.odd_sides)
        return MixPlan(lam, partner, mask=boxes)
