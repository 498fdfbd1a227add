"""Evaluate a model: the metrics of its task, accumulated on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.tasks import Metric, Task
from vicinal.training.hardware import Hardware


class Metrics:
    """Running totals of some metrics over batches; only :meth:`compute` waits for the device."""

    def __init__(self, metrics: Sequence[Metric], device: torch.device) -> None:
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._metrics = metrics
        self._totals = [torch.zeros((), dtype=self._dtype, device=device)] * len(metrics)
        self._count = 0

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Add a batch: outputs as ``task.read`` returns them, and targets (B, ...)."""
        batch = [metric.sums(outputs, targets, self._dtype) for metric in self._metrics]
        self._totals = [total + sums for total, sums in zip(self._totals, batch, strict=True)]
        self._count += len(targets)

    def compute(self) -> dict[str, float]:
        """Return {key: value}."""
        values = [metric.value(total, self._count) for metric, total in zip(self._metrics, self._totals, strict=True)]
        return dict(zip((metric.key for metric in self._metrics), torch.stack(values).tolist(), strict=True))


@torch.inference_mode()
def evaluate(
    task: Task,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    hardware: Hardware,
    forward: Callable[[Tensor], Tensor] | None = None,
    records: list[dict[str, Tensor]] | None = None,
) -> dict[str, float]:
    """Return the metrics of a model in evaluation mode over batches of (images, targets); its mode is restored.

    `forward` is called instead of the model, such as its compiled form. What the task keeps of each sample is appended
    to `records`, one dictionary per batch.
    """
    metrics = Metrics(task.computed, hardware.device)
    training = model.training
    model.eval()
    for images, targets in batches:
        with hardware.autocast():
            outputs = (forward or model)(images)
        outputs = task.read(outputs)
        metrics.update(outputs, targets)
        if records is not None:
            records.append(task.record(outputs, targets))
    model.train(training)
    return metrics.compute()
