"""RetinaNet of torchvision, untrained."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vicinal.models.anchored import AnchoredDetector


class RetinaNet(AnchoredDetector):
    """RetinaNet (Lin et al., arXiv 1708.02002): nine anchors per cell, each with the box that it overlaps most.

    The term of the place is L1 to the box in the coordinates of its anchor.
    """

    heads = ("cls_logits", "bbox_regression")

    def make(self, **arguments: Any) -> Any:
        from torchvision.models.detection import retinanet_resnet50_fpn

        return retinanet_resnet50_fpn(**arguments)

    def match(self, corners: Tensor, anchors: Tensor) -> Tensor:
        from torchvision.ops import box_iou

        matched: Tensor = self.detector.proposal_matcher(box_iou(corners, anchors))
        return matched

    def terms(self, found: dict[str, Tensor], corners: Tensor, anchors: Tensor) -> Tensor:
        true: Tensor = self.detector.box_coder.encode_single(corners, anchors)
        return (found["bbox_regression"] - true).abs()
