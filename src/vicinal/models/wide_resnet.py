"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.preact_resnet import stage
from vicinal.models.shapes import at_least, is_probability
from vicinal.utils.image_size import ImageSize, sides

MAX_LAYERS = 1000  # blocks are made one by one


class WideResNet(nn.Module):
    """WRN-depth-width: three stages of pre-activation blocks, BN-ReLU, global average pool; blocks layer1 to layer3.

    Initialised as in the authors' code (szagoruyko/wide-residual-networks, and its port xternalz/WideResNet-pytorch):
    He normal over the outgoing connections for convolutions, zero for the bias of the classifier. WRN-28-10 has
    36,479,194 parameters on CIFAR-10.

    Args:
        channels, image_size, classes: of every network; image_size is at least 4, since it is halved twice.
        depth: layers, 6n + 4 with n >= 1 blocks in each stage (10, 16, 22, 28, 34, 40, ...).
        width: widening factor, at least 1; the stages have 16, 32 and 64 times as many channels.
        dropout: probability in [0, 1) of dropping an activation between the two convolutions of a block.
    """

    blocks = ("layer1", "layer2", "layer3")

    def __init__(
        self,
        channels: int,
        image_size: ImageSize,
        classes: int,
        *,
        depth: int = 28,
        width: int = 10,
        dropout: float = 0.0,
    ) -> None:
        if not (10 <= depth <= MAX_LAYERS and depth % 6 == 4):
            raise ValueError(f"depth must be 6n + 4 with n >= 1: 10, 16, 22, 28, ... up to {MAX_LAYERS}, got {depth}")
        at_least("width", width, 1)
        is_probability("dropout", dropout)
        at_least("image_size", min(sides(image_size)), 4, "WideResNet")
        super().__init__()
        count = (depth - 4) // 6
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.layer1 = stage(16, 16 * width, count, 1, dropout)
        self.layer2 = stage(16 * width, 32 * width, count, 2, dropout)
        self.layer3 = stage(32 * width, 64 * width, count, 2, dropout)
        self.norm = nn.BatchNorm2d(64 * width)
        self.head = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layer3(self.layer2(self.layer1(self.stem(images))))
        logits: Tensor = self.head(F.relu(self.norm(hidden)).mean(dim=(2, 3)))
        return logits
