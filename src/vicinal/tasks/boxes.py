"""Sets of boxes as targets: what mixing, cropping and flipping an image makes of them.

A set is (B, M, 6) float32, one row per box: class, x1, y1, x2, y2 in pixels of the network's input, and weight. The
weight is 1 for a box, and 0 for padding, whose row is zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.data.augmentation import CropFlip, Draws
from vicinal.mixing import MixPlan
from vicinal.mixing.masks import Boxes, ScalarMask
from vicinal.mixing.pasting import CropsPlan, ResizeIntoBox
from vicinal.mixing.transforms import Blank
from vicinal.utils.image_size import ImageSize, sides

VISIBLE = 0.1
"""Share of a box that has to be seen for it to stay, as ultralytics has it for CutMix and affine augmentation."""


def mixed_boxes(plan: MixPlan, targets: Tensor, size: ImageSize, weighted: bool = True) -> Tensor:
    """Return the boxes of mixed samples, (B, K * M, 6): those of all K members, each with its weight.

    - Blended images and features: the weight of a box is that of its image ("bag of freebies", arXiv 1902.04103,
      section 3.1), or 1 if not ``weighted`` (YOLO). Of a sample that is mixed with itself, the boxes count once.
    - Under a hard mask, a box has its weight if at least :data:`VISIBLE` of it is seen, and is dropped else. Where
      the mask is a box, and in a mosaic, the boxes are cut to what is seen of them.
    - Under any other mask, the weight of a box is the mean of the mask over it.
    - Masks in the network tell nothing of pixels: boxes have the weights of their images, as of blended ones.

    A sample that is its own partner has its boxes once where it stays as it is; a shrunken copy of itself brings more.
    A partner that is blank has no boxes, and hides what it covers.

    Args:
        plan: of the batch.
        targets: (B, M, 6), before mixing.
        size: of the images, in pixels.
        weighted: whether boxes of blended images have the weights of their images.
    """
    if not plan.active:
        return targets
    if plan.layer is not None:
        return _blended(plan, targets, weighted)
    if isinstance(plan, CropsPlan):
        return _mosaic(plan, targets, size)
    mask = plan.applied_mask
    if isinstance(mask, Boxes):
        return _pasted(plan, targets, mask)
    if not plan.pairs or isinstance(mask, ScalarMask):
        return _blended(plan, targets, weighted)
    own = plan.own_part(targets.new_zeros(len(targets), 1, *sides(size)))[:, 0]
    own = torch.where(_unchanged(plan)[:, None, None], 1.0, own)
    parts = []
    for boxes, part in ((targets, own), (_others(plan, targets), 1 - own)):
        share = _means(part, boxes[..., 1:5])
        kept = (share >= VISIBLE).to(share.dtype)
        parts.append(_of(boxes, boxes[..., 1:5], kept if mask.hard else kept * (share if weighted else 1)))
    return torch.cat(parts, dim=1)


def moved_boxes(targets: Tensor, augmentation: CropFlip, draws: Draws, size: ImageSize) -> Tensor:
    """Return the boxes (B, M, 6) of images of this size that are cropped, flipped and turned so, cut to the frame."""
    height, width = sides(size)
    shift = torch.stack([draws.left, draws.top, draws.left, draws.top], dim=1)[:, None] - augmentation.padding
    corners = targets[..., 1:5] - shift
    mirrored = torch.stack([width - corners[..., 2], corners[..., 1], width - corners[..., 0], corners[..., 3]], dim=-1)
    corners = torch.where(draws.flip[:, None, None], mirrored, corners)
    if draws.turns is not None:
        for turn in range(3):
            x1, y1, x2, y2 = corners.unbind(-1)
            once = torch.stack([y1, width - x2, y2, width - x1], dim=-1)  # counter-clockwise
            corners = torch.where((draws.turns > turn)[:, None, None], once, corners)
    return _inside(targets, corners, corners.new_tensor([0, 0, width, height]))


def _blended(plan: MixPlan, targets: Tensor, weighted: bool) -> Tensor:
    members = plan.members
    same = members[:, :, None] == members[:, None]
    again = torch.tril(same, diagonal=-1).any(dim=2)  # a member that was there before
    weights = (same * plan.weights[:, None]).sum(dim=2).masked_fill(again, 0.0)
    if not weighted:
        weights = (weights > 0).to(weights.dtype)
    boxes = targets[members]
    return _of(boxes, boxes[..., 1:5], weights[:, :, None]).flatten(1, 2)


def _pasted(plan: MixPlan, targets: Tensor, mask: Boxes) -> Tensor:
    corners = torch.tensor(mask.sides, device=targets.device) if mask.corners is None else mask.corners
    top, bottom, left, right = corners.to(targets.dtype)
    region = torch.stack([left, top, right, bottom], dim=-1)[:, None] * ~_unchanged(plan)[:, None, None]
    others = _others(plan, targets)
    placed = others[..., 1:5]
    if isinstance(plan.transform, ResizeIntoBox):
        height, width = mask.size
        scale = torch.stack([(right - left) / width, (bottom - top) / height], dim=-1).repeat(1, 2)[:, None]
        placed = placed * scale + region[..., :2].repeat(1, 1, 2)
    return torch.cat([_outside(targets, region), _inside(others, placed, region)], dim=1)


def _unchanged(plan: MixPlan) -> Tensor:
    """Return which samples are mixed with themselves, pixel by pixel, bool (B,).

    Blocks that a transform moves are treated as if they stayed. Nothing, and a shrunken copy, do change a sample.
    """
    itself = plan.partner == torch.arange(len(plan.partner), device=plan.partner.device)
    return itself & (not isinstance(plan.transform, (Blank, ResizeIntoBox)))


def _others(plan: MixPlan, targets: Tensor) -> Tensor:
    """Return the boxes of what is mixed in, (B, M, 6), where they are in the partner; none if it is blank."""
    others = targets[plan.partner]
    return torch.zeros_like(others) if isinstance(plan.transform, Blank) else others


def _mosaic(plan: CropsPlan, targets: Tensor, size: ImageSize) -> Tensor:
    parts = []
    for (rows, columns), (top, left), index in zip(
        plan.regions(*sides(size)), plan.offsets, plan.indices.unbind(1), strict=True
    ):
        boxes = targets[index]
        placed = boxes[..., 1:5] + boxes.new_tensor([columns.start - left, rows.start - top]).repeat(2)
        region = boxes.new_tensor([columns.start, rows.start, columns.stop, rows.stop])
        parts.append(_inside(boxes, placed, region))
    return torch.cat(parts, dim=1)


def _inside(boxes: Tensor, corners: Tensor, region: Tensor) -> Tensor:
    """Return boxes that are now at ``corners``, cut to a region (..., 4)."""
    seen = _cut(corners, region)
    return _of(boxes, seen, _area(seen) >= VISIBLE * _area(corners))


def _outside(boxes: Tensor, region: Tensor) -> Tensor:
    """Return boxes without what a region (B or 1, 1, 4) hides: the smallest boxes around the rest."""
    corners = boxes[..., 1:5]
    hidden = _cut(corners, region)
    x1, y1, x2, y2 = corners.unbind(-1)
    left, top, right, bottom = hidden.unbind(-1)
    cut = _area(hidden) > 0
    wide, high = cut & (left == x1) & (right == x2), cut & (top == y1) & (bottom == y2)
    rest = torch.stack(
        [
            torch.where(high & (left == x1), right, x1),
            torch.where(wide & (top == y1), bottom, y1),
            torch.where(high & (right == x2), left, x2),
            torch.where(wide & (bottom == y2), top, y2),
        ],
        dim=-1,
    )
    area = _area(corners)
    return _of(boxes, rest, area - _area(hidden) >= VISIBLE * area)


def _cut(corners: Tensor, region: Tensor) -> Tensor:
    """Return the part of boxes (..., 4) inside a region; one of no area if there is none."""
    first = torch.maximum(corners[..., :2], region[..., :2])
    return torch.cat([first, torch.maximum(torch.minimum(corners[..., 2:], region[..., 2:]), first)], dim=-1)


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2:] - corners[..., :2]).prod(dim=-1)


def _of(boxes: Tensor, corners: Tensor, factor: Tensor) -> Tensor:
    """Return boxes at ``corners`` whose weight is multiplied by a factor; zeros where it is 0."""
    weight = boxes[..., 5] * factor
    found = torch.cat([boxes[..., :1], corners, weight[..., None]], dim=-1)
    return torch.where(weight[..., None] > 0, found, 0.0)


def _means(maps: Tensor, corners: Tensor) -> Tensor:
    """Return the means of maps (B, H, W) over boxes (B, M, 4), rounded to whole pixels, at least one; (B, M)."""
    width = maps.shape[2] + 1
    sums = F.pad(maps.cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)  # of all above and to the left
    x1, y1, x2, y2 = corners.round().long().unbind(-1)
    x1, y1 = x1.clamp(max=maps.shape[2] - 1), y1.clamp(max=maps.shape[1] - 1)
    x2, y2 = torch.maximum(x2, x1 + 1), torch.maximum(y2, y1 + 1)
    right, left = (sums.gather(1, y2 * width + x) - sums.gather(1, y1 * width + x) for x in (x2, x1))
    return (right - left) / ((x2 - x1) * (y2 - y1))
