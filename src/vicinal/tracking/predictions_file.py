"""``predictions.npz``: what the last epoch's weights say of each test image, for those who look without W&B."""

from pathlib import Path

from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import Tracker


class PredictionsFile(Tracker):
    """Writes the predictions to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def predictions(self, predictions: Predictions) -> None:
        predictions.save(self.file)
