"""Tasks: all that depends on the kind of target, one file each. No other package names a metric."""

from collections.abc import Mapping
from typing import Any

from vicinal.tasks.classification import CLASSIFICATION
from vicinal.tasks.detection import DETECTION
from vicinal.tasks.metric import Evaluator, MeanMetric, Metric
from vicinal.tasks.multilabel import MULTILABEL
from vicinal.tasks.regression import REGRESSION
from vicinal.tasks.segmentation import SEGMENTATION
from vicinal.tasks.task import Bounds, Task

_OURS = (CLASSIFICATION, MULTILABEL, REGRESSION, SEGMENTATION, DETECTION)
TASKS: dict[str, Task] = {task.name: task for task in _OURS}
"""By the name that ``dataset.task`` takes."""


def recorded(task: Task) -> str | dict[str, Any]:
    """Return what ``result.json`` records of a task: the name of one of ours, or else its table of metrics."""
    described, ours = task.described(), TASKS.get(task.name)
    return task.name if ours is not None and ours.described() == described else described


def task_named(record: str | Mapping[str, Any] | None) -> Task:
    """Return the task of a record, with its table of metrics; older records have none, and are of classification."""
    return TASKS[record or CLASSIFICATION.name] if not isinstance(record, Mapping) else Task.of_description(record)


__all__ = [
    "CLASSIFICATION",
    "DETECTION",
    "MULTILABEL",
    "REGRESSION",
    "SEGMENTATION",
    "TASKS",
    "Bounds",
    "Evaluator",
    "MeanMetric",
    "Metric",
    "Task",
    "recorded",
    "task_named",
]
