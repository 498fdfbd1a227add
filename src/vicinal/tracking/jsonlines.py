"""``metrics.jsonl``: the record of a run's epochs, a line each. W&B is the view, this file is what counts."""

import json
from collections.abc import Mapping
from pathlib import Path

from vicinal.tracking.tracker import Tracker

TIME_FIELDS = ("throughput", "seconds")
"""The fields in which two runs of the same config differ; the others are equal to the last bit."""


class JsonLines(Tracker):
    """Appends each epoch's row to a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def epoch(self, row: Mapping[str, float | int]) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps(dict(row), allow_nan=False) + "\n")
