"""Losses of segmentation, of one class per pixel, and how maps are mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.masks import ScalarMask
from vicinal.tasks.segmentation import IGNORE, class_maps


def one_hot(maps: Tensor, classes: int) -> Tensor:
    """Return maps (B, H, W) as (B, K, H, W) float32, of zeros where a pixel does not count."""
    labels = torch.arange(classes, device=maps.device).view(1, -1, 1, 1)
    return (maps[:, None] == labels).float()


def cut(plan: MixPlan, maps: Tensor, classes: int) -> Tensor:
    """Return maps (B, H, W) cut and pasted as a plan that :attr:`~MixPlan.cuts` does with the images, (B, H, W).

    A partner that is resized or moved is so in its map too, and a pixel that is blank does not count.
    """
    if plan.pairs and plan.transform is None:
        return plan.mix_targets(maps)
    mixed = plan.mix(one_hot(maps, classes))
    return torch.where(mixed.sum(dim=1) > 0.5, mixed.argmax(dim=1), IGNORE).to(maps.dtype)


def counted_mean(values: Tensor, maps: Tensor) -> Tensor:
    """Return the mean of values (B, H, W) over the pixels of each image that count, (B,); 0 where none does."""
    counted = maps != IGNORE
    mean: Tensor = (values * counted).sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)
    return mean


def cross_entropies(logits: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the cross-entropy of an image in nats as a function of maps: the mean over the pixels that count, (B,)."""
    log_p = logits.log_softmax(dim=1)

    def losses(maps: Tensor) -> Tensor:
        pixels = F.nll_loss(log_p, maps.long(), ignore_index=IGNORE, reduction="none")
        return counted_mean(pixels, maps)

    return losses


def dice_losses(logits: Tensor) -> Callable[[Tensor], Tensor]:
    """Return 1 - Dice as a function of maps, (B,).

    Dice is the mean over the classes of (2 sum p y + 1) / (sum p + sum y + 1), over the pixels of an image that count,
    with softmax probabilities p (Milletari et al., arXiv 1606.04797, section 3, with sums in place of squares). The 1
    keeps a class that an image does not have from weighing as much as one that it has.
    """
    probabilities = logits.softmax(dim=1)

    def losses(maps: Tensor) -> Tensor:
        true = one_hot(maps, logits.shape[1])
        p = probabilities * (maps != IGNORE)[:, None]
        both, either = (p * true).sum(dim=(2, 3)), (p + true).sum(dim=(2, 3))
        return 1 - ((2 * both + 1) / (either + 1)).mean(dim=1)

    return losses


def soft_cross_entropy(logits: Tensor, mixed: Tensor) -> Tensor:
    """Return the cross-entropy to classes that are mixed pixel by pixel, both (B, K, H, W); (B,)."""
    total = -(mixed * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    return total / mixed.sum(dim=(1, 2, 3)).clamp(min=1)


class PixelLoss(NamedTuple):
    """The mean loss of a mixed batch, by how its plan mixes the input.

    - Each pixel is of one sample: one loss, to the map that is cut in the same way.
    - Blended by one weight, or inside the network: lam * loss(own) + (1 - lam) * loss(partner), for any loss. Dice is
      not linear in its target, so it is never taken of a blended map.
    - Blended by another weight for each pixel: the cross-entropy has these weights; Dice has their mean, lam.

    kind: "ce", "dice", or "ce_dice", their sum.
    """

    kind: str

    def __call__(self, plan: MixPlan, outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        logits, maps = outputs.float(), class_maps(targets)
        names = self.kind.split("_")
        terms = [{"ce": cross_entropies, "dice": dice_losses}[name](logits) for name in names]
        if plan.cuts:
            pasted = cut(plan, maps, logits.shape[1])
            losses = [term(pasted) for term in terms]
        else:
            losses = [plan.pair_loss(term, maps) for term in terms]
            by_pixel = plan.active and plan.layer is None and not isinstance(plan.applied_mask, ScalarMask)
            if by_pixel and "ce" in names:
                losses[names.index("ce")] = soft_cross_entropy(logits, plan.mix(one_hot(maps, logits.shape[1])))
        total = torch.stack(losses).sum(dim=0)
        return total.mean() if weight is None else (weight * total).mean()
