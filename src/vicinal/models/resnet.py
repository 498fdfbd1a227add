"""torchvision's ResNet-18 with the stem that small images need."""

from __future__ import annotations

from torch import nn

from vicinal.models.shapes import at_least
from vicinal.utils.image_size import ImageSize, sides


def resnet18(channels: int, image_size: ImageSize, classes: int) -> nn.Module:
    """Make a ResNet-18 (He et al. 2015, arXiv 1512.03385) with a CIFAR stem; blocks layer1 to layer4.

    One 3x3 stride-1 convolution replaces the 7x7 stride-2 convolution and the max-pool, which would shrink 32x32 images
    to 8x8 before the first block, as in kuangliu/pytorch-cifar and OpenMixup. 11,173,962 parameters on CIFAR-10. The
    images have at least 8 pixels per side, since they are halved three times.
    """
    from torchvision.models import ResNet
    from torchvision.models.resnet import BasicBlock

    at_least("image_size", min(sides(image_size)), 8, "resnet18")
    model: nn.Module = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does for the others
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model
