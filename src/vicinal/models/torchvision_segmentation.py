"""Any segmentation network of torchvision, untrained, for any number of channels and classes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from vicinal.utils.image_size import ImageSize


class Scores(nn.Module):
    """A segmentation network of torchvision that returns its scores alone.

    Its blocks are those of the backbone, up to the first whose output the classifier reads: a later one would be mixed
    beside features that are not.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        backbone: Any = network.backbone
        names = [name for name, _ in backbone.named_children()]
        last = min(map(names.index, backbone.return_layers))
        children = dict(backbone.named_children())
        self.blocks = tuple(f"network.backbone.{name}" for name in names[: last + 1] if [*children[name].children()])

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)["out"]
        return scores


def torchvision_segmentation(channels: int, image_size: ImageSize, classes: int, *, name: str) -> nn.Module:
    """Make a network of ``torchvision.models.segmentation`` without pretrained weights and without auxiliary heads.

    Scores are scaled to the size of the images, as torchvision does. With other than 3 channels the first convolution
    is a new one, with PyTorch's default initialisation. Raises ValueError: there is no such network.
    """
    from torchvision import models

    known = models.list_models(module=models.segmentation)
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.4) or known[:2]
        raise ValueError(
            f"name must be one of torchvision.models.segmentation, such as {' or '.join(close)}, got {name}"
        )
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != channels:
        first.in_channels = channels
        first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, channels, *first.kernel_size))
        first.reset_parameters()
    return Scores(model)
