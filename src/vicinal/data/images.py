"""Decoded images with their labels, as a source returns them and as a run uses them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from vicinal.data.label_noise import LabelNoise


class Images(NamedTuple):
    """N labelled images, in a tensor that may contain others too: a split points into it, and nothing is copied."""

    images: Tensor  # (M, C, H, W) uint8, in either memory format
    labels: Tensor  # (N,) int64
    rows: Tensor | None = None  # (N,) int64, the place of each image in `images`; None: in their order, and M = N

    def choose(self, indices: Tensor) -> "Images":
        """Return the images at `indices`, (K,) int64 in [0, N), as a view."""
        return Images(self.images, self.labels[indices], indices if self.rows is None else self.rows[indices])

    def pixels(self) -> Tensor:
        """Return a copy of these N images, (N, C, H, W) uint8."""
        return self.images.clone() if self.rows is None else self.images[self.rows]

    def counts(self, classes: int) -> Tensor:
        """Return the number of images per class, (K,) int64."""
        return torch.bincount(self.labels, minlength=classes)


class Source(NamedTuple):
    """A data set before anything is held back for validation."""

    train: Images
    test: Images
    class_names: tuple[str, ...]  # in label order
    val: Images | None = None  # its own validation part
    skipped: tuple[str, ...] = ()  # files that could not be used


@dataclass(frozen=True)
class ImageData:
    """The data of a run."""

    train: Images
    val: Images | None  # None where there is no validation
    test: Images
    class_names: tuple[str, ...]  # in label order
    mean: tuple[float, ...]  # (C,) of pixels scaled to [0, 1]
    std: tuple[float, ...]  # (C,) same as mean
    skipped: tuple[str, ...] = ()  # files that could not be used
    noise: LabelNoise | None = None  # wrong labels of the training part
    contents: Mapping[str, str] = field(default_factory=dict)  # {name: hash} of what was read, from ``contents.py``

    @property
    def counts(self) -> Tensor:
        """Training images per class, (K,) int64, by the labels that are trained on."""
        return self.train.counts(len(self.class_names))

    @property
    def true_counts(self) -> Tensor:
        """The same by the labels without noise."""
        if self.noise is None:
            return self.counts
        labels = self.train.labels.index_copy(0, self.noise.index, self.noise.true_label)
        return self.train._replace(labels=labels).counts(len(self.class_names))
