"""A small CenterNet: objects are points in a map of heat, each with a size and an offset."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.models.shapes import multiple_of
from vicinal.utils.image_size import ImageSize

STRIDE = 4  # pixels of the image per cell of the maps
MOST = 100  # objects that are found in an image
SIZE_WEIGHT, OFFSET_WEIGHT = 0.1, 1.0
LEAST_IOU = 0.7  # of a box whose corners are off by the radius of the heat
PRIOR = 0.1  # probability of an object in a cell, at the start


class CenterNet(nn.Module):
    """CenterNet (Zhou et al., "Objects as points", arXiv 1904.07850) on four small stages with skips, up to stride 4.

    Outputs are (B, classes + 4, H / 4, W / 4): logits of the heat of each class, width and height in cells, and the
    offset of the centre in its cell, x and y. Blocks that can be mixed are those that no skip goes around.

    Args:
        channels, image_size, classes: of every network; height and width are multiples of 16.
        width: channels of the first stage; each has twice as many as the one before.
    """

    blocks = ("stage1", "stage2")

    def __init__(self, channels: int, image_size: ImageSize, classes: int, *, width: int = 16) -> None:
        super().__init__()
        multiple_of(image_size, 16, "CenterNet")
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.classes = classes
        self.stage1 = _stage(channels, width)
        self.stage2 = _stage(width, 2 * width)
        self.stage3 = _stage(2 * width, 4 * width)
        self.stage4 = _stage(4 * width, 8 * width)
        self.up3 = _Up(8 * width, 4 * width)
        self.up2 = _Up(4 * width, 2 * width)
        last = nn.Conv2d(4 * width, classes + 4, 1)
        self.head = nn.Sequential(*_layer(2 * width, 4 * width), last)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        nn.init.constant_(last.bias[:classes], -math.log(1 / PRIOR - 1))  # as RetinaNet (arXiv 1708.02002, section 4.1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.stage2(self.stage1(images))
        middle = self.stage3(fine)
        outputs: Tensor = self.head(self.up2(self.up3(self.stage4(middle), middle), fine))
        return outputs

    def losses(self, outputs: Tensor, boxes: Tensor) -> Tensor:
        """Return heat + 0.1 size + offset loss of each image, (B,), by boxes (B, M, 6) whose weights may be any.

        Equations 1 to 4 of the paper. The terms of each object are multiplied by its weight, and N, the number of
        objects in an image, is the sum of their weights, 1 at least. An object hides its surroundings from the
        background whatever its weight is.
        """
        logits, size, offset = self._parts(outputs)
        height, width = logits.shape[-2:]
        corners, weight = boxes[..., 1:5] / STRIDE, boxes[..., 5]
        centre, extent = (corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]
        column, row = centre[..., 0].long().clamp(0, width - 1), centre[..., 1].long().clamp(0, height - 1)
        label, cell = boxes[..., 0].long(), row * width + column
        heat = _heat(label, row, column, _radius(extent), weight > 0, logits)
        background = (1 - heat).pow(4) * logits.sigmoid().square() * F.softplus(logits)
        at_centre = logits.flatten(1).gather(1, label * height * width + cell)
        object_loss = (1 - at_centre.sigmoid()).square() * F.softplus(-at_centre)
        for weighed, maps, true in (
            (SIZE_WEIGHT, size, extent),
            (OFFSET_WEIGHT, offset, centre - torch.stack([column, row], dim=-1)),
        ):
            predicted = maps.flatten(2).gather(2, cell[:, None].expand(-1, 2, -1)).transpose(1, 2)
            object_loss = object_loss + weighed * (predicted - true).abs().sum(dim=-1)
        total = background.sum(dim=(1, 2, 3)) + (weight * object_loss).sum(dim=1)
        return total / weight.sum(dim=1).clamp(min=1)

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the 100 highest peaks of the heat as boxes inside the image: (B, 100, 6) class, x1, y1, x2, y2, score.

        A peak is a cell that no neighbour of its 3x3 cells exceeds (section 4 of the paper).
        """
        logits, size, offset = self._parts(outputs)
        height, width = logits.shape[-2:]
        heat = logits.sigmoid()
        peaks = torch.where(heat == F.max_pool2d(heat, 3, stride=1, padding=1), heat, 0.0).flatten(1)
        score, place = peaks.topk(min(MOST, peaks.shape[1]))
        label, cell = place // (height * width), place % (height * width)
        extent, shift = (
            maps.flatten(2).gather(2, cell[:, None].expand(-1, 2, -1)).transpose(1, 2) for maps in (size, offset)
        )
        centre = torch.stack([cell % width, cell // width], dim=-1) + shift
        first, last = ((centre + sign * extent.clamp(min=0) / 2) * STRIDE for sign in (-1, 1))
        limit = centre.new_tensor([width, height]) * STRIDE
        corners = torch.cat([torch.minimum(part.clamp(min=0), limit) for part in (first, last)], dim=-1)
        return torch.cat([label[..., None], corners, score[..., None]], dim=-1)

    def _parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Return heat logits (B, classes, h, w), sizes and offsets, (B, 2, h, w) each, as float32."""
        return torch.split(outputs.float(), [self.classes, 2, 2], dim=1)


class _Up(nn.Module):
    """Twice as many cells, and the skip added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.layer = nn.Sequential(*_layer(outputs, outputs))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        larger: Tensor = self.layer(F.interpolate(self.narrow(coarse), scale_factor=2.0) + skip)
        return larger


def _layer(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_layer(inputs, outputs, stride=2), *_layer(outputs, outputs))


def _radius(extent: Tensor) -> Tensor:
    """Return the largest shift of the corners of boxes (..., 2) that leaves an IoU of 0.7, in cells; (...).

    The least of three: both corners shifted alike, both inwards, both outwards (CornerNet, arXiv 1808.01244, section
    3.2). Each is the smaller positive root of a quadratic equation.
    """
    half, area, t = extent.sum(dim=-1), extent.prod(dim=-1), LEAST_IOU  # width + height
    alike = (half - (half.square() - 4 * area * (1 - t) / (1 + t)).clamp(min=0).sqrt()) / 2
    inwards = (half - (half.square() - 4 * area * (1 - t)).clamp(min=0).sqrt()) / 4
    outwards = ((half.square() + 4 * area * (1 - t) / t).sqrt() - half) / 4
    return torch.minimum(torch.minimum(alike, inwards), outwards)


def _heat(label: Tensor, row: Tensor, column: Tensor, radius: Tensor, there: Tensor, like: Tensor) -> Tensor:
    """Return the heat (B, classes, h, w): at each cell the largest Gaussian of the objects (B, M) of the class.

    The standard deviation is a sixth of the diameter, 2 radius + 1 (CornerNet, as its code has it).
    """
    height, width = like.shape[-2:]
    spread = 2 * ((2 * radius + 1) / 6).square()
    down, across = (
        torch.exp(-(torch.arange(cells, device=like.device) - centre[..., None]).square() / spread[..., None])
        for cells, centre in ((height, row), (width, column))
    )
    each = (down[..., :, None] * across[..., None, :] * there[..., None, None]).flatten(2)
    heat = torch.zeros_like(like).flatten(2)
    return heat.scatter_reduce(1, label[..., None].expand_as(each), each, "amax").view_as(like)
