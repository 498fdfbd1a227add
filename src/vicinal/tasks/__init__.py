"""What depends on the kind of target: one file per task. No other package names a metric."""

from vicinal.tasks.classification import CLASSIFICATION
from vicinal.tasks.metric import MeanMetric, Metric
from vicinal.tasks.task import Bounds, Task

TASKS = {task.name: task for task in (CLASSIFICATION,)}
"""By the name that ``result.json`` records."""

__all__ = ["CLASSIFICATION", "TASKS", "Bounds", "MeanMetric", "Metric", "Task"]
