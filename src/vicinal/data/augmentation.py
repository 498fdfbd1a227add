"""Random crop, flip and turn of each image, for a whole batch at once.

The usual augmentation for small images (He et al. 2016, "Deep residual learning", section 4.2): pad by a few pixels,
cut out a window of the original size, mirror half of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """Random numbers for a batch of B images; the window is cut from the padded image."""

    top: Tensor  # (B,) int64 in [0, 2 * padding]: first row of the window
    left: Tensor  # (B,) int64 in [0, 2 * padding]: first column
    flip: Tensor  # (B,) bool: mirrored from left to right
    turns: Tensor | None = None  # (B,) int64 in [0, 3]: right angles that the result is turned by; None: it is not

    def to(self, device: torch.device) -> Draws:
        return Draws(*(None if draw is None else draw.to(device, non_blocking=True) for draw in self))  # type: ignore[arg-type]

    def of(self, rows: Tensor) -> Draws:
        """Return the draws of the images at the indices, (B,) int64."""
        return Draws(*(None if draw is None else draw[rows] for draw in self))  # type: ignore[arg-type]

    def part(self, parts: int, number: int) -> Draws:
        """Return the draws of one of so many equal parts of the batch."""
        return Draws(*(None if draw is None else draw.tensor_split(parts)[number] for draw in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class CropFlip:
    """Random crop with `padding` pixels per side and, if `flip`, a horizontal flip with probability 1/2.

    The padding is black, or with `reflect` the image mirrored at its border pixels, of which it has to have more than
    `padding`. With `rotate`, square images are turned by a random number of right angles then.

    >>> augmentation = CropFlip(padding=4, flip=True)
    >>> images = torch.zeros(128, 3, 32, 32, dtype=torch.uint8)
    >>> augmentation.apply(images, augmentation.sample(128, torch.Generator())).shape
    torch.Size([128, 3, 32, 32])
    """

    padding: int
    flip: bool
    rotate: bool = False
    reflect: bool = False

    def sample(self, batch: int, generator: torch.Generator) -> Draws:
        """Draw for `batch` images on a CPU generator, the same for every device."""
        top, left = torch.randint(2 * self.padding + 1, (2, batch), generator=generator)
        flip = torch.rand(batch, generator=generator) < (0.5 if self.flip else 0.0)
        return Draws(top, left, flip, torch.randint(4, (batch,), generator=generator) if self.rotate else None)

    def apply(self, images: Tensor, draws: Draws, canvas: Tensor | None = None) -> Tensor:
        """Return the augmented images (B, C, H, W), of the type and on the device of `images`, which stay unchanged.

        Fast path of :meth:`gather`. A window of a padded image is one piece of memory, if its lines may be as long as
        those of the padded image. So a crop is one copy of bytes, wherever the window is, and the result is a view with
        gaps between its lines. Mirrored images are laid out beside the others, and their windows are cut there.

        Args:
            images: (B, C, H, W), dense in either memory format, which the result has too.
            draws: for B images.
            canvas: from :meth:`canvas` for as many images or more of this shape, to be used again.
        """
        if self.padding == 0 and not self.flip:
            return turned(images, draws.turns)
        top, left, flip, turns = draws.to(images.device)
        width = images.shape[3]
        lines, step = as_lines(images)
        batch, planes, height, _ = lines.shape
        pad, pitch = self.padding, (width + 2 * self.padding) * step
        if canvas is None:
            canvas = self.canvas(images, len(images))
        canvas = canvas[:batch]
        inside = canvas[..., : (height + 2 * pad) * pitch].view(*canvas.shape[:-1], -1, pitch)
        if not self.reflect:
            inside = inside[..., pad : pad + height, pad * step : (pad + width) * step]
        inside[:, 0].copy_(self._edged(lines, step))
        if self.flip:
            inside[:, 1].copy_(self._edged(as_lines(images.flip(-1))[0], step))
            left = torch.where(flip, 2 * pad - left, left)
        twin = torch.arange(batch, device=images.device) * canvas.shape[1] + flip
        plane = twin[:, None] * planes + torch.arange(planes, device=images.device)
        starts = plane * (canvas.shape[-1] // step) + (top * (width + 2 * pad) + left)[:, None]
        pieces = canvas.view(-1).unfold(0, height * pitch, step).index_select(0, starts.flatten())
        crops = pieces.view(batch, planes, height, pitch)[..., : width * step]
        return turned(crops if step == 1 else crops.view(batch, height, width, step).permute(0, 3, 1, 2), turns)

    def _edged(self, lines: Tensor, step: int) -> Tensor:
        """Return lines (B, P, H, W * step) with their reflected padding; as they are if it is black."""
        if not self.reflect:
            return lines
        height, width = lines.shape[2], lines.shape[3] // step
        y, x = (
            _reflected(torch.arange(-self.padding, side + self.padding, device=lines.device), side)
            for side in (height, width)
        )
        return lines.view(*lines.shape[:3], width, step)[:, :, y[:, None], x].flatten(3)

    def canvas(self, images: Tensor, batch: int) -> Tensor:
        """Return black memory for :meth:`apply` on up to `batch` images like these: (batch, twins, planes, bytes)."""
        lines, step = as_lines(images[:1])
        planes, height = lines.shape[1:3]
        pitch = (images.shape[3] + 2 * self.padding) * step
        # The last window begins up to 2 * padding pixels after the begin of its line, and ends as much after its end.
        size = (height + 2 * self.padding) * pitch + 2 * self.padding * step
        return images.new_zeros((batch, 2 if self.flip else 1, planes, size))

    def gather(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        """Return ``apply(images[rows], draws)``, pixel by pixel: one loop for a compiler, slow without one.

        Args:
            images: (M, C, H, W).
            rows: (B,) int64 in [0, M), on the device of `images`.
            draws: for B images, on that device too.
        """
        height, width = images.shape[-2:]
        y = torch.arange(height, device=rows.device) + draws.top[:, None] - self.padding
        x = torch.arange(width, device=rows.device)
        x = torch.where(draws.flip[:, None], width - 1 - x, x) + draws.left[:, None] - self.padding
        rows, channels = rows[:, None, None, None], torch.arange(images.shape[1], device=rows.device)[:, None, None]
        if self.reflect:
            y, x = _reflected(y, height), _reflected(x, width)
            return turned(images[rows, channels, y[:, None, :, None], x[:, None, None, :]], draws.turns)
        seen = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[:, None, None, :]
        y, x = y.clamp(0, height - 1)[:, None, :, None], x.clamp(0, width - 1)[:, None, None, :]
        return turned(torch.where(seen, images[rows, channels, y, x], 0), draws.turns)


def _reflected(places: Tensor, side: int) -> Tensor:
    """Return places in [1 - side, 2 * side - 2] as those in [0, side) that they mirror; a border pixel counts once."""
    places = places.abs()
    return torch.where(places < side, places, 2 * (side - 1) - places)


def turned(images: Tensor, turns: Tensor | None) -> Tensor:
    """Return square images (B, C, H, W), each turned to the left by so many right angles, (B,); None turns none."""
    if turns is None:
        return images
    turns = turns.to(images.device).view(-1, 1, 1, 1)
    for turn in (1, 2, 3):
        images = torch.where(turns == turn, torch.rot90(images, turn, (2, 3)), images)
    return images


def as_lines(images: Tensor) -> tuple[Tensor, int]:
    """Return images (B, C, H, W) as lines of memory, and the distance of two neighbouring pixels in it.

    That is (B, C, H, W) and 1 for contiguous images, (B, 1, H, W * C) and C for those in channels_last; a view of them.
    """
    if images.is_contiguous():
        return images, 1
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images.contiguous(), 1
    return images.permute(0, 2, 3, 1).flatten(2)[:, None], images.shape[1]
