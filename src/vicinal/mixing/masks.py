"""Masks: which part of a sample is its own and which is its partner's."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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

        There, the first touch of new memory costs more than the arithmetic; a mask may know a way without it. ``out``
        may be ``x``.
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
        if weight.dtype == x.dtype:
            other = select(x, partner, torch.empty_like(x) if out is x else out)
            return torch.lerp(other, x, weight, out=out)
        for few, own, other in pairs(x.clone() if out is x else x, partner, out, weight.dtype):
            torch.lerp(other, own, weight[few], out=other)
        return out

    def to(self, device: torch.device) -> Weights:
        return Weights(self.lam.to(device, non_blocking=True))

    def _like(self, x: Tensor) -> Tensor:
        return self.lam.to(torch.promote_types(x.dtype, torch.float32)).view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class Boxes(Mask):
    """One axis-aligned box a sample, or one for the whole batch: inside it a sample is its partner's, m = 0.

    sides: pixels, four lists of B numbers or of one: top, bottom, left and right, on the host, where boxes are decided.
        Rows top..bottom-1 and columns left..right-1 are inside.
    """

    sides: Sequence[list[int]]
    _outside: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def corners(self) -> Tensor:
        """The sides as a tensor, int64 (4, B) or (4, 1)."""
        return torch.tensor(self.sides)

    @classmethod
    def sample(cls, lam: Tensor, height: int, width: int, generator: torch.Generator) -> Boxes:
        """Boxes of area about (1 - lam) * height * width around uniform centres, cut off at the border.

        As in the reference (clovaai/CutMix-PyTorch ``train.py``, ``rand_bbox``; arXiv 1905.04899, section 3.1): sides
        int(side * sqrt(1 - lam)), centre uniform over the pixels, half a side to both sides of it, clipped.
        """
        rows = lam.numel()
        centres = [torch.randint(side, (rows,), generator=generator) for side in (height, width)]
        sides: list[list[int]] = []
        for side, centre in zip((height, width), centres, strict=True):
            if rows == 1:  # one box a batch is the usual case, and faster without tensors
                middle, half = centre.item(), int(side * math.sqrt(1 - lam.item())) // 2
                sides += [[max(int(middle) - half, 0)], [min(int(middle) + half, side)]]
            else:
                halves = (side * (1 - lam).sqrt_()).long() >> 1
                sides += [(centre - halves).clamp_(min=0).tolist(), (centre + halves).clamp_(max=side).tolist()]
        return cls(sides)

    @property
    def areas(self) -> list[int]:
        """Pixels inside each box; without tensors, which are slow for the one box of a batch."""
        return [(bottom - top) * (right - left) for top, bottom, left, right in zip(*self.sides, strict=True)]

    def outside(self, height: int, width: int) -> Tensor:
        """The share of each image that is not in its box, float32 (B,) or (1,), on the host."""
        if (height, width) not in self._outside:  # asked for by the plan, and by who keeps the ledger
            shares = [1 - area / (height * width) for area in self.areas]
            self._outside[height, width] = torch.tensor(shares) if len(shares) > 1 else torch.full((1,), *shares)
        return self._outside[height, width]

    def inside(self, height: int, width: int) -> Tensor:
        """Bool (B or 1, 1, height, width)."""
        top, bottom, left, right = self.corners[:, :, None].unbind()
        y = torch.arange(height, device=self.corners.device)
        x = torch.arange(width, device=self.corners.device)
        in_rows = (y >= top) & (y < bottom)
        in_columns = (x >= left) & (x < right)
        return in_rows[:, None, :, None] & in_columns[:, None, None, :]

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.where(self.inside(*x.shape[-2:]), other, x)

    def fill(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        if len(self.sides[0]) == 1:
            (top,), (bottom,), (left,), (right,) = self.sides
            out = out if out is x else out.copy_(x)
            old, new = (each[..., top:bottom, left:right] for each in (x, out))
            if x.dim() == 4 and x.stride(1) == 1:  # channels_last: lines of memory are copied in one piece
                old, new = old.permute(0, 2, 3, 1), new.permute(0, 2, 3, 1)
            new.copy_(old.index_select(0, partner))
            return out
        if out is x:  # a sample may be changed before it is pasted elsewhere
            x = x.clone()
        else:
            out.copy_(x)
        # NumPy pastes a small piece in a fraction of the time of a tensor operation; it knows no bfloat16, only bytes.
        source, target = (bits(each).numpy() for each in (x, out))
        boxes = zip(partner.tolist(), *self.sides, strict=True)
        for own, (other, top, bottom, left, right) in enumerate(boxes):
            area = (..., slice(top, bottom), slice(left, right))
            target[own][area] = source[other][area]
        return out

    def to(self, device: torch.device) -> Boxes:
        boxes = Boxes(self.sides)
        boxes.__dict__["corners"] = self.corners.to(device, non_blocking=True)
        return boxes


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
    dense_x, dense_out = x, out
    if x.dim() == 4 and not x.is_contiguous():  # perhaps channels_last, whose rows are dense in another order
        dense_x, dense_out = x.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    torch.index_select(dense_x, 0, rows, out=dense_out)
    return out


def bits(x: Tensor) -> Tensor:
    """The same memory as integers, for types that NumPy has not."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
