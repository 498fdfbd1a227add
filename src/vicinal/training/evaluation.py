"""Evaluate a model: the metrics of its task, accumulated on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.tasks import Task
from vicinal.training.hardware import Hardware


@torch.inference_mode()
def evaluate(
    task: Task,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    hardware: Hardware,
    forward: Callable[[Tensor], Any] | None = None,
    records: list[dict[str, Tensor]] | None = None,
) -> dict[str, float]:
    """Return the metrics of a model in evaluation mode over batches of (inputs, targets); its mode is restored.

    `forward` is called instead of the model, such as its compiled form. What the task keeps of each sample is appended
    to `records`, one dictionary per batch.
    """
    metrics = task.evaluator(hardware.device)
    training = model.training
    model.eval()
    for inputs, targets in batches:
        with hardware.autocast():
            outputs = (forward or model)(inputs)
        outputs = task.read(outputs, model)
        metrics.update(outputs, targets)
        if records is not None:
            records.append(task.record(outputs, targets))
    model.train(training)
    return metrics.compute()
