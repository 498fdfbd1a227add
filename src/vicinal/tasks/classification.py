"""Classification: one class per image."""

from __future__ import annotations

from vicinal.tasks.metric import Metric
from vicinal.tasks.task import Task

CLASSIFICATION = Task(
    name="classification",
    metrics=(
        Metric("acc1", "top-1 accuracy", "%", "higher", "top-1"),
        Metric("acc5", "top-5 accuracy", "%", "higher", "top-5"),
        Metric("nll", "negative log-likelihood", "nats", "lower", "NLL"),
        Metric("ece", "expected calibration error", "%", "lower", "ECE"),
    ),
    selection="acc1",
)
