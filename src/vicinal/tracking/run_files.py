"""Files of a run that do not depend on the chosen trackers. ``metrics.jsonl`` is the record; W&B is only a view."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vicinal.runs import mixed_sheet, mixed_sounds
from vicinal.runs.files import appending, naming, write
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import Progress, Tracker

TIME_FIELDS = ("throughput", "seconds")
"""The fields in which two runs of the same config differ; the others are equal to the last bit."""


class RunFiles(Tracker):
    """Writes ``metrics.jsonl``, one line per epoch; ``mixed.png``; ``predictions.npz``, of the last epoch.

    Also ``mixed.wav``, where the inputs are sounds. An event raises TakenOverError if another process has the run now.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    @property
    def _own(self) -> RunFolder:
        self._folder.check_lock()
        return self._folder

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        write(self._own.metrics, encode(rows))

    def progress(self, progress: Progress) -> None:
        self._folder.check_lock()

    def epoch(self, row: Mapping[str, Any]) -> None:
        file = self._own.metrics
        with naming(file), appending(file) as lines:
            lines.write(_line(row))

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        mixed_sheet.write(self._own.mixed, images.numpy(), captions)

    def mixed_sounds(self, sounds: Tensor, rate: int, captions: Sequence[str]) -> None:
        mixed_sounds.write(self._own.mixed_sounds, sounds.numpy(), rate)

    def predictions(self, predictions: Predictions) -> None:
        predictions.save(self._own.predictions)


def encode(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the content of a ``metrics.jsonl`` with these epochs."""
    return "".join(map(_line, rows)).encode()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row), allow_nan=False) + "\n"
