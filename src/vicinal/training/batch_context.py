"""Facts on a batch for strategies that look at more than its shape."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.data import Batch, plain
from vicinal.mixing import MixPlan
from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.forward import shapes_of
from vicinal.models import block_names
from vicinal.tasks import Task
from vicinal.training.learner import Learner


@dataclass(frozen=True)
class BatchFacts:
    """The facts on each batch of a training that no network has to tell; only those that are needed.

    needs: names of facts, as those of a strategy.
    task: of the training.
    counts: training samples per class, (K,) int64, on the CPU.
    epochs: of the training.
    steps: per epoch.
    """

    needs: frozenset[str]
    task: Task
    counts: Tensor
    epochs: int
    steps: int

    def __call__(self, inputs: Batch, targets: Tensor, epoch: int, step: int) -> Context:
        """Return the facts on a batch: inputs and targets (B, ...), before the step after ``step`` others."""
        if not self.needs:
            return NOTHING
        return Context(
            images=plain(inputs) if "images" in self.needs else None,
            labels=self.task.compared(targets).cpu() if "labels" in self.needs else None,
            counts=self.counts if "counts" in self.needs else None,
            epoch=epoch,
            epochs=self.epochs,
            progress=(epoch - 1 + step / self.steps) / self.epochs,
        )


class BatchContext:
    """Make the context of each batch of a training: what is known, and what the network tells.

    Args:
        learner: has the strategy, the task and the model.
        counts, steps: see :class:`BatchFacts`.
    """

    def __init__(self, learner: Learner, counts: Tensor, steps: int) -> None:
        self._learner, self._needs = learner, learner.strategy.needs
        self._facts = BatchFacts(self._needs, learner.objective.task, counts, learner.settings.epochs, steps)
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def __call__(self, inputs: Batch, targets: Tensor, epoch: int, step: int) -> Context:
        """Return the context of a batch: see :class:`BatchFacts`."""
        context = self._facts(inputs, targets, epoch, step)
        if "shapes" in self._needs:
            if self._shapes is None:
                example = plain(inputs)[:1]
                with self._learner.hardware.autocast():
                    self._shapes = shapes_of(self._learner.model, example, self._learner.strategy.sized)
            context = replace(context, shapes=self._shapes)
        if "saliency" in self._needs:
            context = replace(context, saliency=saliency(self._learner, plain(inputs), targets))
        return context


def saliency(learner: Learner, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return how much each place matters to the loss, by its gradient; by the model as it is in evaluation.

    Of images (B, C, H, W), before mixing, the root of the mean square over the channels, (B, H, W) (PuzzleMix, arXiv
    2009.06962, section 3.1). Token ids (B, L) have no gradient: it is the norm of that of the first block's output,
    (B, L, width), for each word, (B, L) (SSMix, arXiv 2106.08062).
    """
    model, objective = learner.model, learner.objective
    nothing = MixPlan(torch.ones(len(inputs), device=inputs.device), torch.arange(len(inputs)), active=False)
    model.eval()
    # The gradient of a sample that is known well is 0 in fp16, without the scale that the loss of a step has.
    with nullcontext() if learner.hardware.precision == "fp16" else learner.hardware.autocast():
        if inputs.is_floating_point():
            x = inputs.detach().clone().requires_grad_()
            outputs = model(x)
        else:
            x, outputs = _through_first_block(model, inputs)
        loss = objective.loss(nothing, outputs, targets)
    (gradient,) = torch.autograd.grad(loss, x)
    model.train()
    size = gradient.float()
    found: Tensor = size.square().mean(dim=1).sqrt() if inputs.is_floating_point() else size.norm(dim=-1)
    return found


def _through_first_block(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Any]:
    """Return the output of the model's first block, and that of the model."""
    seen: list[Tensor] = []

    def see(module: nn.Module, args: object, output: Tensor) -> None:
        seen.append(output)

    hook = model.get_submodule(block_names(model)[0]).register_forward_hook(see)
    try:
        outputs = model(inputs)
    finally:
        hook.remove()
    return seen[0], outputs
