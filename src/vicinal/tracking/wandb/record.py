"""W&B's part of a run's folder: the mark of what W&B still lacks, and the offline records with their upload."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vicinal.errors import UserError
from vicinal.runs.files import DamagedError, read, write
from vicinal.runs.folder import RunFolder
from vicinal.runs.locks import held
from vicinal.tracking.wandb.calls import one_line, why_unreachable

LOCK = ".lock"  # file in W&B's part of the folder; held by the process that writes a record
UNFINISHED = "unfinished"  # file beside it while W&B lacks a part of the run; it holds W&B's id of the run
ID = re.compile(r"[\w-]{1,64}", re.ASCII)
UPLOAD_SECONDS = 600.0  # for one run; wandb itself tries a lost network again and again


def home(folder: Path) -> Path:
    """Return W&B's part of a run's folder."""
    return folder / "wandb"


def begin(folder: Path, id: str) -> None:  # noqa: A002 - W&B's own name for it
    """Mark a run as unfinished at W&B; a folder that cannot be written stays as it is."""
    with suppress(OSError):
        home(folder).mkdir(parents=True, exist_ok=True)
        write(home(folder) / UNFINISHED, id.encode())


def end(folder: Path) -> None:
    """Mark that W&B has all of the run."""
    (home(folder) / UNFINISHED).unlink(missing_ok=True)


def unfinished(folder: Path) -> str | None:
    """Return W&B's id of a run of which W&B lacks a part, "" where it cannot be read; None where W&B has all."""
    try:
        text = read(home(folder) / UNFINISHED).decode(errors="replace")
    except FileNotFoundError:
        return None
    except (OSError, DamagedError):
        return ""
    return text if ID.fullmatch(text) else ""


def being_written(folder: Path, patience: float = 0.0) -> bool:
    """Return whether a process writes W&B's record of the run, and still does after so many seconds."""
    until = time.monotonic() + patience
    while held(home(folder) / LOCK):
        if time.monotonic() >= until:
            return True
        time.sleep(0.05)
    return False


def worker(folder: Path) -> str | None:
    """Return the process that still works on a run, in words; None if there is none."""
    return RunFolder(folder).locked() or ("W&B's own process" if being_written(folder) else None)


def unfinished_runs(target: Path) -> list[RunFolder]:
    """Return the completed runs below a folder, or the folder itself, of which W&B lacks a part, by their paths."""
    folders = {file.parents[1].resolve() for file in target.rglob(f"wandb/{UNFINISHED}")}
    return [run for run in map(RunFolder, sorted(folders)) if run.completed()]


@dataclass(frozen=True)
class OfflineRecord:
    """W&B's record of one offline run, ``<run>/wandb/offline-run-<time>-<id>``."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's folder and W&B's id."""
        return f"{self.folder.parents[1].name} ({self.folder.name.rpartition('-')[2]})"

    @property
    def uploaded(self) -> bool:
        """True once ``wandb sync`` has left its marker."""
        return any(self.folder.glob("*.wandb.synced"))

    def upload(self, url: str) -> str | None:
        """Upload the record by W&B's own ``wandb sync``; return the reason if that fails.

        The server is asked for a connection first: wandb would go on trying for minutes.
        """
        if reason := why_unreachable(url):
            return reason
        command = [sys.executable, "-m", "wandb", "sync", "--yes", str(self.folder)]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=UPLOAD_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"not uploaded within {UPLOAD_SECONDS:g} s"
        if done.returncode == 0 and self.uploaded:
            return None
        lines = [line.removeprefix("wandb:").strip() for line in (done.stdout + done.stderr).splitlines()]
        return next(filter(None, reversed(lines)), f"wandb sync ended with exit code {done.returncode}")


def offline_records(target: Path) -> list[OfflineRecord]:
    """Return all records below a folder, or the folder itself, by their paths; links and pipes are left out."""
    files = (file for file in target.rglob("*.wandb") if file.parent.name.startswith("offline-run-"))
    own = (file for file in files if file.is_file() and not file.is_symlink() and not file.parent.is_symlink())
    return [OfflineRecord(folder) for folder in sorted({file.parent.resolve() for file in own})]


def server() -> str:
    """Return the address of the server. Raises UserError where W&B refuses its environment or its settings files."""
    import wandb

    try:
        return wandb.setup(wandb.Settings(silent=True)).settings.base_url
    except (ValueError, wandb.Error) as error:
        raise UserError(f"W&B cannot begin: {one_line(error)}") from error
