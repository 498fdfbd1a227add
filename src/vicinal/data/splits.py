"""Stratified cuts of a training set, fixed by their own seed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.data.contents import warn_once
from vicinal.data.imbalance import imbalanced
from vicinal.data.samples import Samples, Source

VAL_SIZE = 1000  # images to cut from train if ``val_size`` is None and a source can tell that it has no validation part


def by_target(targets: Tensor) -> Tensor | None:
    """Return the strata of targets that are classes: themselves."""
    return targets


def split(
    source: Source,
    *,
    val_size: int | None,
    train_size: int | None,
    seed: int,
    imbalance: str = "none",
    imbalance_ratio: float = 1.0,
    strata: Callable[[Tensor], Tensor | None] = by_target,
) -> tuple[Samples, Samples | None, Samples]:
    """Cut a validation split from the training images, then a subset from the rest; return (train, val, test).

    Both cuts are stratified: a class has its share of the images to within one. They depend only on `seed`, and the
    validation split does not depend on `train_size`, so runs on more or fewer images select on the same ones. What is
    left may get a long tail; validation and test have none. Images keep their order. A class that a cut leaves no image
    to train on is said in a warning. Raises ValueError: a cut is smaller than the number of classes, one of them has a
    single image, or the source has no validation part.

    Args:
        source: its test part is passed through.
        val_size: images in the validation split; 0 for none, None for the validation part that the source has.
        train_size: images to train on; None for all that the validation split leaves.
        seed: of the cuts, 0 to 2**32 - 1; not that of a run.
        imbalance: how the training images get a long tail, by :func:`vicinal.data.imbalance.imbalanced`.
        imbalance_ratio: largest class size / smallest.
        strata: returns the class of each target, for cuts of the same shares; None for random cuts.
    """
    train, val = source.train, source.val if val_size is None else None
    if val_size is None and val is None:
        raise ValueError("val_size must be an integer >= 0: the data have no validation part, got None")
    if val_size:
        kept, held_out = _cut(
            strata(train.targets), len(train.targets), val_size, seed, "val_size", "0", source.class_names
        )
        train, val = train.choose(kept), train.choose(held_out)
    if train_size is not None and train_size != len(train.targets):
        otherwise = f"null, {len(train.targets)}"
        _, chosen = _cut(
            strata(train.targets), len(train.targets), train_size, seed, "train_size", otherwise, source.class_names
        )
        train = train.choose(chosen)
    if imbalance != "none":
        train = train.choose(imbalanced(train.targets, imbalance, imbalance_ratio, seed, source.class_names))
    return train, val, source.test


def _cut(
    labels: Tensor | None, total: int, size: int, seed: int, name: str, otherwise: str, class_names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return :func:`stratified` indices, random ones without labels, or refuse the size, the argument `name`."""
    if labels is None:
        if not 0 < size < total:
            raise ValueError(f"{name} must be {otherwise} or from 1 to {total - 1}, got {size}")
        order = torch.from_numpy(np.random.RandomState(seed).permutation(total))
        return order[size:].sort().values, order[:size].sort().values
    counts = torch.bincount(labels)
    single = [class_names[label] for label in torch.nonzero(counts == 1).flatten().tolist()]
    classes = int((counts > 0).sum())
    if single:
        which = ", ".join(single[:3]) + (" and others" if len(single) > 3 else "")
        reason = f"a class with one image cannot be cut in two: {which}"
        raise ValueError(f"{name} must be {otherwise}: {reason}, got {size}")
    if not classes <= size <= total - classes:
        reason = f"there are {total} images of {classes} classes to choose from"
        raise ValueError(f"{name} must be {otherwise} or from {classes} to {total - classes}: {reason}, got {size}")
    rest, chosen = stratified(labels, size, seed)
    trained = rest if name == "val_size" else chosen
    lost = (counts > 0) & (labels[trained].bincount(minlength=len(counts)) == 0)
    if lost.any():
        first = class_names[int(lost.nonzero()[0])]
        warn_once(
            f"{name}={size} leaves no image of {int(lost.sum())} of the {classes} classes, such as {first}, to train on"
        )
    return rest, chosen


def stratified(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of all but `size` images and of these, both ascending; a class has its share of both.

    They are those of scikit-learn's ``train_test_split(test_size=size, stratify=labels, random_state=seed)``, whose
    import takes a second. Labels are (N,) int64, each class twice or more, and `size` is from the number of classes to
    N less that number.
    """
    random = np.random.RandomState(seed)  # its numbers never change (NEP 19), those of default_rng may
    _, classes, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    kept = _shares(counts, len(labels) - size, random)
    _shares(counts - kept, size, random)  # is the rest, but its draws come before the permutations
    shuffled = [indices[random.permutation(len(indices))] for indices in members]
    parts = [np.split(indices, [number]) for indices, number in zip(shuffled, kept, strict=True)]
    rest, chosen = (torch.from_numpy(np.sort(np.concatenate(part))) for part in zip(*parts, strict=True))
    return rest, chosen


def _shares(counts: Any, size: int, random: np.random.RandomState) -> Any:
    """Share out `size` in proportion to the counts (K,): rounded down, then by largest remainder, ties at random."""
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
