"""Random images: speed does not depend on what is in them."""

from __future__ import annotations

import torch

from vicinal.data import RunData, Samples

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASSES = 10


def images(count: int, channels: int = 3, size: int = 32, seed: int = 0) -> Samples:
    """``count`` images (count, channels, size, size) uint8 with labels of 10 classes, the same for the same seed.

    In channels_last, as the sources of real data lay theirs out.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.empty(count, size, size, channels, dtype=torch.uint8).random_(0, 256, generator=generator)
    return Samples(pixels.permute(0, 3, 1, 2), torch.randint(CLASSES, (count,), generator=generator))


def image_data(train: int, test: int = 128, channels: int = 3, size: int = 32) -> RunData:
    """CIFAR-shaped images, or others, to train and to test on, without a validation part."""
    names = tuple(map(str, range(CLASSES)))
    parts = images(train, channels, size), None, images(test, channels, size, seed=1)
    return RunData(*parts, names, MEAN[:channels], STD[:channels])
