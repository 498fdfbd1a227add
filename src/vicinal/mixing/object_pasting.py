"""Strategies that paste objects along their outlines, by the maps of segmentation: classes, and single instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicinal.mixing.context import Context, need
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.fields import HardMask
from vicinal.mixing.layouts import IMAGES
from vicinal.mixing.plan import MixPlan

IGNORE = 255
"""Class of pixels that count nowhere; they are pasted with nothing."""


@dataclass(frozen=True, kw_only=True)
class ObjectPasting(CountedMixup):
    """Paste pixels of the partner, chosen by its map; image and map are cut alike. Lambda is not drawn, but counted.

    A subclass has :meth:`chosen`. Each sample has a mask of its own.

    Attributes:
        background: class that is no object; -1 if there is none.
    """

    mixes = IMAGES
    looks = frozenset({"labels"})
    prob: float = 0.5
    per_sample: bool = True
    background: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.background < IGNORE:
            raise ValueError(f"background must be a class, or -1 for none, got {self.background}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        maps = need(context.labels, "labels")
        if maps.dim() < 3 or maps.shape[-2:] != torch.Size(shape[-2:]):
            size = f"{shape[-2]} x {shape[-1]}"
            raise ValueError(
                f"mixup needs maps of classes, {size} (dataset.task=segmentation), got {tuple(maps.shape)}"
            )
        layers = maps.reshape(len(maps), -1, *maps.shape[-2:])
        own = torch.ones(len(maps), 1, *maps.shape[-2:], dtype=torch.bool)
        for row, (other, mixed) in enumerate(zip(partner.tolist(), (lam < 1).expand(len(maps)).tolist(), strict=True)):
            if mixed:
                own[row, 0] = ~self.chosen(layers[other], generator)
        return MixPlan(lam, partner, mask=HardMask(own))

    def chosen(self, layers: Tensor, generator: torch.Generator) -> Tensor:
        """Return which pixels of a partner are pasted, bool (H, W).

        Args:
            layers: its map of classes, and perhaps that of its instances: integers (1, H, W) or (2, H, W).
            generator: on the CPU.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ClassMix(ObjectPasting):
    """ClassMix (Olsson et al., arXiv 2007.07936, section 3.1) by true maps: half of the partner's classes are pasted.

    Half is rounded down, and counts the background, which is never pasted itself: of two classes, the other one is.
    The reference pastes by predicted maps of unlabelled images.
    """

    def chosen(self, layers: Tensor, generator: torch.Generator) -> Tensor:
        present = classes_in(layers[0])
        objects = present[present != self.background]
        order = torch.randperm(len(objects), generator=generator)
        pasted = torch.zeros(IGNORE + 1, dtype=torch.bool)
        pasted[objects[order[: len(present) // 2]]] = True
        return pasted[layers[0].long()]


@dataclass(frozen=True, kw_only=True)
class InstancePaste(ObjectPasting):
    """Copy-paste (Ghiasi et al., arXiv 2012.07177, section 3) in place: each instance of the partner by chance.

    Instances are neither moved nor scaled, and their edges are not blurred (table 2 there: no gain). Without a map of
    instances, the connected parts of each class are taken for them.

    Attributes:
        share: in (0, 1], the probability that an instance is pasted.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def chosen(self, layers: Tensor, generator: torch.Generator) -> Tensor:
        numbers = layers[1].long() if len(layers) == 2 else connected_parts(layers[0], self.background)
        pasted = torch.rand(int(numbers.max()) + 1, generator=generator) < self.share
        pasted[0] = False
        return pasted[numbers]


def classes_in(classes: Tensor) -> Tensor:
    """Return the classes of a map (H, W), ascending, without those that count nowhere; faster than ``unique``."""
    return torch.bincount(classes.flatten(), minlength=IGNORE + 1)[:IGNORE].nonzero()[:, 0]


def connected_parts(classes: Tensor, background: int) -> Tensor:
    """Return the number, from 1, of the connected part of its class that each pixel (H, W) is in, 0 for background."""
    from scipy.ndimage import label

    numbers, count = torch.zeros(classes.shape, dtype=torch.int64), 0
    for each in classes_in(classes).tolist():
        if each != background:
            parts, found = label((classes == each).numpy())
            own = torch.from_numpy(parts).long()
            numbers += torch.where(own > 0, own + count, 0)
            count += found
    return numbers
