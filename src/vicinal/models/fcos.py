"""FCOS of torchvision, untrained."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.models.anchored import BACKGROUND, AnchoredDetector

REACH = (4, 8)  # cells from a point to the farthest side of a box of its level; no limits at the ends of the pyramid
LARGE = 1e8  # square pixels, more than any box has


class FCOS(AnchoredDetector):
    """FCOS (Tian et al., arXiv 1904.01355): one point per cell, which belongs to the smallest box that it fits.

    An anchor is a square of one cell around the point. The terms of the place are the generalised IoU loss (Rezatofighi
    et al., arXiv 1902.09630) and the cross-entropy of the centerness.
    """

    heads = ("cls_logits", "bbox_regression", "bbox_ctrness")

    def make(self, **arguments: Any) -> Any:
        from torchvision.models.detection import fcos_resnet50_fpn

        return fcos_resnet50_fpn(**arguments)

    def match(self, corners: Tensor, anchors: Tensor) -> Tensor:
        """Return the box of each point: inside it, near its centre, on the level of its size, and the smallest.

        Section 3.2 of the paper, and the sampling around the centre of the authors' arXiv 2006.09214.
        """
        cell, point = (anchors[:, 2] - anchors[:, 0])[:, None], ((anchors[:, :2] + anchors[:, 2:]) / 2)[:, None]
        first, last = corners[:, :2], corners[:, 2:]
        sides = torch.cat([point - first, last - point], dim=2)  # (A, M, 4), from the point to each side
        off_centre = (point - (first + last) / 2).abs().amax(dim=2)
        farthest = sides.amax(dim=2)
        fits = (sides.amin(dim=2) > 0) & (off_centre < self.detector.center_sampling_radius * cell)
        fits &= (farthest > REACH[0] * cell) | (cell == cell[0])
        fits &= (farthest < REACH[1] * cell) | (cell == cell[-1])
        # As torchvision: so rounded, boxes whose areas differ by a few square pixels are as small as each other.
        smallness, matched = (fits * (LARGE - (last - first).prod(dim=1))).max(dim=1)
        smallest: Tensor = matched.masked_fill(smallness == 0, BACKGROUND)
        return smallest

    def terms(self, found: dict[str, Tensor], corners: Tensor, anchors: Tensor) -> Tensor:
        from torchvision.ops import generalized_box_iou_loss

        placed = self.detector.box_coder.decode(found["bbox_regression"], anchors)
        sides = self.detector.box_coder.encode(anchors, corners).unflatten(1, (2, 2))  # left and top, right and bottom
        centerness = (sides.amin(dim=1) / sides.amax(dim=1)).prod(dim=1).sqrt()  # equation 3 of the paper
        central = F.binary_cross_entropy_with_logits(found["bbox_ctrness"].squeeze(1), centerness, reduction="none")
        return torch.stack([generalized_box_iou_loss(placed, corners), central], dim=1)
