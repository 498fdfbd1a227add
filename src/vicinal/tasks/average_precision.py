"""Average precision of detected boxes, as COCO defines it, by torchmetrics."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vicinal.errors import UserError
from vicinal.tasks.metric import Evaluator, Metric

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_CLASSES = 10
"""Classes up to which each has its own metrics."""
NEEDED = ("torchmetrics", "faster_coco_eval")
METRICS = (
    Metric("map", "mean average precision", "%", "higher", short="mAP"),
    Metric("ap50", "mean average precision at IoU 0.5", "%", "higher", short="AP50"),
)


def check_installed() -> None:
    """Raise UserError where what computes the metrics is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(
            f"dataset.task=detection needs {missing[0]}, which is not installed: pip install 'vicinal[detection]'"
        )


def keys_of_classes(class_names: Sequence[str]) -> list[str]:
    """Return a word for each class that can be part of a key, each once."""
    words = [re.sub(r"\W+", "_", name).strip("_").lower() for name in class_names]
    unique = all(words) and len({*words}) == len(words)
    return words if unique else [f"class{number}" for number in range(len(words))]


def class_metrics(class_names: Sequence[str]) -> list[Metric]:
    """Return the metrics of each class; none if they are many."""
    named = list(zip(keys_of_classes(class_names), class_names, strict=True))
    if len(named) > MOST_CLASSES:
        return []
    aps = [Metric(f"ap_{key}", f"average precision, {name}", "%", "higher", short=f"AP {name}") for key, name in named]
    return aps + [
        Metric(f"ap50_{key}", f"average precision at IoU 0.5, {name}", "%", "higher", short=f"AP50 {name}")
        for key, name in named
    ]


class AveragePrecision(Evaluator):
    """Collect detections, and compute COCO's average precision: over IoU 0.5 to 0.95 ("map", "ap_..."), and at 0.5.

    A mean is over the classes that have a box in these data. A class without one has 0.
    """

    def __init__(self, class_names: Sequence[str], metrics: Sequence[Metric]) -> None:
        from torchmetrics.detection import MeanAveragePrecision

        logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it tells of every evaluation
        self._keys = keys_of_classes(class_names)
        self._wanted = [metric.key for metric in metrics]
        self._metric = MeanAveragePrecision(backend="faster_coco_eval", extended_summary=True)

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Add a batch: detections (B, D, 6), with scores instead of weights, and true boxes (B, M, 6)."""
        found = [rows[rows[:, 5] > 0] for rows in outputs.float().cpu()]
        true = [rows[rows[:, 5] > 0] for rows in targets.cpu()]
        self._metric.update(
            [{"boxes": rows[:, 1:5], "scores": rows[:, 5], "labels": rows[:, 0].long()} for rows in found],
            [{"boxes": rows[:, 1:5], "labels": rows[:, 0].long()} for rows in true],
        )

    def compute(self) -> dict[str, float]:
        computed = self._metric.compute()
        # precision by IoU, recall, class, size of the boxes (all) and number of detections (100); -1 without a box
        precision: torch.Tensor = computed["precision"][..., 0, -1]
        values = {"map": _mean(precision), "ap50": _mean(precision[0])}
        for place, label in enumerate(computed["classes"].reshape(-1).tolist()):
            values[f"ap_{self._keys[label]}"] = _mean(precision[:, :, place])
            values[f"ap50_{self._keys[label]}"] = _mean(precision[0, :, place])
        return {key: values.get(key, 0.0) for key in self._wanted}


def _mean(precision: torch.Tensor) -> float:
    """Return the mean of what is defined; 0 of nothing."""
    defined = precision[precision > -1]
    return float(defined.double().mean()) if len(defined) else 0.0
