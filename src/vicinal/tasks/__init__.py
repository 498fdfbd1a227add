"""Tasks: all that depends on the kind of target, one file each. No other package names a metric."""

from vicinal.tasks.classification import CLASSIFICATION
from vicinal.tasks.metric import MeanMetric, Metric
from vicinal.tasks.task import Bounds, Task

TASKS = {task.name: task for task in (CLASSIFICATION,)}
"""By the name that ``result.json`` records."""


def task_named(name: str | None) -> Task:
    """Return the task that a record names; older records name none, and are of classification."""
    return TASKS[name or CLASSIFICATION.name]


__all__ = ["CLASSIFICATION", "TASKS", "Bounds", "MeanMetric", "Metric", "Task", "task_named"]
