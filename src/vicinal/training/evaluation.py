"""Evaluate a model: the metrics of its task, accumulated on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.tasks import Task
from vicinal.training.hardware import Hardware
from vicinal.training.world import ALONE, World


@torch.inference_mode()
def evaluate(
    task: Task,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    hardware: Hardware,
    forward: Callable[[Tensor], Any] | None = None,
    records: list[dict[str, Tensor]] | None = None,
    world: World = ALONE,
) -> dict[str, float]:
    """Return the metrics of a model in evaluation mode over batches of (inputs, targets); its mode is restored.

    `forward` is called instead of the model, such as its compiled form. What the task keeps of each sample is appended
    to `records`, one dictionary per batch. Each process of the world has some of the batches, in their order; the
    metrics are of all, to the bit what one process computes.
    """
    together = world.size > 1
    metrics = task.evaluator(torch.device("cpu") if together else hardware.device)

    def measured() -> Iterator[tuple[Any, dict[str, Tensor]]]:
        for inputs, targets in batches:
            with hardware.autocast():
                outputs = (model if forward is None else forward)(inputs)
            outputs = task.read(outputs, model)
            yield metrics.measure(outputs, targets), {} if records is None else task.record(outputs, targets)

    training = model.training
    model.eval()
    shares = world.gather(list(measured())) if together else [measured()]
    for share in shares:
        for measure, record in share:
            metrics.add(measure)
            if records is not None:
                records.append(record)
    model.train(training)
    return metrics.compute()
