"""Wrong training labels, to measure what a network memorises."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
