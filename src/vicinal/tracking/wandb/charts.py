"""Where a finished run errs and how sure it is then, as charts of W&B's own."""

from __future__ import annotations

from typing import Any

from vicinal.runs.predictions import Predictions

CLASSES = 100
"""That a confusion matrix is drawn for at most: it is a table of their square, and W&B's hold 10 000 rows."""


def keys(predictions: Predictions) -> list[str]:
    """Of the tables behind the charts."""
    matrix = ["test/confusion_table"] if len(predictions.class_names) <= CLASSES else []
    return ["test/class_accuracy_table", "test/reliability_table", *matrix]


def charts(predictions: Predictions) -> dict[str, Any]:
    """Charts of the test predictions by their keys, to be logged: each is a table too, under ``<key>_table``.

    ``test/confusion`` (up to 100 classes), ``test/class_accuracy`` and ``test/reliability``.
    """
    import wandb

    names, reliability = list(predictions.class_names), predictions.reliability()
    shares = zip(names, predictions.class_accuracy().tolist(), strict=True)
    rows = [[name, share] for name, share in shares if share == share]  # NaN: no image of that class
    found: dict[str, Any] = {
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
    if len(names) <= CLASSES:
        found["test/confusion"] = wandb.plot.confusion_matrix(
            y_true=predictions.labels.tolist(),
            preds=predictions.predicted.tolist(),
            class_names=names,
            title="Test images by right and predicted class",
        )
    return found
