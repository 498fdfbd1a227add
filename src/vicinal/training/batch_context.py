"""Facts on a batch for strategies that look at more than its shape."""

from __future__ import annotations

import torch
from torch import Tensor

from vicinal.mixing import MixPlan
from vicinal.mixing.context import NOTHING, Context
from vicinal.mixing.forward import shapes_of
from vicinal.mixing.strategy import INPUT
from vicinal.training.learner import Learner


class BatchContext:
    """Make the context of each batch of a training; only what the strategy needs is computed.

    Args:
        learner: has the strategy and the model.
        counts: training images per class, (K,) int64, on the CPU.
        steps: per epoch.
    """

    def __init__(self, learner: Learner, counts: Tensor, steps: int) -> None:
        self._learner, self._counts, self._steps = learner, counts, steps
        self._needs = learner.strategy.needs
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def __call__(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Context:
        """Return the facts on a batch: images (B, C, H, W) and labels (B,), before the step after ``step`` others."""
        if not self._needs:
            return NOTHING
        epochs = self._learner.settings.epochs
        if "shapes" in self._needs and self._shapes is None:
            blocks = [depth for depth in self._learner.strategy.depths if depth != INPUT]
            with self._learner.hardware.autocast():
                self._shapes = shapes_of(self._learner.model, images[:1], blocks)
        return Context(
            images=images if "images" in self._needs else None,
            saliency=saliency(self._learner, images, labels) if "saliency" in self._needs else None,
            labels=labels.cpu() if "labels" in self._needs else None,
            counts=self._counts if "counts" in self._needs else None,
            epoch=epoch,
            epochs=epochs,
            progress=(epoch - 1 + step / self._steps) / epochs,
            shapes=self._shapes,
        )


def saliency(learner: Learner, images: Tensor, labels: Tensor) -> Tensor:
    """Return the root of the mean squared gradient of the loss over the channels, (B, H, W).

    Of the images before mixing, by the model as it is in evaluation (PuzzleMix, arXiv 2009.06962, section 3.1).
    """
    model, objective = learner.model, learner.objective
    x = images.detach().clone().requires_grad_()
    nothing = MixPlan(torch.ones_like(labels, dtype=torch.float32), torch.arange(len(labels)), active=False)
    model.eval()
    with learner.hardware.autocast():
        loss = objective.loss(nothing, model(x), labels)
    (gradient,) = torch.autograd.grad(loss, x)
    model.train()
    return gradient.float().square().mean(dim=1).sqrt()
