"""Detectors of torchvision that say something of each anchor, with a loss whose terms have the weights of the boxes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vicinal.models.shapes import at_least
from vicinal.utils.image_size import ImageSize, sides

BACKGROUND, BETWEEN = -1, -2  # of an anchor without a box, as torchvision has them; BETWEEN has no loss
DETECTIONS = 100  # boxes that are found in an image, at most


class AnchoredDetector(nn.Module):
    """A ResNet-50 with a feature pyramid and heads that are shared by its levels, untrained.

    Outputs are a dictionary of the heads, (B, A, ...) of all A anchors, the corners of these (A, 4), how many each
    level of the pyramid has, and the size of the images.

    Args:
        channels, image_size, classes: of every network; 3 channels.
    """

    blocks = ("detector.backbone.body.maxpool", "detector.backbone.body.layer1")
    heads: ClassVar[tuple[str, ...]]
    """Names of the heads: ``cls_logits``, then those of the place."""

    def __init__(self, channels: int, image_size: ImageSize, classes: int) -> None:
        super().__init__()
        name = type(self).__name__
        if channels != 3:
            raise ValueError(f"channels must be 3 for {name}, got {channels}")
        at_least("image_size", min(sides(image_size)), 32, name)
        self.detector = self.make(
            weights=None, weights_backbone=None, num_classes=classes, detections_per_img=DETECTIONS
        )

    @abstractmethod
    def make(self, **arguments: Any) -> Any:
        """Return torchvision's network."""

    @abstractmethod
    def match(self, corners: Tensor, anchors: Tensor) -> Tensor:
        """Return the number of the box (M, 4), M >= 1, that each anchor (A, 4) belongs to: (A,), or one below 0."""

    @abstractmethod
    def terms(self, found: dict[str, Tensor], corners: Tensor, anchors: Tensor) -> Tensor:
        """Return the terms of the place of F anchors, (F, terms), by what the heads say and the box of each (F, 4)."""

    def forward(self, images: Tensor) -> dict[str, Any]:
        from torchvision.models.detection.image_list import ImageList

        size = (images.shape[-2], images.shape[-1])
        features = list(self.detector.backbone(images).values())
        outputs: dict[str, Any] = self.detector.head(features)
        # Anchors have the type of the features, and bfloat16 has no odd number above 256.
        maps = [torch.empty(level.shape, dtype=torch.float32, device=level.device) for level in features]
        anchors = self.detector.anchor_generator(ImageList(images, [size]), maps)[0]
        cells = [level.shape[-2] * level.shape[-1] for level in features]
        per_cell = len(anchors) // sum(cells)
        levels = torch.tensor([count * per_cell for count in cells])
        return {**outputs, "anchors": anchors, "levels": levels, "size": torch.tensor(size)}

    def losses(self, outputs: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return focal loss + terms of the place of each image, (B,), by boxes (B, M, 6) whose weights may be any.

        Anchors of a box have its weight, in all terms and in the number of them that the sums are divided by, 1 at
        least; those of the background have the weight 1. With weights of 1 this is torchvision's own loss.
        """
        from torchvision.ops import sigmoid_focal_loss

        anchors, losses = outputs["anchors"], []
        for place, rows in enumerate(boxes):
            logits, *places = (outputs[name][place].float() for name in self.heads)
            rows = rows[rows[:, 5] > 0]
            matched = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
            if len(rows):
                matched = self.match(rows[:, 1:5], anchors)
            found = matched >= 0
            own = rows[matched[found]]
            classes = torch.zeros_like(logits)
            classes[found, own[:, 0].long()] = 1.0
            weight = (matched != BETWEEN).to(logits.dtype)
            weight[found] = own[:, 5]
            focal = (weight[:, None] * sigmoid_focal_loss(logits, classes)).sum()
            said = {name: head[found] for name, head in zip(self.heads[1:], places, strict=True)}
            terms = (own[:, 5:] * self.terms(said, own[:, 1:5], anchors[found])).sum()
            losses.append((focal + terms) / own[:, 5].sum().clamp(min=1))
        return torch.stack(losses)

    def decode(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return what torchvision finds, (B, 100, 6) class, x1, y1, x2, y2, score; zeros after the last."""
        levels, size = outputs["levels"].tolist(), tuple(outputs["size"].tolist())
        heads = {name: list(torch.split(outputs[name].float(), levels, dim=1)) for name in self.heads}
        batch = len(outputs["cls_logits"])
        anchors = [list(torch.split(outputs["anchors"], levels))] * batch
        found = torch.zeros(batch, DETECTIONS, 6, device=outputs["anchors"].device)
        detected = self.detector.postprocess_detections(heads, anchors, [size] * batch)
        for place, each in enumerate(detected):
            rows = torch.cat([each["labels"][:, None], each["boxes"], each["scores"][:, None]], dim=1)
            found[place, : len(rows)] = rows
        return found
