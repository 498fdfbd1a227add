"""Stratified cuts of a training set, fixed by a seed of their own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.data.images import Images, Source
from vicinal.errors import ConfigError


def split(
    source: Source, *, val_size: int | None, train_size: int | None, seed: int
) -> tuple[Images, Images | None, Images]:
    """Cut a validation split from the training images, then a subset from what is left; return (train, val, test).

    Both cuts are stratified: a class has its share of the images to within one. They depend on `seed` alone, and the
    validation split does not depend on `train_size`, so runs on more or fewer images select on the same ones. Images
    keep their order.

    Args:
        source: as a source returns it; its test part is passed through.
        val_size: images in the validation split; 0 for none, None for the validation part that the source has.
        train_size: images to train on; None for all that the validation split leaves.
        seed: of the cuts, 0 to 2**32 - 1; not that of a run.

    Raises:
        ConfigError: on `dataset.val_size` or `dataset.train_size`, if a side of the cut would be left without a class,
            or the source has no validation part.
    """
    train, val = source.train, source.val if val_size is None else None
    if val_size is None and val is None:
        raise ConfigError("dataset.val_size", None, "must be an integer >= 0: the data have no validation part")
    if val_size:
        kept, held_out = _cut(train.labels, val_size, seed, "dataset.val_size", "0", source.class_names)
        train, val = train.choose(kept), train.choose(held_out)
    if train_size is not None and train_size != len(train.labels):
        otherwise = f"null, {len(train.labels)}"
        _, chosen = _cut(train.labels, train_size, seed, "dataset.train_size", otherwise, source.class_names)
        train = train.choose(chosen)
    return train, val, source.test


def _cut(labels: Tensor, size: int, seed: int, key: str, otherwise: str, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Indices of all but `size` images and of these `size` images, both ascending."""
    counts = torch.bincount(labels)
    single = [names[label] for label in torch.nonzero(counts == 1).flatten().tolist()]
    total, classes = len(labels), int((counts > 0).sum())
    if single:
        which = ", ".join(single[:3]) + (" and others" if len(single) > 3 else "")
        raise ConfigError(key, size, f"must be {otherwise}: a class with one image cannot be cut in two: {which}")
    if not classes <= size <= total - classes:
        has = f"there are {total} images of {classes} classes to choose from"
        raise ConfigError(key, size, f"must be {otherwise} or from {classes} to {total - classes}: {has}")
    return stratified(labels, size, seed)


def stratified(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of all but `size` images and of these `size` images, both ascending; a class has its share of both.

    The same indices as scikit-learn's ``train_test_split(test_size=size, stratify=labels, random_state=seed)`` picks,
    for which it would take a second of imports.

    Args:
        labels: (N,) int64; each class is there twice or more.
        size: from the number of classes to N less that number.
        seed: 0 to 2**32 - 1.
    """
    random = np.random.RandomState(seed)  # its numbers are fixed for good (NEP 19), those of default_rng are not
    _, classes, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    kept = _shares(counts, len(labels) - size, random)
    _shares(counts - kept, size, random)  # is what is left, but what it draws comes before the permutations
    shuffled = [indices[random.permutation(len(indices))] for indices in members]
    rest = np.concatenate([indices[:number] for indices, number in zip(shuffled, kept, strict=True)])
    chosen = np.concatenate([indices[number:] for indices, number in zip(shuffled, kept, strict=True)])
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(chosen))


def _shares(counts: Any, size: int, random: np.random.RandomState) -> Any:
    """`size` shared out in proportion to the counts (K,): rounded down, the rest by largest remainder, ties by lot."""
    exact = counts / counts.sum() * size
    shares = np.floor(exact)
    remainders, missing = exact - shares, int(size - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if missing == 0:
            break
        (tied,) = np.where(remainders == remainder)
        raised = random.choice(tied, size=min(len(tied), missing), replace=False)
        shares[raised] += 1
        missing -= len(raised)
    return shares.astype(int)
