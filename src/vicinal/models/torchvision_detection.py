"""A detector of torchvision by its name."""

from __future__ import annotations

from vicinal.models.anchored import AnchoredDetector
from vicinal.models.fcos import FCOS
from vicinal.models.retinanet import RetinaNet
from vicinal.utils.image_size import ImageSize

DETECTORS: dict[str, type[AnchoredDetector]] = {"retinanet": RetinaNet, "fcos": FCOS}


def torchvision_detection(
    channels: int, image_size: ImageSize, classes: int, *, name: str = "retinanet"
) -> AnchoredDetector:
    """Make a detector with a ResNet-50, untrained: ``retinanet`` or ``fcos``. Raises ValueError: another name."""
    if name not in DETECTORS:
        raise ValueError(f"name must be one of {', '.join(DETECTORS)}, got {name}")
    return DETECTORS[name](channels, image_size, classes)
