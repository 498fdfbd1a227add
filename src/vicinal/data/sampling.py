"""Which images the batches of a training epoch have, and in which order."""

import torch
from torch import Tensor


def shuffle(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `size` of the places of labels (N,), each at most once, at random."""
    return torch.randperm(len(labels), generator=generator)[:size]


def class_balanced(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `size` places of labels (N,) int64 >= 0, with replacement: each class as often, to within one.

    First the classes in a random order, then an image of each, all of which are equally likely (Kang et al., arXiv
    1910.09217; there a class is drawn with replacement too). A small class repeats its images, and of a
    large one an epoch shows only a part.
    """
    counts = torch.bincount(labels)
    present = counts.nonzero().flatten()
    rounds = present[torch.randperm(len(present), generator=generator)].repeat(size // len(present) + 1)[:size]
    classes = rounds[torch.randperm(size, generator=generator)]
    within = (torch.rand(size, dtype=torch.float64, generator=generator) * counts[classes]).long()
    return labels.argsort(stable=True)[(counts.cumsum(0) - counts)[classes] + within]


SAMPLERS = {"shuffle": shuffle, "class_balanced": class_balanced}
