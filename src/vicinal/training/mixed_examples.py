"""A look at the first batches: images, their partners, masks and what they become, with labels and lambdas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vicinal.data import ImageData
from vicinal.mixing import MixPlan
from vicinal.tracking.tracker import Tracker


class MixedExamples:
    """Collects images of the first batches, and gives them to a tracker once it has enough.

    Several batches, because one lambda (and one block) is drawn a batch.

    Args:
        data: whose normalisation is undone and whose class names are used.
        size: images in all.
        batches: that they are taken from, evenly.
        tracker: is shown the panel.
    """

    def __init__(self, data: ImageData, size: int, batches: int, tracker: Tracker) -> None:
        self._data = data
        self._counts = [size // batches + (batch < size % batches) for batch in range(batches)]
        self._tracker = tracker
        self._shown: list[Tensor] = []
        self._captions: list[str] = []

    def __call__(self, plan: MixPlan, images: Tensor, labels: Tensor) -> None:
        """Look at the next batch: images (B, C, H, W) normalised and labels (B,) int64, both not mixed yet."""
        if not self._counts:
            return
        shown, captions = mixed_images(plan, images, labels, self._data, self._counts.pop(0))
        self._shown.append(shown)
        self._captions += captions
        self.show()

    def show(self) -> None:
        """Give the panel to the tracker, if there is all of it."""
        if not self._counts and self._captions:
            self._tracker.mixed_images(torch.cat(self._shown), self._captions)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": list(self._counts), "shown": list(self._shown), "captions": list(self._captions)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._counts, self._shown, self._captions = state["counts"], state["shown"], state["captions"]


def mixed_images(
    plan: MixPlan, images: Tensor, labels: Tensor, data: ImageData, count: int
) -> tuple[Tensor, list[str]]:
    """The first ``count`` images of a batch, how they are mixed, and a caption each.

    Args:
        plan: of the batch.
        images: (B, C, H, W) normalised.
        labels: (B,) int64.
        data: whose normalisation is undone and whose class names are used.
        count: how many, at most.

    Returns:
        uint8 (n, 4, C, H, W) on the CPU: the image itself, its partner, the mask (white is the image's own, black its
        partner's) and what enters the network; and captions such as ``0.73 cat + 0.27 dog``. Where a block inside the
        network is mixed, what enters is the image itself and the caption names the block.
    """
    white = torch.ones_like(images)
    own = plan.applied_mask.mix(white, torch.zeros_like(images)) if plan.active else white
    entering = plan.mix(images) if plan.layer is None else images
    few = slice(count)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    parts = [part[few].float().cpu() * std + mean for part in (images, images[plan.partner], entering)]
    parts.insert(2, own[few].float().cpu())
    shown = (torch.stack(parts, dim=1) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()
    names = data.class_names
    captions = []
    for lam, own, other in zip(
        plan.lam[:count].tolist(), labels[:count].tolist(), labels[plan.partner][:count].tolist(), strict=True
    ):
        text = f"{lam:.2f} {names[own]} + {1 - lam:.2f} {names[other]}" if plan.active else names[own]
        captions.append(text if plan.layer is None else f"{text} at {plan.layer}")
    return shown, captions
