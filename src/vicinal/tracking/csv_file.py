"""``metrics.csv``: the epochs of a run as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from vicinal.runs.files import appending, write
from vicinal.tracking.tracker import RunInfo, Tracker


class CsvFile(Tracker):
    """One row per epoch and one column per number, empty where an epoch lacks it. Histograms are left out."""

    def start(self, info: RunInfo) -> None:
        self._file = info.folder / "metrics.csv"
        self._names: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._rows = [_numbers(row) for row in rows]
        self._write()

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._rows.append(_numbers(row))
        if set(self._rows[-1]) <= set(self._names):
            with appending(self._file) as lines:
                lines.write(self._text(self._rows[-1:]))
        else:  # a new column changes the header
            self._write()

    def _write(self) -> None:
        self._names = list(dict.fromkeys(name for row in self._rows for name in row))
        header = dict(zip(self._names, self._names, strict=True))
        write(self._file, self._text([header, *self._rows]).encode())

    def _text(self, rows: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n").writerows(rows)
        return text.getvalue()


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, list)}
