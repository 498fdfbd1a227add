"""Pre-activation ResNets for small images, and the residual block they share with the wide ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.shapes import at_least
from vicinal.utils.image_size import ImageSize, sides

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice, added to the shortcut (He et al. 2016, arXiv 1603.05027, figure 1b).

    Where the shape changes, the shortcut is a 1x1 convolution of the ACTIVATED input; elsewhere it is the raw input, or
    with ``activated_shortcut`` the activated one too.
    Dropout, if any, is before the second convolution (Zagoruyko and Komodakis 2016, arXiv 1605.07146, section 2.4).

    Shapes: (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, dropout: float = 0.0, activated_shortcut: bool = False
    ) -> None:
        super().__init__()
        self.activated_shortcut = activated_shortcut
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        reshapes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        shortcut = activated if self.activated_shortcut else x
        if self.shortcut is not None:
            shortcut = self.shortcut(activated)
        hidden = F.relu(self.norm2(self.conv1(activated)))
        residual: Tensor = self.conv2(self.dropout(hidden))
        return shortcut + residual


def stage(
    inputs: int, outputs: int, blocks: int, stride: int, dropout: float = 0.0, activated_shortcut: bool = False
) -> nn.Sequential:
    """Return residual blocks at one resolution and width; the first one changes both."""
    shapes = [(inputs, stride)] + [(outputs, 1)] * (blocks - 1)
    return nn.Sequential(
        *(PreActBlock(channels, outputs, step, dropout, activated_shortcut) for channels, step in shapes)
    )


class PreActResNet(nn.Module):
    """PreActResNet-18 and -34 with a 3x3 stem, the network of the mixup papers; blocks layer1 to layer4.

    "PreActResNet-18" is a different network in each repository. The defaults are those of
    vikasverma1077/manifold_mixup ``supervised/models/preresnet.py``: a 3x3 stem convolution without batch norm,
    identity shortcuts of the raw input, no BN-ReLU before the pooling, a global average pool, PyTorch's default
    initialisation. facebookresearch/mixup-cifar10 ``models/resnet.py`` differs by ``stem_norm`` and
    ``activated_shortcut``, He et al. (arXiv 1603.05027) by ``final_norm``. On CIFAR-10 the 18-layer network has
    11,171,146 parameters.

    Args:
        channels, image_size, classes: of every network; image_size is at least 8, since it is halved three times.
        depth: 18 or 34 layers.
        width: channels of the first stage, at least 1; every later stage doubles them.
        stem_norm: put a BN-ReLU after the stem.
        activated_shortcut: take every shortcut from the activated input, not only those that change the shape.
        final_norm: put a BN-ReLU before the pooling.
    """

    blocks = ("layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        channels: int,
        image_size: ImageSize,
        classes: int,
        *,
        depth: int = 18,
        width: int = 64,
        stem_norm: bool = False,
        activated_shortcut: bool = False,
        final_norm: bool = False,
    ) -> None:
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"depth must be 18 or 34, got {depth}")
        at_least("width", width, 1)
        at_least("image_size", min(sides(image_size)), 8, "PreActResNet")
        super().__init__()
        stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU()) if stem_norm else stem
        counts = BLOCKS_PER_STAGE[depth]
        self.layer1 = stage(width, width, counts[0], stride=1, activated_shortcut=activated_shortcut)
        self.layer2 = stage(width, 2 * width, counts[1], stride=2, activated_shortcut=activated_shortcut)
        self.layer3 = stage(2 * width, 4 * width, counts[2], stride=2, activated_shortcut=activated_shortcut)
        self.layer4 = stage(4 * width, 8 * width, counts[3], stride=2, activated_shortcut=activated_shortcut)
        self.norm = nn.Sequential(nn.BatchNorm2d(8 * width), nn.ReLU()) if final_norm else nn.Identity()
        self.head = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layer1(self.stem(images))
        hidden = self.layer4(self.layer3(self.layer2(hidden)))
        logits: Tensor = self.head(self.norm(hidden).mean(dim=(2, 3)))
        return logits
