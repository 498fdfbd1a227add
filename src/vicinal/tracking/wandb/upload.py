"""Offline runs to W&B, by its own ``wandb sync``, which leaves a marker beside what it has uploaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vicinal.errors import UserError
from vicinal.runs.folder import RunFolder
from vicinal.tracking.wandb.mode import why_unreachable
from vicinal.tracking.wandb.record import UNFINISHED, being_told
from vicinal.tracking.wandb.timeouts import one_line

SECONDS = 600.0
"""For one run; wandb itself tries a lost network again and again."""


@dataclass(frozen=True)
class Offline:
    """One run that W&B was offline for.

    Attributes:
        folder: ``<run>/wandb/offline-run-<time>-<id>``.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Of our run, and W&B's id of it."""
        return f"{self.folder.parents[1].name} ({self.folder.name.rpartition('-')[2]})"

    @property
    def uploaded(self) -> bool:
        """By wandb's own marker."""
        return any(self.folder.glob("*.wandb.synced"))


def worker(folder: Path) -> str | None:
    """Process that still works on a run, in words; None if there is none."""
    return RunFolder(folder).locked() or ("W&B's own process" if being_told(folder) else None)


def lacking_runs(target: Path) -> list[RunFolder]:
    """The completed runs below a folder, or the folder itself, of which W&B has not been told all, by their paths."""
    found = sorted({file.parents[1].resolve() for file in target.rglob(f"wandb/{UNFINISHED}")})
    return [run for run in map(RunFolder, found) if run.completed()]


def offline_runs(target: Path) -> list[Offline]:
    """All below a folder, or the folder itself, by their paths; links and pipes are left out."""
    found = (path for path in target.rglob("*.wandb") if path.parent.name.startswith("offline-run-"))
    own = {
        path.parent.resolve() for path in found if path.is_file() and not any(map(Path.is_symlink, (path, path.parent)))
    }
    return [Offline(folder) for folder in sorted(own)]


def server() -> str:
    """The address of the server.

    Raises:
        UserError: W&B refuses its environment or its files of settings.
    """
    import wandb

    try:
        return wandb.setup(wandb.Settings(silent=True)).settings.base_url
    except (ValueError, wandb.Error) as error:
        raise UserError(f"W&B cannot begin: {one_line(error)}") from error


def upload(run: Offline, url: str) -> str | None:
    """Upload a run, and return why that failed; None if it did not.

    Args:
        run: not uploaded yet.
        url: of the server, which is asked for a connection first: wandb would go on trying for minutes.
    """
    if reason := why_unreachable(url):
        return reason
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(run.folder)]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"not uploaded within {SECONDS:g} s"
    if done.returncode == 0 and run.uploaded:
        return None
    return last_line(done.stdout + done.stderr) or f"wandb sync ended with exit code {done.returncode}"


def last_line(printed: str) -> str:
    lines = [line.removeprefix("wandb:").strip() for line in printed.splitlines()]
    return next((line for line in reversed(lines) if line), "")
