"""Classification: one class per image."""

from __future__ import annotations

from vicinal.tasks.metric import Metric
from vicinal.tasks.task import Task

CLASSIFICATION = Task(
    name="classification",
    metrics=(
        Metric("acc1", "top-1 accuracy", "%", "higher"),
        Metric("acc5", "top-5 accuracy", "%", "higher"),
        Metric("nll", "negative log-likelihood", "nats", "lower"),
        Metric("ece", "expected calibration error", "%", "lower"),
    ),
    selection="acc1",
)
