"""Masks: which part of a sample is its own and which is its partner's."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import repeat
from operator import mul, sub
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from vicinal.mixing.moving import on_device

CACHED_FLOATS = 2**18
"""float32 numbers that stay in the cache of a core: 1 MiB."""


class Mask(ABC):
    """The weight m of the sample itself in ``m * x + (1 - m) * x[partner]``. A subclass is a frozen dataclass."""

    hard: ClassVar[bool] = False
    """True if m is 0 or 1 everywhere, so that integers can be mixed as well."""
    pixelwise: ClassVar[bool] = False
    """True if ``mix`` compiles to a part of the loop that makes its arguments, on the device where the mask is."""

    @property
    def compiles(self) -> bool:
        """Whether all its numbers are in tensors: see :attr:`MixPlan.compiles`."""
        return True

    @abstractmethod
    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        """Return ``m * x + (1 - m) * other`` as a new tensor, for x and other (B, ...). Gradients flow to both."""

    def mix_out(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        """Fast path of ``mix(x, x[partner])``, to the bit: write to ``out``, which may be ``x``, and return it.

        Called on a CPU where no gradient is wanted. The first touch of new memory costs more there than the arithmetic.
        """
        return out.copy_(self.mix(x, x[partner]))

    def own_share(self, shape: Sequence[int]) -> Tensor:
        """Return the mean of m over each image of a batch of this shape (B, C, ...): (B,), or (1,) if all have one."""
        size = (shape[0], 1, *shape[2:])
        return self.mix(torch.ones(size), torch.zeros(size)).flatten(1).mean(dim=1)

    def to(self, device: torch.device) -> Self:
        """Return the same mask on another device; the copies do not wait for it."""
        return on_device(self, device)


@dataclass(frozen=True)
class ScalarMask(Mask):
    """One weight per sample, the same all over it.

    lam: (B,) float32. In bfloat16 it would be up to 0.2 % off the weight of the labels.
    """

    pixelwise = True
    lam: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        weight = self._like(x)
        return torch.lerp(other.to(weight.dtype), x.to(weight.dtype), weight).to(x.dtype)

    def mix_out(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        weight = self._like(x)
        if weight.dtype == x.dtype:
            other = select(x, partner, torch.empty_like(x) if out is x else out)
            return torch.lerp(other, x, weight, out=out)
        for few, own, other in pairs(x.clone() if out is x else x, partner, out, weight.dtype):
            torch.lerp(other, own, weight[few], out=other)
        return out

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.lam

    def _like(self, x: Tensor) -> Tensor:
        return self.lam.to(torch.promote_types(x.dtype, torch.float32)).view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class Boxes(Mask):
    """One axis-aligned box per sample, or one for the whole batch: inside it m = 0, outside m = 1.

    Boxes of one axis are spans of a sequence (B, C, T), those of two are in images (B, C, H, W).

    sides: two lists of B integers or of one per axis, first and end, in pixels: for images top, bottom, left, right.
        Rows top..bottom-1 and columns left..right-1 are inside. On the host, where boxes are decided and one box is
        faster without tensors.
    size: pixels along each axis: height and width of images.
    corners: the sides as a tensor, int64 (4, B) or (4, 1), on the device of what is mixed; None before :meth:`to`.
    """

    hard = True
    pixelwise = True
    sides: Sequence[list[int]]
    size: tuple[int, ...]
    corners: Tensor | None = None

    @classmethod
    def sample(cls, lam: Tensor, size: Sequence[int], generator: torch.Generator, odd_sides: bool = False) -> Boxes:
        """Draw boxes with about 1 - lam of the pixels around uniform centres, cut off at the border.

        As in the reference (clovaai/CutMix-PyTorch ``train.py``, ``rand_bbox``; arXiv 1905.04899, section 3.1): sides
        int(side * sqrt(1 - lam)), centre uniform over the pixels, half a side, rounded down, to both sides of it,
        clipped. Along d axes the root is the d-th.

        Args:
            lam: float64 (B,) or (1,).
            size: pixels along each axis. Raises ValueError: there is none.
            generator: on the CPU.
            odd_sides: as in :meth:`around`.
        """
        size = tuple(size)
        if not size:
            raise ValueError("a box needs inputs with places, (B, C, ...), as clips and images are")
        if lam.numel() == 1:
            centres = [int(centre) for centre in uniform_centres(1, size, generator)]
            rest = 1 - lam.item()
            root = math.sqrt(rest) if len(size) == 2 else rest ** (1 / len(size))
            sides: list[list[int]] = []
            for side, centre in zip(size, centres, strict=True):
                length = int(side * root)
                sides += [[max(centre - length // 2, 0)], [min(centre + (length + odd_sides) // 2, side)]]
            return cls(sides, size)
        share = (1 - lam).sqrt_() if len(size) == 2 else (1 - lam) ** (1 / len(size))
        centred = uniform_centres(lam.numel(), size, generator)
        return cls.around(centred, [(side * share).long() for side in size], size, odd_sides)

    @classmethod
    def around(
        cls, centres: Sequence[Tensor], lengths: Sequence[Tensor], size: tuple[int, ...], odd_sides: bool = False
    ) -> Boxes:
        """Return boxes around centres, cut off at the border.

        Args:
            centres: along each axis (rows and columns), int64 (B,) or (1,) each, in pixels.
            lengths: heights and widths, the same.
            size: pixels along each axis.
            odd_sides: whether an odd length stays odd, with the extra pixel below or right of the centre; else it is
                made even, one less.
        """
        sides: list[list[int]] = []
        for side, centre, length in zip(size, centres, lengths, strict=True):
            half = length >> 1
            first, end = centre - half, centre + ((length + 1 >> 1) if odd_sides else half)
            sides += [first.clamp_(min=0).tolist(), end.clamp_(max=side).tolist()]
        return cls(sides, size)

    @property
    def compiles(self) -> bool:
        return self.corners is not None

    @property
    def areas(self) -> list[int]:
        """Pixels inside each box."""
        lengths = map(partial(map, sub), self.sides[1::2], self.sides[::2])
        return [*reduce(partial(map, mul), lengths)]

    @cached_property
    def outside(self) -> Tensor:
        """Share of each image that is not in its box, float32 (B,) or (1,), on the host.

        By NumPy, since ``torch.tensor`` of 128 numbers takes 23 us, and this 9.
        """
        pixels = math.prod(self.size)
        return torch.from_numpy(np.array([1 - area / pixels for area in self.areas], dtype=np.float32))

    def own_share(self, shape: Sequence[int]) -> Tensor:
        return self.outside

    def inside(self, *size: int) -> Tensor:
        """Bool (B or 1, 1, *size)."""
        corners = torch.tensor(self.sides) if self.corners is None else self.corners
        along = []
        for axis, side in enumerate(size):
            first, end = corners[2 * axis, :, None], corners[2 * axis + 1, :, None]
            place = torch.arange(side, device=corners.device)
            within = (place >= first) & (place < end)
            along.append(within.view(len(within), 1, *[1] * axis, side, *[1] * (len(size) - axis - 1)))
        return reduce(torch.logical_and, along)

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        self._check(x)
        return torch.where(self.inside(*x.shape[2:]), other, x)

    def mix_out(self, x: Tensor, partner: Tensor, out: Tensor) -> Tensor:
        self._check(x)
        if len(self.sides[0]) == 1:
            spans = zip(self.sides[::2], self.sides[1::2], strict=True)
            box: tuple[Any, ...] = (..., *[slice(first, end) for (first,), (end,) in spans])
            out = out if out is x else out.copy_(x)
            old, new = (images[box] for images in (x, out))
            if x.dim() == 4 and x.stride(1) == 1:  # channels_last: lines of memory are copied in one piece
                old, new = old.permute(0, 2, 3, 1), new.permute(0, 2, 3, 1)
            new.copy_(old.index_select(0, partner))
            return out
        if out is x:  # a sample may be changed before it is pasted elsewhere
            x = x.clone()
        else:
            out.copy_(x)
        # NumPy pastes a small piece in a fraction of the time of a tensor operation. It has no bfloat16, only bytes.
        source, target = (bits(images).numpy() for images in (x, out))
        areas = zip(repeat(...), *map(partial(map, slice), self.sides[::2], self.sides[1::2]))
        for own, (other, area) in enumerate(zip(partner.tolist(), areas, strict=True)):
            target[own][area] = source[other][area]
        return out

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 + len(self.size):
            raise ValueError(f"boxes along {len(self.size)} axes cannot cut inputs of {tuple(x.shape[1:])}")

    def to(self, device: torch.device) -> Self:
        return replace(self, corners=torch.tensor(self.sides).to(device, non_blocking=True))


def uniform_centres(count: int, size: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Draw a place along each axis (rows and columns), int64 (count,) each, uniform over the pixels."""
    return [torch.randint(side, (count,), generator=generator) for side in size]


def pairs(x: Tensor, partner: Tensor, out: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield samples and their partners in ``dtype``, a few at a time, and write the changed partners to ``out``.

    Yields:
        Which samples; themselves (n, ...), to be read; their partners (n, ...), to be overwritten by the result.
    """
    if dtype == x.dtype:
        yield slice(None), x, select(x, partner, out)
        return
    # As many at a time as stay in the cache, both of them, while they are wide.
    size = max(1, CACHED_FLOATS // max(1, x[0].numel()))
    for start in range(0, len(x), size):
        few = slice(start, start + size)
        other = select(x, partner[few], out[few]).to(dtype)
        yield few, x[few].to(dtype), other
        out[few] = other


def select(x: Tensor, rows: Tensor, out: Tensor) -> Tensor:
    """Write ``x[rows]`` to ``out``: whole rows of memory where both have the same dense layout."""
    dense_x, dense_out = x, out
    if x.dim() == 4 and not x.is_contiguous():  # perhaps channels_last, whose rows are dense in another order
        dense_x, dense_out = x.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    torch.index_select(dense_x, 0, rows, out=dense_out)
    return out


def bits(x: Tensor) -> Tensor:
    """Return the same memory as integers, for a type that NumPy does not have."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
