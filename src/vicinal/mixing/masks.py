"""Masks: which part of a sample is its own and which is its partner's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

CACHED = 2**18
"""Numbers in float32 that stay in the cache of a core, 1 MiB."""


class Mask(ABC):
    """How much of a sample is its own and how much its partner's: m in ``m * x + (1 - m) * x[partner]``."""

    @abstractmethod
    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        """``m * x + (1 - m) * other`` as a new tensor, for x and other of shape (B, ...). Gradients flow to both."""

    @abstractmethod
    def to(self, device: torch.device) -> Mask: ...

    def fill(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        """``mix(x, x[partner])`` to the bit, written to ``out`` and returned: on a CPU, with no gradient wanted.

        There, the first touch of new memory costs more than the arithmetic; a mask may know a way without it.
        """
        return out.copy_(self.mix(x, x[partner]))


@dataclass(frozen=True)
class Weights(Mask):
    """The same weight all over a sample: (B,) float32. A bfloat16 one would be up to .2 % off that of the labels."""

    lam: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        weight = self._like(x)
        return torch.lerp(other.to(weight.dtype), x.to(weight.dtype), weight).to(x.dtype)

    def fill(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        weight = self._like(x)
        for few, own, other in pairs(x, partner, out, weight.dtype):
            torch.lerp(other, own, weight[few], out=other)
        return out

    def to(self, device: torch.device) -> Weights:
        return Weights(self.lam.to(device, non_blocking=True))

    def _like(self, x: Tensor) -> Tensor:
        return self.lam.to(torch.promote_types(x.dtype, torch.float32)).view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class Boxes(Mask):
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
        sides, halves = _sides(height, width)
        centre = torch.stack([torch.randint(side, (rows,), generator=generator) for side in (height, width)])
        half = (halves * (1 - lam).sqrt_()).long()  # int(int(x) / 2) = int(x / 2)
        (top, left), (bottom, right) = (centre - half).clamp_(min=0), torch.minimum(centre + half, sides)
        return cls(top, bottom, left, right)

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

    def fill(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        out.copy_(x)
        boxes = list(zip(*(side.tolist() for side in (self.top, self.bottom, self.left, self.right)), strict=True))
        if len(boxes) == 1:
            top, bottom, left, right = boxes[0]
            area = (..., slice(top, bottom), slice(left, right))
            torch.index_select(x[area], 0, partner, out=out[area])
            return out
        # NumPy pastes a small piece in a fraction of the time of a tensor operation; it knows no bfloat16, only bytes.
        source, target = (bits(each).numpy() for each in (x, out))
        for own, (other, (top, bottom, left, right)) in enumerate(zip(partner.tolist(), boxes, strict=True)):
            area = (..., slice(top, bottom), slice(left, right))
            target[own][area] = source[other][area]
        return out

    def to(self, device: torch.device) -> Boxes:
        sides = (self.top, self.bottom, self.left, self.right)
        return Boxes(*(side.to(device, non_blocking=True) for side in sides))


@cache
def _sides(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Height and width as (2, 1), int64, and half of each, float64."""
    sides = torch.tensor([[height], [width]])
    return sides, sides / 2


def pairs(x: Tensor, partner: Tensor, out: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Samples and their partners in ``dtype``, a few at a time; what the caller makes of the partners goes to ``out``.

    Yields:
        Which samples; themselves (n, ...), to be read; their partners (n, ...), to be overwritten by the result.
    """
    if dtype == x.dtype:
        yield slice(None), x, select(x, partner, out)
        return
    # So many at a time that both stay in the cache while they are wide.
    size = max(1, CACHED // max(1, x[0].numel()))
    for start in range(0, len(x), size):
        few = slice(start, start + size)
        other = select(x, partner[few], out[few]).to(dtype)
        yield few, x[few].to(dtype), other
        out[few] = other


def select(x: Tensor, rows: Tensor, out: Tensor) -> Tensor:
    """``x[rows]`` of the first dimension, written to ``out``; whole rows of memory where both are dense alike."""
    flat_x, flat_out = x, out
    if x.dim() > 1 and x.is_contiguous() and out.is_contiguous():
        flat_x, flat_out = x.flatten(1), out.flatten(1)
    elif x.dim() == 4 and all(each.is_contiguous(memory_format=torch.channels_last) for each in (x, out)):
        flat_x, flat_out = x.permute(0, 2, 3, 1).flatten(1), out.permute(0, 2, 3, 1).flatten(1)
    torch.index_select(flat_x, 0, rows, out=flat_out)
    return out


def bits(x: Tensor) -> Tensor:
    """The same memory as integers, for types that NumPy has not."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
