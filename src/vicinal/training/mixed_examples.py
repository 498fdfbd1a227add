"""Examples of the first batches: inputs, their partners, masks and what is mixed, with targets and lambdas."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from vicinal.data import Batch, RunData, plain
from vicinal.mixing import MixPlan
from vicinal.tasks import CLASSIFICATION, Task
from vicinal.tracking.tracker import Tracker
from vicinal.training.stateful import Stateful

MOST_MEMBERS = 4
"""Samples that a caption names: those with the largest weights."""


class MixedExamples(Stateful):
    """Collects `size` samples of the first batches, evenly, and gives them to a tracker once there are enough.

    From several batches, because one lambda (and one block) is drawn per batch. The data have the normalisation to be
    undone and the class names; the task describes the targets. Nothing is shown of inputs that have no picture.
    """

    STATE = ("counts", "shown", "captions", "sounds")

    def __init__(self, data: RunData, size: int, batches: int, tracker: Tracker, task: Task = CLASSIFICATION) -> None:
        self._data, self._tracker, self._task = data, tracker, task
        batches = batches if size and data.kind.pictured else 0
        self.counts = [size // batches + (batch < size % batches) for batch in range(batches)]
        self.shown: list[Tensor] = []
        self.captions: list[str] = []
        self.sounds: list[Tensor] = []

    def __call__(self, plan: MixPlan, batch: Batch, targets: Tensor, settled: MixPlan) -> None:
        """Look at the next batch: inputs (B, ...) normalised and targets (B, ...), both not mixed yet.

        ``settled`` is the plan of the loss, where the forward pass has decided the weights.
        """
        if not self.counts:
            return
        inputs = plain(batch)
        count = self.counts.pop(0)
        shown, captions = mixed_images(plan, settled, inputs, targets, self._data, count, self._task)
        self.shown.append(shown)
        self.captions += captions
        if self._data.kind.audible:
            heard = self._data.unnormalised(entering(plan, inputs)[:count].float().cpu())
            self.sounds.append(self._data.kind.sound(heard))
        self.show()

    def show(self) -> None:
        """Give the images to the tracker, if all are there."""
        if not self.counts and self.captions:
            self._tracker.mixed_images(torch.cat(self.shown), self.captions)
            if self.sounds:
                rate = self._data.kind.arguments["rate"]
                self._tracker.mixed_sounds(torch.cat(self.sounds), rate, self.captions)


def entering(plan: MixPlan, inputs: Tensor) -> Tensor:
    """Return what enters the network, (B, ...): the inputs themselves, where a block inside it is mixed."""
    return plan.mix(inputs) if plan.layer is None else inputs


def mixed_images(
    plan: MixPlan, settled: MixPlan, inputs: Tensor, targets: Tensor, data: RunData, count: int, task: Task
) -> tuple[Tensor, list[str]]:
    """Return at most ``count`` samples of a batch as pictures, how they are mixed, and a caption for each.

    The inputs are (B, ...), normalised as the data say, with targets (B, ...). The weights in captions are those of
    ``settled``.

    Returns:
        uint8 (n, T, C, H, W) on the CPU: the sample itself, its partner, the mask (white is the sample's own, black its
        partner's), what enters the network, and the tiles that the task adds; and captions such as ``0.73 cat + 0.27
        dog``. Where a block inside the network is mixed, what enters is the sample itself and the caption names the
        block.
    """
    few = slice(count)
    parts = (inputs, inputs[plan.partner], entering(plan, inputs))
    pictures = [data.kind.picture(data.unnormalised(part[few].float().cpu())) for part in parts]
    pictures.insert(2, data.kind.mask_picture(plan.own_part(inputs)[few].float().cpu()))
    shown = torch.stack(pictures, dim=1).contiguous()
    several = slice(None if plan.active else 1)
    weights, members = settled.weights[:, several], settled.members[:, several]
    at = "" if plan.layer is None else f" at {plan.layer}"
    captions = []
    for row_weights, row_members in zip(weights[few].tolist(), members[few].tolist(), strict=True):
        shares: Counter[int] = Counter()  # a sample can be mixed with itself, and is where its partner is blank
        for weight, member in zip(row_weights, row_members, strict=True):
            shares[member] += weight
        largest = shares.most_common(MOST_MEMBERS) if len(shares) > MOST_MEMBERS else shares.items()
        parts_of = [(weight, targets[member].tolist()) for member, weight in largest]
        captions.append(task.caption(parts_of, data.class_names) + at)
    return task.tiles(shown, plan, targets), captions
