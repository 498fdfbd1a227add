"""``metrics.jsonl``: the record of a run's epochs, a line each. W&B is the view, this file is what counts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vicinal.runs.files import appending, naming, write
from vicinal.tracking.tracker import Tracker

TIME_FIELDS = ("throughput", "seconds")
"""The fields in which two runs of the same config differ; the others are equal to the last bit."""


class JsonLines(Tracker):
    """Appends each epoch's row to a file, which in a continued run begins with those of the checkpoint."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        write(self.file, encode(rows))

    def epoch(self, row: Mapping[str, Any]) -> None:
        with naming(self.file), appending(self.file) as lines:
            lines.write(_line(row))


def encode(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The content of a file with these epochs."""
    return "".join(map(_line, rows)).encode()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row), allow_nan=False) + "\n"
