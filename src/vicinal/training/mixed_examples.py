"""Examples of the first batches: images, their partners, masks and the mixed images, with labels and lambdas."""

from __future__ import annotations

import torch
from torch import Tensor

from vicinal.data import ImageData
from vicinal.mixing import MixPlan
from vicinal.tasks import CLASSIFICATION, Task
from vicinal.tracking.tracker import Tracker
from vicinal.training.stateful import Stateful

MOST_MEMBERS = 4
"""Samples that a caption names: those with the largest weights."""


class MixedExamples(Stateful):
    """Collects `size` images of the first batches, evenly, and gives them to a tracker once there are enough.

    From several batches, because one lambda (and one block) is drawn per batch. The data have the normalisation to be
    undone and the class names; the task describes the targets.
    """

    STATE = ("counts", "shown", "captions")

    def __init__(self, data: ImageData, size: int, batches: int, tracker: Tracker, task: Task = CLASSIFICATION) -> None:
        self._data, self._tracker, self._task = data, tracker, task
        self.counts = [size // batches + (batch < size % batches) for batch in range(batches)]
        self.shown: list[Tensor] = []
        self.captions: list[str] = []

    def __call__(self, plan: MixPlan, images: Tensor, labels: Tensor) -> None:
        """Look at the next batch: images (B, C, H, W) normalised and labels (B,) int64, both not mixed yet."""
        if not self.counts:
            return
        shown, captions = mixed_images(plan, images, labels, self._data, self.counts.pop(0), self._task)
        self.shown.append(shown)
        self.captions += captions
        self.show()

    def show(self) -> None:
        """Give the images to the tracker, if all are there."""
        if not self.counts and self.captions:
            self._tracker.mixed_images(torch.cat(self.shown), self.captions)


def mixed_images(
    plan: MixPlan, images: Tensor, labels: Tensor, data: ImageData, count: int, task: Task
) -> tuple[Tensor, list[str]]:
    """Return at most ``count`` images of a batch, how they are mixed, and a caption for each.

    The images are (B, C, H, W), normalised as the data say, with labels (B,) int64.

    Returns:
        uint8 (n, 4, C, H, W) on the CPU: the image itself, its partner, the mask (white is the image's own, black its
        partner's) and what enters the network; and captions such as ``0.73 cat + 0.27 dog``. Where a block inside the
        network is mixed, what enters is the image itself and the caption names the block.
    """
    own = plan.own_part(images)
    entering = plan.mix(images) if plan.layer is None else images
    few = slice(count)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    parts = [part[few].float().cpu() * std + mean for part in (images, images[plan.partner], entering)]
    parts.insert(2, own[few].float().cpu())
    shown = (torch.stack(parts, dim=1) * 255).round().clamp(0, 255).to(torch.uint8).contiguous()
    weights, members = (plan.weights, plan.members) if plan.active else (plan.weights[:, :1], plan.members[:, :1])
    at = "" if plan.layer is None else f" at {plan.layer}"
    captions = []
    for row_weights, row_labels in zip(weights[few].tolist(), labels[members[few]].tolist(), strict=True):
        parts_of = list(zip(row_weights, row_labels, strict=True))
        if len(parts_of) > MOST_MEMBERS:
            parts_of = sorted(parts_of, reverse=True)[:MOST_MEMBERS]
        captions.append(task.caption(parts_of, data.class_names) + at)
    return shown, captions
