"""Whole commands, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from vicinal.config.schema import CONF

ROOT = CONF.parent
TRAIN = str(ROOT / "train.py")


def python(*words: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run ``python`` with these words in a folder, with more environment variables; return what it printed.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))  # this suite is not installed
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=variables)
    if done.returncode:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise RuntimeError(f"{' '.join(words)} left with {done.returncode}: {output}")
    return done.stdout


class Trainings:
    """``train.py`` again and again with the same words, each time into a new folder, so that nothing is done already.

    Args:
        folder: for all of them.
        name: of this series.
        words: of the command line.
    """

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self.folder, self.name, self.words = folder, name, words
        self.times = 0

    def __call__(self, *more: str) -> None:
        self.times += 1
        python(TRAIN, *self.words, f"output_dir={self.output}", *more, folder=self.folder)

    @property
    def output(self) -> Path:
        """Folder of the last run."""
        return self.folder / f"{self.name}-{self.times}"

    def results(self) -> list[dict[str, dict[str, float]]]:
        """Return the results of all its runs."""
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.output.glob("runs/*/result.json"))]

    def bare_seconds(self) -> float:
        """Return the seconds of steps and evaluation of all its runs."""
        return sum(result["seconds"]["train"] + result["seconds"]["evaluation"] for result in self.results())
