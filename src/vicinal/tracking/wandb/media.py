"""Rows, mixed images and test predictions as W&B's own values and charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.runs.predictions import Predictions

IMAGES = "mixed_images"  # key of the panel of mixed images
SOUNDS = "mixed_sounds"  # key of the panel of mixed sounds
CONFUSION_CLASSES = 100
"""Largest number of classes with a confusion matrix: its table has their square of rows, and W&B's hold 10,000."""


def with_histograms(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with W&B's own histograms for lists, which are counts of equal bins of [0, 1]."""
    import wandb

    shown = dict(row)
    for name, value in row.items():
        if isinstance(value, list):
            shown[name] = wandb.Histogram(np_histogram=(np.array(value), np.linspace(0, 1, len(value) + 1)))
    return shown


def strip(tiles: NDArray[np.uint8]) -> Any:
    """Return a PIL image of tiles (n, C, H, W) side by side; wandb would stretch the values of an array."""
    from PIL import Image

    image = np.concatenate(tuple(tiles), axis=2)
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(image[:3], 0, -1) if len(image) >= 3 else image[0]))


def chart_keys(predictions: Predictions) -> list[str]:
    """Return the keys of the tables behind the charts."""
    matrix = ["test/confusion_table"] if len(predictions.class_names) <= CONFUSION_CLASSES else []
    return ["test/class_accuracy_table", "test/reliability_table", *matrix]


def charts(predictions: Predictions) -> dict[str, Any]:
    """Return charts of the test predictions by their keys; when logged, each is a table too, ``<key>_table``.

    ``test/confusion`` (up to 100 classes), ``test/class_accuracy`` and ``test/reliability``.
    """
    import wandb

    names, reliability = list(predictions.class_names), predictions.reliability()
    accuracies = zip(names, predictions.class_accuracy().tolist(), strict=True)
    rows = [[name, accuracy] for name, accuracy in accuracies if accuracy == accuracy]  # NaN: no image of that class
    result: dict[str, Any] = {
        "test/class_accuracy": wandb.plot.bar(
            wandb.Table(["class", "accuracy"], rows), "class", "accuracy", title="Test accuracy by class"
        ),
        "test/reliability": wandb.plot.line_series(
            xs=[reliability.confidence.tolist(), [0.0, 1.0]],
            ys=[reliability.accuracy.tolist(), [0.0, 1.0]],
            keys=["this model", "perfectly calibrated"],
            title="Test accuracy by confidence",
            xname="confidence",
        ),
    }
    if len(names) <= CONFUSION_CLASSES:
        result["test/confusion"] = wandb.plot.confusion_matrix(
            y_true=predictions.labels.tolist(),
            preds=predictions.predicted.tolist(),
            class_names=names,
            title="Test images by right and predicted class",
        )
    return result
