"""The small network of fast trainings on CIFAR-10 (Jordan 2024, arXiv 2404.00498)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vicinal.models.shapes import at_least
from vicinal.utils.image_size import ImageSize, sides

PATCH = 2  # pixels per side of a patch that is whitened
EPS = 5e-4  # added to the variances of patches, so that what hardly varies is not blown up to noise


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with a scale that stays 1, and a running mean that forgets quickly."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


class Group(nn.Sequential):
    """Convolution, pooling by 2, norm and GELU; then convolution, norm and GELU: (B, C, H, W) to (B, K, H//2, W//2).

    A convolution begins as the identity of as many channels as it can pass on; others are drawn as torch does.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        for conv in (first, second):
            with torch.no_grad():
                nn.init.dirac_(conv.weight[: conv.in_channels])
        pool, norms = nn.MaxPool2d(2), (BatchNorm(outputs), BatchNorm(outputs))
        super().__init__(first, pool, norms[0], nn.GELU(), second, norms[1], nn.GELU())


class Airbench(nn.Module):
    """A whitening convolution, three groups of two convolutions and a linear classifier; blocks whiten, layer1 to 3.

    The network of KellerJordan/cifar10-airbench ``airbench94.py``, arXiv 2404.00498, section 3. On CIFAR-10
    it has 1,972,792 parameters, of which 1440 are not trained: the whitening filters and the scales of batch norm.

    Differences to that code: the bias of the whitening convolution is trained to the end, not for three epochs, and the
    last pooling is over all places, so that images may have other sizes than 32.

    Args:
        channels, image_size, classes: of every network; image_size is at least 9, since it is halved three times.
        width: channels of the first group, at least 1; the others have four times as many.
        scale: factor of the logits, > 0.
    """

    blocks = ("whiten", "layer1", "layer2", "layer3")

    def __init__(
        self, channels: int, image_size: ImageSize, classes: int, *, width: int = 64, scale: float = 1 / 9
    ) -> None:
        at_least("width", width, 1)
        if not scale > 0:
            raise ValueError(f"scale must be > 0, got {scale}")
        at_least("image_size", min(sides(image_size)), 9, "Airbench")
        super().__init__()
        self.scale = scale
        filters = 2 * channels * PATCH**2
        whiten = nn.Conv2d(channels, filters, PATCH)
        whiten.weight.requires_grad = False
        whiten.bias = nn.Parameter(torch.zeros(filters))
        self.whiten = nn.Sequential(whiten, nn.GELU())
        self.layer1 = Group(filters, width)
        self.layer2 = Group(width, 4 * width)
        self.layer3 = Group(4 * width, 4 * width)
        self.head = nn.Linear(4 * width, classes, bias=False)

    @torch.no_grad()
    def initialise(self, batches: Iterable[Tensor]) -> None:
        """Make the first convolution whiten patches of 2x2 pixels of such images, normalised (B, C, H, W) on the CPU.

        Its filters are the eigenvectors of the patches' second moments, each divided by the square root of its
        eigenvalue plus 5e-4, and the same with the other sign: section 3.2.
        """
        conv = self.whiten[0]
        assert isinstance(conv, nn.Conv2d)
        moments, count = torch.zeros(1, dtype=torch.float64), 0
        for images in batches:
            patches = F.unfold(images.double(), PATCH).transpose(0, 1).flatten(1)
            moments = moments + patches @ patches.T
            count += patches.shape[1]
        values, vectors = torch.linalg.eigh(moments / count)
        filters = (vectors / (values.clamp(min=0) + EPS).sqrt()).T.flip(0)  # the largest variance first
        largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
        filters = filters * largest.sign()  # whichever sign the solver returns
        conv.weight.copy_(torch.cat([filters, -filters]).view_as(conv.weight))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.layer3(self.layer2(self.layer1(self.whiten(images))))
        # Not amax, whose gradient is NaN in bf16 once it is compiled: no place equals the largest, rounded.
        logits: Tensor = self.head(F.adaptive_max_pool2d(hidden, 1).flatten(1))
        return logits * self.scale
