"""The folder of one run. ``result.json`` comes last and whole: with ``"status": "completed"`` it is the done mark."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class RunFolder:
    """``<output_dir>/runs/<readable-name>-<run_id>/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoint = path / "checkpoint.pt"
        self.environment = path / "environment.json"
        self.log = path / "train.log"

    def read_result(self) -> dict[str, Any] | None:
        """What came of the run; None if nothing has yet. A damaged file is named, set aside and counts as nothing."""
        try:
            result = json.loads(self.result.read_text())
            if isinstance(result, dict) and "status" in result:
                return result
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        aside = self.result.with_suffix(".json.damaged")
        self.result.replace(aside)
        log.warning("%s is damaged; it is set aside as %s and not used", self.result, aside.name)
        return None

    def completed(self) -> dict[str, Any] | None:
        """The result of a completed run, else None."""
        result = self.read_result()
        return result if result is not None and result["status"] == "completed" else None

    def clear(self) -> None:
        """Make the folder empty: what an earlier, unfinished try left behind belongs to no result.

        What was set aside stays: somebody may want to know what happened to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.suffix != ".damaged":
                entry.unlink()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Copy what is logged inside to ``train.log``."""
        handler = logging.FileHandler(self.log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` so that the file is there whole or not at all, even if the machine stops."""
    partial = file.with_suffix(".partial")
    with partial.open("w") as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
