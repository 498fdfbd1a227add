"""Stratified cuts of a training set, fixed by a seed of their own."""

from typing import Any

import torch
from torch import Tensor

from vicinal.data.images import Images, Source
from vicinal.errors import ConfigError


def split(source: Source, *, val_size: int, train_size: int | None, seed: int) -> tuple[Images, Images | None, Images]:
    """Cut a validation split from the training images, then a subset from what is left; return (train, val, test).

    Both cuts are stratified: a class has its share of the images to within one. They depend on `seed` alone, and the
    validation split does not depend on `train_size`, so runs on more or fewer images select on the same ones. Images
    keep their order.

    Args:
        source: as a source returns it; its test part is passed through.
        val_size: images in the validation split; 0 for none.
        train_size: images to train on; None for all that the validation split leaves.
        seed: of the cuts, 0 to 2**32 - 1; not that of a run.

    Raises:
        ConfigError: on `dataset.val_size` or `dataset.train_size`, if a side of the cut would be left without a class.
    """
    train, val = source.train, None
    if val_size != 0:
        kept, held_out = _cut(train.labels, val_size, seed, "dataset.val_size", "0")
        train, val = _take(train, kept), _take(train, held_out)
    if train_size is not None and train_size != len(train.labels):
        _, chosen = _cut(train.labels, train_size, seed, "dataset.train_size", f"null, {len(train.labels)}")
        train = _take(train, chosen)
    return train, val, source.test


def _cut(labels: Tensor, size: int, seed: int, key: str, otherwise: str) -> tuple[Tensor, Tensor]:
    """Indices of all but `size` images and of these `size` images, both ascending."""
    from sklearn.model_selection import train_test_split

    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    total, classes = len(labels), len(counts)
    if counts.min() < 2:
        raise ConfigError(key, size, f"must be {otherwise}: a class with one image cannot be cut in two")
    if not classes <= size <= total - classes:
        has = f"there are {total} images of {classes} classes to choose from"
        raise ConfigError(key, size, f"must be {otherwise} or from {classes} to {total - classes}: {has}")
    indices: Any = torch.arange(total).numpy()
    rest, chosen = train_test_split(indices, test_size=size, stratify=labels.numpy(), random_state=seed)
    return torch.from_numpy(rest).sort().values, torch.from_numpy(chosen).sort().values


def _take(images: Images, indices: Tensor) -> Images:
    return Images(images.images[indices], images.labels[indices])
