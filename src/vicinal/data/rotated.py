"""Rotated MNIST: images whose angle is to be found, a regression."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.data.contents import reads
from vicinal.data.samples import Samples, Source
from vicinal.data.sources import torchvision_dataset

MOST_DEGREES = 60.0
SIZES = (60_000, 10_000)  # images of MNIST to train on and to test
CHUNK = 10_000  # images that are rotated at a time


def _preview(**_: Any) -> Source:
    """Return the number of angles, with images of no pixels."""
    train, test = (Samples(torch.empty(size, 1, 0, 0, dtype=torch.uint8), torch.zeros(size, 1)) for size in SIZES)
    return Source(train, test, ("angle",), unit="degrees")


@reads(lambda root, **_: torchvision_dataset.files(root, "MNIST"), preview=_preview)  # type: ignore[attr-defined]
def rotated_mnist(root: str, split_seed: int) -> Source:
    """Load MNIST with each image rotated by its own angle, uniform in [-60, 60] degrees; the angle is the target.

    Counter-clockwise, as :func:`rotated` does it. The angles depend on ``split_seed`` alone, and not on a run's seed.
    """
    source, generator = torchvision_dataset(root, "MNIST"), torch.Generator().manual_seed(split_seed)
    parts = []
    for part in (source.train, source.test):
        angles = MOST_DEGREES * (2 * torch.rand(len(part.targets), generator=generator) - 1)
        chunks = zip(torch.split(part.inputs, CHUNK), torch.split(angles, CHUNK), strict=True)
        turned = [rotated(*chunk) for chunk in chunks]
        parts.append(Samples(torch.cat(turned), angles[:, None]))
    return Source(parts[0], parts[1], ("angle",), unit="degrees")


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Return square images (N, C, S, S) uint8, each rotated about its centre by its angle (N,), counter-clockwise.

    Bilinear, black outside: torchvision's ``rotate``, which takes one angle for all.
    """
    radians = degrees * (math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    zero = torch.zeros_like(cosine)
    turns = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
