"""What the parts of this package hand to each other: decoded images with their labels."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Images(NamedTuple):
    """Decoded images, contiguous in memory."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64


class Source(NamedTuple):
    """What a data set offers before anything is held back for validation."""

    train: Images
    test: Images
    class_names: tuple[str, ...]  # in label order


@dataclass(frozen=True)
class ImageData:
    """What a run works on."""

    train: Images
    val: Images | None  # None where no validation split is cut
    test: Images
    class_names: tuple[str, ...]  # in label order
    mean: tuple[float, ...]  # (C,) of pixels scaled to [0, 1]
    std: tuple[float, ...]  # (C,) likewise
