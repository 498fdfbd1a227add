"""U-Net: an encoder, a decoder, and what the encoder hands over at each resolution."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from vicinal.models.shapes import at_least, multiple_of
from vicinal.utils.image_size import ImageSize

Features = tuple[Tensor, ...]
"""What the later blocks read: features of the encoder, the finest first, and the output of the last block."""


class Convolutions(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, before: int, after: int) -> None:
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class Encoder(nn.Module):
    """Halve the resolution, but for the first block, and add its features to those that are kept."""

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.pool = nn.Identity() if first else nn.MaxPool2d(2)
        self.convolutions = Convolutions(before, after)

    def forward(self, features: Tensor | Features) -> Features:
        kept = () if isinstance(features, Tensor) else features
        last = features if isinstance(features, Tensor) else features[-1]
        return (*kept, self.convolutions(self.pool(last)))


class Decoder(nn.Module):
    """Double the resolution, beside the features that the encoder has kept there, which are used up."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, 2, stride=2)
        self.convolutions = Convolutions(2 * after, after)

    def forward(self, features: Features) -> Features:
        *kept, skip, last = features
        return (*kept, self.convolutions(torch.cat([skip, self.up(last)], dim=1)))


class Head(nn.Module):
    """A class per pixel."""

    def __init__(self, before: int, classes: int) -> None:
        super().__init__()
        self.scores = nn.Conv2d(before, classes, 1)

    def forward(self, features: Features) -> Tensor:
        scores: Tensor = self.scores(features[-1])
        return scores


class UNet(nn.Sequential):
    """U-Net (Ronneberger et al., arXiv 1505.04597, figure 1) with padded convolutions and batch norm.

    Images (B, channels, H, W) become logits (B, classes, H, W). Every block returns
    all that the blocks after it read, so that manifold mixup at one mixes the features beside it as well: else those
    of the encoder would carry unmixed samples past it. On grey images with 2 classes: 121,042 parameters.

    Args:
        channels, image_size, classes: of every network; height and width are multiples of 2^(depth - 1).
        width: channels at full resolution, twice as many at each that is lower.
        depth: resolutions, at least 2.
    """

    def __init__(self, channels: int, image_size: ImageSize, classes: int, *, width: int = 8, depth: int = 4) -> None:
        at_least("width", width, 1)
        at_least("depth", depth, 2)
        multiple_of(image_size, 2 ** (depth - 1), f"depth={depth}")
        widths = [width * 2**level for level in range(depth)]
        parts: dict[str, nn.Module] = {}
        for level, (before, after) in enumerate(zip([channels, *widths], widths, strict=False), 1):
            parts[f"encoder{level}" if level < depth else "bottleneck"] = Encoder(before, after, first=level == 1)
        for level in range(depth - 1, 0, -1):
            parts[f"decoder{level}"] = Decoder(widths[level], widths[level - 1])
        super().__init__(OrderedDict(**parts, head=Head(width, classes)))
        self.blocks = tuple(parts)
