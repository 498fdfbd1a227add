"""RetinaNet of torchvision, untrained, with a loss whose terms have the weights of the boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BACKGROUND, BETWEEN = -1, -2  # of anchors, as torchvision's matcher has them


class RetinaNet(nn.Module):
    """RetinaNet (Lin et al., arXiv 1708.02002) with a ResNet-50 and a feature pyramid, from torchvision.

    Outputs are a dictionary of logits (B, A, classes) and box regression (B, A, 4) of all A anchors, their corners
    (A, 4), and how many each level of the pyramid has.

    Args:
        channels, image_size, classes: of every network; 3 channels.
    """

    blocks = ("detector.backbone.body.maxpool", "detector.backbone.body.layer1")

    def __init__(self, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        from torchvision.models.detection import retinanet_resnet50_fpn

        if channels != 3:
            raise ValueError(f"channels must be 3 for RetinaNet, got {channels}")
        if image_size < 32:
            raise ValueError(f"image_size must be at least 32 for RetinaNet, got {image_size}")
        self.detector = retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes, detections_per_img=100
        )

    def forward(self, images: Tensor) -> dict[str, Any]:
        from torchvision.models.detection.image_list import ImageList

        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        features = list(self.detector.backbone(images).values())
        outputs: dict[str, Any] = self.detector.head(features)
        anchors = self.detector.anchor_generator(ImageList(images, sizes), features)[0]
        cells = [level.shape[-2] * level.shape[-1] for level in features]
        per_cell = len(anchors) // sum(cells)
        levels = torch.tensor([count * per_cell for count in cells])
        return {**outputs, "anchors": anchors, "levels": levels, "size": torch.tensor(sizes[0])}

    def losses(self, outputs: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return focal + L1 loss of each image, (B,), by boxes (B, M, 6) whose weights may be any.

        Anchors of a box have its weight, in both terms and in the number of them that the sums are divided by, 1 at
        least; those of the background have the weight 1. With weights of 1 this is torchvision's own loss.
        """
        from torchvision.ops import box_iou, sigmoid_focal_loss

        anchors, losses = outputs["anchors"], []
        for logits, regression, rows in zip(
            outputs["cls_logits"].float(), outputs["bbox_regression"].float(), boxes, strict=True
        ):
            rows = rows[rows[:, 5] > 0]
            matched = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
            if len(rows):
                matched = self.detector.proposal_matcher(box_iou(rows[:, 1:5], anchors))
            found = matched >= 0
            own = rows[matched[found]]
            classes = torch.zeros_like(logits)
            classes[found, own[:, 0].long()] = 1.0
            weight = (matched != BETWEEN).to(logits.dtype)
            weight[found] = own[:, 5]
            focal = (weight[:, None] * sigmoid_focal_loss(logits, classes)).sum()
            true = self.detector.box_coder.encode_single(own[:, 1:5], anchors[found])
            l1 = (own[:, 5:] * (regression[found] - true).abs()).sum()
            losses.append((focal + l1) / own[:, 5].sum().clamp(min=1))
        return torch.stack(losses)

    def decode(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return what torchvision finds, (B, 100, 6) class, x1, y1, x2, y2, score; zeros after the last."""
        levels, size = outputs["levels"].tolist(), tuple(outputs["size"].tolist())
        heads = {
            name: list(torch.split(outputs[name].float(), levels, dim=1)) for name in ("cls_logits", "bbox_regression")
        }
        batch = len(outputs["cls_logits"])
        anchors = [list(torch.split(outputs["anchors"], levels))] * batch
        found = torch.zeros(batch, self.detector.detections_per_img, 6, device=outputs["anchors"].device)
        detected = self.detector.postprocess_detections(heads, anchors, [size] * batch)
        for place, each in enumerate(detected):
            rows = torch.cat([each["labels"][:, None], each["boxes"], each["scores"][:, None]], dim=1)
            found[place, : len(rows)] = rows
        return found
