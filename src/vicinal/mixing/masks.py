"""Masks: which part of a sample is its own and which is its partner's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Mask(Protocol):
    """A mask other than the scalar lambda. It lives beside ``MixPlan.lam``, which stays the weight of the labels."""

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        """``m * x + (1 - m) * other`` as a new tensor, for x and other of shape (B, ...)."""

    def to(self, device: torch.device) -> Mask: ...


@dataclass(frozen=True)
class Boxes:
    """One axis-aligned box a sample, or one for the whole batch: inside it a sample is its partner's, m = 0.

    top, bottom, left, right: int64 (B,) or (1,), in pixels; rows top..bottom-1 and columns left..right-1 are inside.
    """

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def sample(cls, lam: Tensor, height: int, width: int, generator: torch.Generator) -> Boxes:
        """Boxes of area about (1 - lam) * height * width around uniform centres, cut off at the border.

        As in the reference (clovaai/CutMix-PyTorch ``train.py``, ``rand_bbox``; arXiv 1905.04899, section 3.1): sides
        int(side * sqrt(1 - lam)), centre uniform over the pixels, half a side to both sides of it, clipped.
        """
        rows = lam.numel()
        centre_y = torch.randint(height, (rows,), generator=generator)
        centre_x = torch.randint(width, (rows,), generator=generator)
        ratio = (1 - lam).sqrt()
        half_height = (height * ratio).long() // 2
        half_width = (width * ratio).long() // 2
        return cls(
            top=(centre_y - half_height).clamp(0, height),
            bottom=(centre_y + half_height).clamp(0, height),
            left=(centre_x - half_width).clamp(0, width),
            right=(centre_x + half_width).clamp(0, width),
        )

    @property
    def area(self) -> Tensor:
        """Pixels inside, int64, of the same length as the sides."""
        return (self.bottom - self.top) * (self.right - self.left)

    def inside(self, height: int, width: int) -> Tensor:
        """Bool (B or 1, 1, height, width)."""
        y = torch.arange(height, device=self.top.device)
        x = torch.arange(width, device=self.top.device)
        in_rows = (y >= self.top[:, None]) & (y < self.bottom[:, None])
        in_columns = (x >= self.left[:, None]) & (x < self.right[:, None])
        return in_rows[:, None, :, None] & in_columns[:, None, None, :]

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.where(self.inside(*x.shape[-2:]), other, x)

    def to(self, device: torch.device) -> Boxes:
        sides = (self.top, self.bottom, self.left, self.right)
        return Boxes(*(side.to(device, non_blocking=True) for side in sides))
