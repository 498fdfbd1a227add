"""The loss of a training step: its terms and their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.tasks import Task

Number = TypeVar("Number", float, Tensor)


class StepOutput(NamedTuple):
    """The loss, a scalar, with the model's outputs and the task's score (B,) on the mixed images; on the device."""

    loss: Tensor
    outputs: Tensor
    score: Tensor


@dataclass(frozen=True)
class Objective:
    """mixed_weight * loss on the mixed images + clean_weight * loss on the same images, unmixed.

    With both weights 1 this is RegMixup (arXiv 2206.14502). The clean term is a second forward pass, after the first:
    batch norm sees one batch at a time, where the reference concatenates them. The score is that of the mixed images.

    Attributes:
        task: has the loss of a batch.
        label_smoothing: in [0, 1], of both terms.
        mixed_weight: > 0.
        clean_weight: >= 0; 0 is no second pass.
    """

    task: Task
    label_smoothing: float = 0.0
    mixed_weight: float = 1.0
    clean_weight: float = 0.0

    def __call__(
        self, forward: Callable[[Tensor, MixPlan], Tensor], images: Tensor, targets: Tensor, plan: MixPlan
    ) -> StepOutput:
        """Compute the loss of images and targets (B, ...) that are not mixed yet, by ``forward(images, plan)``."""
        outputs = forward(images, plan)
        loss = self.task.loss(plan, outputs, targets, self.label_smoothing)
        score = self.task.score(plan, outputs, targets)
        clean_loss = loss
        if self.clean_weight:
            unmixed = replace(plan, layer=None, active=False)
            clean_loss = self.task.loss(unmixed, forward(images, unmixed), targets, self.label_smoothing)
        return StepOutput(self.weigh(loss, clean_loss), outputs, score)

    def weigh(self, mixed: Number, clean: Number) -> Number:
        """Return the weighted sum of the two terms, or of their lowest values; the usual weights cost no kernel."""
        total = mixed if self.mixed_weight == 1 else self.mixed_weight * mixed
        return total + self.clean_weight * clean if self.clean_weight else total
