"""Sums over the steps of an epoch that never make a step wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from vicinal.errors import UserError


class DivergedError(UserError):
    """The loss is no longer a finite number."""


class Tally:
    """Sums of one epoch of training, kept on the device until somebody looks."""

    def __init__(self, device: torch.device) -> None:
        self.steps = 0
        self.samples = 0
        self._sums = torch.zeros(4, device=device)  # loss, correct, ceiling, floor; over the samples
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)  # step from 1; 0 = none

    def add(self, loss: Tensor, correct: Tensor, ceiling: Tensor, floor: Tensor) -> None:
        """Add a step: the mean loss, a scalar, and one value a sample (B,) of each of the others."""
        self.steps += 1
        self.samples += len(correct)
        self._sums += torch.stack([loss.float() * len(correct), correct.sum(), ceiling.sum(), floor.sum()])
        new = ~torch.isfinite(loss) & (self._first_bad == 0)
        self._first_bad = torch.where(new, self.steps, self._first_bad)

    def read(self) -> dict[str, float]:
        """Means over the samples so far; waits for the device."""
        loss, correct, ceiling, floor = (self._sums / self.samples).tolist()
        return {"loss": loss, "acc1": correct, "acc1_ceiling": ceiling, "loss_floor": floor}

    def check_finite(self, before: int, lr: float, precision: str) -> None:
        """Waits for the device.

        Args:
            before: steps of the epochs before this one.
            lr: learning rate at about this step.
            precision: of the forward pass.

        Raises:
            DivergedError: a loss was NaN or infinite; names its step, from 1, and the likely cause.
        """
        step = int(self._first_bad)
        if not step:
            return
        if precision == "fp16":
            cause = "fp16 overflowed, or the learning rate is too high: try trainer.precision=bf16 or a smaller"
        else:
            cause = "the learning rate is too high: try a smaller"
        raise DivergedError(
            f"the loss is not finite since step {before + step} (lr {lr:g}); the likely cause: {cause} optimizer.lr, "
            "scheduler.warmup_epochs=1 or trainer.clip_grad_norm=1"
        )
