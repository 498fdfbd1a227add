"""Random crops and flips, one a sample, for a whole batch at once.

The usual augmentation for small images (He et al. 2016, "Deep residual learning", section 4.2): pad by a few black
pixels, cut out a window of the original size, mirror half of the images.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Draws(NamedTuple):
    """What was drawn for a batch of B images."""

    top: Tensor  # (B,) int64 in [0, 2 * padding]: first row of the window in the padded image
    left: Tensor  # (B,) int64 likewise: first column
    flip: Tensor  # (B,) bool: mirrored from left to right


@dataclass(frozen=True)
class CropFlip:
    """Random crop with `padding` black pixels a side and, where `flip`, a horizontal flip with probability 1/2.

    >>> augmentation = CropFlip(padding=4, flip=True)
    >>> images = torch.zeros(128, 3, 32, 32, dtype=torch.uint8)
    >>> augmentation.apply(images, augmentation.sample(128, torch.Generator())).shape
    torch.Size([128, 3, 32, 32])
    """

    padding: int
    flip: bool

    def sample(self, batch: int, generator: torch.Generator) -> Draws:
        """Draw for `batch` images on a CPU generator, the same for every device."""
        top, left = torch.randint(2 * self.padding + 1, (2, batch), generator=generator)
        flip = torch.rand(batch, generator=generator) < (0.5 if self.flip else 0.0)
        return Draws(top, left, flip)

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the augmented images (B, C, H, W), of the type and on the device of `images`, which stay unchanged."""
        top, left, flip = (draw.to(images.device, non_blocking=True) for draw in draws)
        height, width = images.shape[-2:]
        # Every window of every image as a view (B, C, 2p+1, 2p+1, H, W), of which one an image is copied out.
        windows = F.pad(images, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        crops = windows[torch.arange(len(images), device=images.device), :, top, left]
        return torch.where(flip[:, None, None, None], crops.flip(-1), crops) if self.flip else crops
