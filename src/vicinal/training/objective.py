"""The loss of a training step: its terms and their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.plan import SecondHalf
from vicinal.tasks import Task


class StepOutput(NamedTuple):
    """The loss, a scalar, the model's outputs and the task's score (B,) on the mixed samples, and the settled plan."""

    loss: Tensor
    outputs: Any
    score: Tensor | None
    plan: MixPlan


Weight = float | str
"""A number, or one of :data:`~vicinal.mixing.strategy.WEIGHTS`: another weight for each sample."""


@dataclass(frozen=True)
class Objective:
    """mixed_weight * loss on the mixed samples + clean_weight * loss on the same samples, unmixed.

    With both weights 1 this is RegMixup (arXiv 2206.14502). The score is that of the mixed samples.

    Attributes:
        task: scores the outputs.
        loss: of both terms, as :meth:`Task.loss` returns it.
        mixed_weight: > 0, "lam" or "1-lam".
        clean_weight: >= 0, "lam" or "1-lam"; 0 is no second pass.
        together: one pass over the samples and the mixed samples, so that batch norm sees both at once; else the clean
            samples are a second pass.
    """

    task: Task
    loss: Callable[..., Tensor]
    mixed_weight: Weight = 1.0
    clean_weight: Weight = 0.0
    together: bool = False

    def __call__(
        self, forward: Callable[[Tensor, MixPlan], Any], inputs: Tensor, targets: Tensor, plan: MixPlan
    ) -> StepOutput:
        """Compute the loss of inputs and targets (B, ...) that are not mixed yet, by ``forward(inputs, plan)``."""
        if not self.clean_weight:
            outputs = forward(inputs, plan)
            plan = plan.settled()
            total = self._term(self.mixed_weight, plan, plan, outputs, targets)
        else:
            unmixed = replace(plan, layer=None, active=False)
            if self.together:
                clean, outputs = forward(torch.cat([inputs, inputs]), SecondHalf.of(plan)).chunk(2)
            else:
                outputs, clean = forward(inputs, plan), forward(inputs, unmixed)
            plan = plan.settled()
            total = self._term(self.mixed_weight, plan, plan, outputs, targets)
            total = total + self._term(self.clean_weight, plan, unmixed, clean, targets)
        return StepOutput(total, outputs, self.task.score(plan, outputs, targets), plan)

    def _term(self, weight: Weight, plan: MixPlan, mixing: MixPlan, outputs: Any, targets: Tensor) -> Tensor:
        per_sample = _of(weight, plan.lam)
        if isinstance(per_sample, Tensor):
            return self.loss(mixing, outputs, targets, per_sample)
        loss = self.loss(mixing, outputs, targets)
        return loss if weight == 1 else per_sample * loss  # the usual weight costs no kernel

    def lowest(self, plan: MixPlan, floor: Tensor, clean: float) -> Tensor:
        """Return the lowest total of each mixed sample, (B,), from the lowest losses of its terms."""
        return _of(self.mixed_weight, plan.lam) * floor + _of(self.clean_weight, plan.lam) * clean

    def lowest_unmixed(self, clean: float) -> float:
        """Return the lowest total of a sample of a batch that is not mixed, whose lambda is 1."""
        one = torch.ones((), dtype=torch.float64)
        return float(_of(self.mixed_weight, one) * clean + _of(self.clean_weight, one) * clean)


def _of(weight: Weight, lam: Tensor) -> Tensor | float:
    return {"lam": lam, "1-lam": 1 - lam}[weight] if isinstance(weight, str) else weight
