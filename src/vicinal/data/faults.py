"""Files of a data set that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vicinal.errors import ConfigError

FAIL, SKIP = ON_ERROR = ("fail", "skip")
NAMED = 3
"""Files that a line has by name."""


class Faults:
    """What is done with them, by ``dataset.on_error``: the first one ends the run, or all are noted and skipped.

    Args:
        root: of the data set, for messages.
        on_error: fail or skip.

    Raises:
        ConfigError: it is neither.
    """

    def __init__(self, root: str, on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise ConfigError("dataset.on_error", on_error, f"must be one of {', '.join(ON_ERROR)}")
        self.root, self.skip = root, on_error == SKIP
        self.reasons: dict[str, str] = {}
        """By path."""

    def note(self, path: str, reason: str) -> None:
        """One file and why it cannot be used.

        Raises:
            ConfigError: files are not skipped.
        """
        if not self.skip:
            raise ConfigError("dataset.root", self.root, f"{path} {reason}")
        self.reasons[path] = reason

    def extend(self, reasons: Mapping[str, str]) -> None:
        """Several files, by path."""
        for path, reason in reasons.items():
            self.note(path, reason)

    def names(self, folder: Path) -> tuple[str, ...]:
        """Sorted, relative to a folder."""
        return tuple(sorted(Path(os.path.relpath(path, folder)).as_posix() for path in self.reasons))

    def __str__(self) -> str:
        """How many, and the first ones with their reasons."""
        first = [f"{path} {reason}" for path, reason in sorted(self.reasons.items())[:NAMED]]
        more = len(self.reasons) - len(first)
        return f"{len(self.reasons)} files are skipped: {'; '.join(first)}{f'; and {more} more' if more else ''}"
