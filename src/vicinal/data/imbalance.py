"""Training sets with a long tail: classes of different size, cut from those of a balanced set."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def falls(classes: int, kind: str, ratio: float) -> list[float]:
    """Return by how much each class is smaller than the first: from 1 to `ratio`.

    ``exponential``: ratio**(k / (K - 1)) for class k (Cui et al., arXiv 1901.05555). ``step``: `ratio` for
    the last half of the classes. Both as in LDAM (Cao et al., arXiv 1906.07413).
    """
    last_half = (classes + 1) // 2
    places = [k / (classes - 1) if kind == "exponential" else float(k >= last_half) for k in range(classes)]
    return [ratio**place for place in places]


def rounded_down(size: float) -> int:
    """Return the whole number below, or the next one where only the rounding of a power is between them."""
    return int(size * (1 + 1e-9))


def imbalanced(labels: Tensor, kind: str, ratio: float, seed: int, class_names: Sequence[str]) -> Tensor:
    """Return the indices, ascending, of the images to keep of labels (N,) int64 so that the set has a long tail.

    Sizes are rounded down. The first class keeps as many as allow the ratio to all others: of equally large classes it
    keeps all. Images are drawn at random, and a smaller class has some of those that a larger one would have. Raises
    ValueError: a class would be empty.
    """
    shape = falls(len(class_names), kind, ratio)
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    if 0 in counts:
        raise ValueError(f"imbalance must be none: {class_names[counts.index(0)]} has no training images, got {kind}")
    largest = rounded_down(min(count * fall for count, fall in zip(counts, shape, strict=True)))
    if ratio > largest:
        # ratio <= count * ratio**p for all classes, where p is a class's place from 0 to 1
        places = [math.log(fall, ratio) for fall in shape]
        most = min(count ** (1 / (1 - place)) for count, place in zip(counts, places, strict=True) if place < 1)
        reason = f"of {class_names[-1]} nothing would be left beside {largest} of {class_names[0]}"
        rounding = "one that leaves each class an image, with sizes rounded down"
        allowed = f"at most {rounded_down(most)}" if ratio > most else rounding
        raise ValueError(f"imbalance_ratio must be {allowed}: {reason}, got {ratio}")
    shuffled = torch.from_numpy(np.random.RandomState(seed).permutation(len(labels)))
    members = torch.split(shuffled[labels[shuffled].argsort(stable=True)], counts)
    kept = [indices[: rounded_down(largest / fall)] for indices, fall in zip(members, shape, strict=True)]
    return torch.cat(kept).sort().values
