"""A look at the first batch: the mixed images, with their labels and lambdas."""

from __future__ import annotations

import torch
from torch import Tensor

from vicinal.data import ImageData
from vicinal.mixing import MixPlan


def mixed_images(
    plan: MixPlan, images: Tensor, labels: Tensor, data: ImageData, count: int
) -> tuple[Tensor, list[str]]:
    """The first ``count`` images of a batch as they enter the network, and a caption each.

    Args:
        plan: of the batch.
        images: (B, C, H, W) normalised.
        labels: (B,) int64.
        data: whose normalisation is undone and whose class names are used.
        count: how many, at most.

    Returns:
        uint8 (n, C, H, W) on the CPU, and captions such as ``0.73 cat + 0.27 dog``. Where a block inside the network
        is mixed, the images are the plain ones and the caption names the block.
    """
    pixels = (plan.mix(images) if plan.layer is None else images)[:count].float().cpu()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    shown = ((pixels * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()
    names = data.class_names
    captions = []
    for lam, own, other in zip(
        plan.lam[:count].tolist(), labels[:count].tolist(), labels[plan.partner][:count].tolist(), strict=True
    ):
        text = f"{lam:.2f} {names[own]} + {1 - lam:.2f} {names[other]}" if plan.active else names[own]
        captions.append(text if plan.layer is None else f"{text} at {plan.layer}")
    return shown, captions
