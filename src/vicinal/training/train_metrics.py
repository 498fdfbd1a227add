"""Sums over the steps of an epoch that do not make a step wait for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vicinal.errors import UserError
from vicinal.training.stateful import Stateful


class DivergedError(UserError):
    """The loss is no longer a finite number; `when` is such as "since step 12", and `lr` the peak learning rate."""

    def __init__(self, when: str, lr: float, precision: str) -> None:
        other = "fp16 overflowed (trainer.precision=bf16), or " if precision == "fp16" else ""
        super().__init__(
            f"the loss is not finite {when}; the likely cause: {other}the learning rate is too high "
            f"(optimizer.lr={lr:g}); try a smaller one, scheduler.warmup_epochs=1 or trainer.clip_grad_norm=1"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return UserError, (str(self),)  # pickled between processes: rebuilt from the text


FOLDED_STEPS = 64
"""Steps that are added at once: per step 4 us on a CPU and 2 kernels on a device, not 20 us and 13 kernels."""


class TrainMetrics(Stateful):
    """Sums of one epoch of training, kept on the device until they are read."""

    STATE = ("steps", "samples", "sums", "first_bad")

    def __init__(self, device: torch.device) -> None:
        self.steps = 0
        self.samples = 0
        self.sums = torch.zeros(2, device=device)  # loss and score, over the samples
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)  # step from 1; 0 = none
        self._waiting: list[tuple[Tensor, Tensor, int]] = []

    def add(self, loss: Tensor, score: Tensor | None, samples: int) -> None:
        """Add a step on so many samples: the mean loss, a scalar, and the task's score of each, (B,), if it has one."""
        self.steps += 1
        self.samples += samples
        self._waiting.append((loss, loss.new_zeros(()) if score is None else score.sum(), samples))
        if len(self._waiting) == FOLDED_STEPS:
            self._fold()

    def _fold(self) -> None:
        """Add the steps that wait."""
        if not self._waiting:
            return
        losses, scores, samples = zip(*self._waiting, strict=True)
        self._waiting.clear()
        loss = torch.stack(losses)
        sizes = torch.tensor(samples, dtype=torch.float32).to(loss.device, non_blocking=True)
        for step in torch.stack([loss.float() * sizes, torch.stack(scores)], dim=1):
            self.sums += step  # one after another: their sum would have other last bits
        bad = ~torch.isfinite(loss)
        first = self.steps - len(losses) + 1 + bad.int().argmax()
        self.first_bad = torch.where(bad.any() & (self.first_bad == 0), first, self.first_bad)

    def state_dict(self) -> dict[str, Any]:
        self._fold()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._waiting.clear()
        super().load_state_dict(state)

    @classmethod
    def of_shards(cls, states: Sequence[Mapping[str, Any]], device: torch.device) -> TrainMetrics:
        """Return the sums over the parts of the batches, from the states of all parts in their order."""
        whole = cls(device)
        whole.steps, whole.samples = states[0]["steps"], sum(state["samples"] for state in states)
        whole.sums = torch.stack([state["sums"].to(device) for state in states]).sum(dim=0)
        bad = torch.stack([state["first_bad"].to(device) for state in states])
        never = torch.iinfo(bad.dtype).max
        first = torch.where(bad == 0, never, bad).amin()
        whole.first_bad = torch.where(first == never, 0, first)
        return whole

    def read(self) -> tuple[float, float]:
        """Return the mean loss and score over the samples so far; waits for the device."""
        self._fold()
        loss, score = (self.sums / self.samples).tolist()
        return loss, score

    def first_bad_step(self) -> int | None:
        """Return the first step of the epoch, from 1, whose loss was NaN or infinite; waits for the device."""
        self._fold()
        return int(self.first_bad) or None
