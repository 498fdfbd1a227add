"""An exponential moving average of the weights."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vicinal.training.stateful import Stateful


class ModelEma(Stateful):
    """A copy of a model whose weights and running statistics follow it: decay * own + (1 - decay) * new per step.

    The first step is copied, and so are hooks, and integers such as batch norm's count of batches. The numbers are
    those of ``torch.optim.swa_utils.AveragedModel``, which copies a counter to the device at every step and waits for
    it.
    """

    STATE = ("module", "started")

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.started = False

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        own: list[Tensor] = []
        new: list[Tensor] = []
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if self.started and average.is_floating_point():
                own.append(average)
                new.append(value)
            else:
                average.copy_(value)
        if own:
            self._average(own, new, None)
        self.started = True


def _tensors(model: nn.Module) -> chain[Tensor]:
    return chain(model.parameters(), model.buffers())
