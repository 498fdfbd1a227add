"""Strategies that paste boxes: the partner resized, nothing at all, four crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.counted import CountedMixup
from vicinal.mixing.layouts import IMAGES
from vicinal.mixing.masks import Boxes, uniform_centres
from vicinal.mixing.mixup import Mixup
from vicinal.mixing.partners import PartnerRule
from vicinal.mixing.plan import MixPlan
from vicinal.mixing.several import SeveralPlan
from vicinal.mixing.transforms import Transform

ROUNDING = 1e-11
"""Of a scale, that its square loses, and with it a pixel of a side that is a whole number of pixels."""
TRIES = 10
"""Boxes that random erasing draws at most."""


@dataclass(frozen=True)
class ResizeIntoBox(Transform):
    """Shrink each partner to the box that it is pasted into, bilinear, without a loop where one box is for all.

    boxes: (B) or one for the whole batch.
    """

    compiles = False
    boxes: Boxes

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        resized = torch.zeros_like(other)
        sides = list(zip(*self.boxes.sides, strict=True))
        for row, (top, bottom, left, right) in enumerate(sides):
            if top < bottom and left < right:
                few = slice(None) if len(sides) == 1 else slice(row, row + 1)
                size = (bottom - top, right - left)
                resized[few, :, top:bottom, left:right] = F.interpolate(
                    other[few], size, mode="bilinear", align_corners=False
                )
        return resized


@dataclass(frozen=True, kw_only=True)
class ResizeMix(Mixup):
    """ResizeMix (Qin et al., arXiv 2012.11101): the whole partner, resized into a box, is pasted.

    The side of the box is scale x the image's, with scale uniform in [scale_low, scale_high]. Its centre is uniform,
    and it is cut off at the border. The target has the area that is seen. mmpretrain has another law under this name.

    Attributes:
        scale_low: in [0, 1]. The paper: 0.1.
        scale_high: in [scale_low, 1]. The paper: 0.8.
    """

    mixes = IMAGES
    scale_low: float = 0.1
    scale_high: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale_low <= 1:
            raise ValueError(f"scale_low must be in [0, 1], got {self.scale_low}")
        if not self.scale_low <= self.scale_high <= 1:
            raise ValueError(f"scale_high must be in [scale_low, 1], got {self.scale_high}")

    def draw_lam(self, rows: int, generator: torch.Generator, context: Context) -> Tensor:
        scale = torch.rand(rows, dtype=torch.float64, generator=generator)
        scale = self.scale_low + (self.scale_high - self.scale_low) * scale
        return (1 - (scale * (1 + ROUNDING)) ** 2).clamp(min=0)

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        boxes = Boxes.sample(lam, shape[2:], generator)
        return MixPlan(lam, partner, mask=boxes, transform=ResizeIntoBox(boxes))


@dataclass(frozen=True, kw_only=True)
class Cutout(CountedMixup):
    """Cutout (DeVries and Taylor, arXiv 1708.04552): a square of the mean colour, and the label stays.

    Attributes:
        size: >= 2, side in pixels; an odd one is one less; None for half of the image's shorter side. The paper: 16 of
            32 on CIFAR-10, 8 on CIFAR-100.
    """

    mixes = IMAGES
    size: int | None = None
    partner: str | PartnerRule = "blank"
    per_sample: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and self.size < 2:
            raise ValueError(f"size must be >= 2, got {self.size}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        size = (shape[-2], shape[-1])
        side = max(2, min(size) // 2) if self.size is None else self.size
        if side // 2 >= max(size) and (lam < 1).any():  # wherever its centre is
            reason = f"nothing would be left of {size[0]} x {size[1]} places"
            if max(size) == 1:
                raise ValueError(f"cannot cut out a square: {reason}")
            raise ValueError(f"size must be at most {2 * max(size) - 1}: {reason}, got {self.size}")
        length = torch.where(lam < 1, side, 0)
        boxes = Boxes.around(uniform_centres(len(lam), size, generator), [length, length], size)
        return MixPlan(lam, partner, mask=boxes)


@dataclass(frozen=True, kw_only=True)
class RandomErasing(CountedMixup):
    """Random erasing (Zhong et al., arXiv 1708.04896): a box of the mean colour inside the image; the label stays.

    Area and aspect are drawn up to ten times, until the box is smaller than the image; else nothing is erased.

    Attributes:
        area_low, area_high: share of the image, 0 < area_low <= area_high <= 1. The paper: 0.02 to 0.4.
        aspect: > 0; height / width is log-uniform between it and 1 / aspect. The paper: 0.3.
    """

    mixes = IMAGES
    area_low: float = 0.02
    area_high: float = 0.4
    aspect: float = 0.3
    prob: float = 0.5
    partner: str | PartnerRule = "blank"
    per_sample: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.area_low <= 1:
            raise ValueError(f"area_low must be in (0, 1], got {self.area_low}")
        if not self.area_low <= self.area_high <= 1:
            raise ValueError(f"area_high must be in [area_low, 1], got {self.area_high}")
        if not 0 < self.aspect < math.inf:
            raise ValueError(f"aspect must be a finite number > 0, got {self.aspect}")

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        rows, (height, width) = len(lam), shape[-2:]
        area, aspect, top, left = torch.rand(4, rows, TRIES, dtype=torch.float64, generator=generator)
        area = height * width * (self.area_low + (self.area_high - self.area_low) * area)
        ratio = torch.exp(math.log(self.aspect) * (2 * aspect - 1))
        heights, widths = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (heights < height) & (widths < width) & (lam < 1)[:, None]
        fitting = fits.any(dim=1)
        first = fits.byte().argmax(dim=1, keepdim=True)
        heights, widths = (torch.where(fitting, side.gather(1, first)[:, 0], 0) for side in (heights, widths))
        tops = (top.gather(1, first)[:, 0] * (height - heights + 1)).long()
        lefts = (left.gather(1, first)[:, 0] * (width - widths + 1)).long()
        sides = [side.tolist() for side in (tops, tops + heights, lefts, lefts + widths)]
        return MixPlan(lam, partner, mask=Boxes(sides, (height, width)))


@dataclass(frozen=True, kw_only=True)
class CropsPlan(SeveralPlan):
    """Four crops that fill the image.

    boundary: row and column at which they meet, of what is mixed: pixels, or places in the output of a block.
    offsets: row and column of each crop in its image, 4 pairs.
    """

    compiles = False
    boundary: tuple[int, int]
    offsets: Sequence[tuple[int, int]]

    @property
    def cuts(self) -> bool:
        return self.active and self.layer is None

    def regions(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return the rows and columns that each crop fills."""
        row, column = self.boundary
        rows, columns = (slice(0, row), slice(row, height)), (slice(0, column), slice(column, width))
        return [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[0]), (rows[1], columns[1])]

    def mix(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        self.check(x)
        if not self.active:
            return x
        mixed = torch.empty_like(x)
        regions = self.regions(*x.shape[-2:])
        for (rows, columns), (top, left), index in zip(regions, self.offsets, self.indices.unbind(1), strict=True):
            area = (slice(top, top + rows.stop - rows.start), slice(left, left + columns.stop - columns.start))
            mixed[..., rows, columns] = x[(..., *area)][index]
        return mixed

    def mix_targets(self, targets: Tensor) -> Tensor:
        if not self.cuts or targets.dim() < 3:
            return super().mix_targets(targets)
        return self.mix(targets.reshape(len(targets), -1, *targets.shape[-2:])).view_as(targets)

    def own_part(self, like: Tensor) -> Tensor:
        part = like.new_zeros(like.shape if self.size is None else (len(like), *self.size))
        own = self.regions(*part.shape[-2:])[0] if self.active else ()
        part[(..., *own)] = 1
        return part


@dataclass(frozen=True)
class Ricap(Mixup):
    """RICAP (Takahashi et al., arXiv 1811.09030): four random crops in one image, labels by area.

    The boundary is at (H, W) x Beta(alpha, alpha), rounded; the paper has alpha 0.3. The first crop is the sample's
    own. One boundary per batch.
    """

    mixes = IMAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_sample:
            raise ValueError(f"per_sample must be false for RICAP, got {self.per_sample}")
        self._check_several("RICAP")

    def law_of_lambda(self, bins: int, context: Context = NOTHING) -> list[float] | None:
        """Return None: the law is that of a side of the sample's crop, not of its area."""
        return None

    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> MixPlan:
        batch, (height, width) = shape[0], shape[-2:]
        others = [self.draw_partner(batch, generator, context) for _ in range(2)]
        second = self.draw_lam(1, generator, context)
        row, column = round(height * lam.item()), round(width * second.item())
        heights, widths = (row, row, height - row, height - row), (column, width - column, column, width - column)
        offsets = [
            (
                int(torch.randint(height - h + 1, (), generator=generator)),
                int(torch.randint(width - w + 1, (), generator=generator)),
            )
            for h, w in zip(heights, widths, strict=True)
        ]
        shares = torch.tensor([[h * w / (height * width) for h, w in zip(heights, widths, strict=True)]])
        indices = torch.stack([torch.arange(batch), partner, *others], dim=1)
        shares = shares.expand(batch, -1)
        return CropsPlan(shares[:, 0], partner, shares=shares, indices=indices, boundary=(row, column), offsets=offsets)
