"""Wrong training labels, to measure what a network memorises."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIMILAR = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
"""Classes of CIFAR-10 that are taken for another (Patrini et al., arXiv 1609.03683)."""


@dataclass(frozen=True)
class LabelNoise:
    """The images whose label was changed, K of them."""

    index: Tensor  # (K,) int64, ascending, among the labels that were given
    label: Tensor  # (K,) int64, wrong
    true_label: Tensor  # (K,) int64

    def to_csv(self, rows: Tensor | None) -> str:
        """Return one line per image; `rows` (N,) are the places of all N images in the source's training part."""
        places = self.index if rows is None else rows[self.index]
        columns = zip(*(part.tolist() for part in (places, self.label, self.true_label)), strict=True)
        return "image,label,true_label\n" + "".join(f"{image},{label},{true}\n" for image, label, true in columns)


def symmetric(labels: Tensor, share: float, classes: int, seed: int) -> tuple[Tensor, LabelNoise]:
    """Replace a share of the labels by another class each, all of which are equally likely.

    Exactly round(share * N) labels are wrong afterwards, chosen without regard to their class. Zhang et al. (arXiv
    1611.03530, section 2.2) draw from all classes instead, so that a label may stay right by chance. Labels are (N,)
    int64.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))].sort().values
    true = labels[chosen]
    wrong = (true + torch.randint(1, classes, true.shape, generator=generator)) % classes
    return labels.index_copy(0, chosen, wrong), LabelNoise(chosen, wrong, true)


def asymmetric(labels: Tensor, share: float, class_names: Sequence[str], seed: int) -> tuple[Tensor, LabelNoise]:
    """Replace a share of the labels of each class by the one class that it is taken for.

    That is :data:`SIMILAR` where the data have all of its classes, and then five of the ten stay right; else class k
    becomes k + 1, and the last the first ("pair flip": Han et al., arXiv 1804.06872). Both papers give each
    label of a class the same chance to be wrong; here exactly round(share * n) of its n labels are. Labels are (N,)
    int64.
    """
    names = list(class_names)
    mistaken = {label: (label + 1) % len(names) for label in range(len(names))}
    if {*SIMILAR, *SIMILAR.values()} <= set(names):
        mistaken = {names.index(name): names.index(other) for name, other in SIMILAR.items()}
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    members = {label: shuffled[labels[shuffled] == label] for label in mistaken}
    chosen = torch.cat([own[: round(share * len(own))] for own in members.values()]).sort().values
    true = labels[chosen]
    wrong = torch.tensor([mistaken[label] for label in true.tolist()], dtype=torch.int64)
    return labels.index_copy(0, chosen, wrong), LabelNoise(chosen, wrong, true)
