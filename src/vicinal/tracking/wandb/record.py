"""What a run's folder remembers of W&B: whether W&B has been told all of the run."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

from vicinal.runs.files import DamagedError, read, write
from vicinal.runs.locks import held

LOCK = ".lock"
"""In the folder of a run's records: whoever writes one holds it."""
UNFINISHED = "unfinished"
"""Beside it while W&B has not been told all; it holds W&B's id of the run."""
ID = re.compile(r"[\w-]{1,64}", re.ASCII)


def home(folder: Path) -> Path:
    """W&B's part of a run's folder."""
    return folder / "wandb"


def begin(folder: Path, id: str) -> None:  # noqa: A002 - W&B's own name for it
    """Remember that W&B is to be told of the run; where nothing can be written, nothing is remembered."""
    with suppress(OSError):
        home(folder).mkdir(parents=True, exist_ok=True)
        write(home(folder) / UNFINISHED, id.encode())


def end(folder: Path) -> None:
    """W&B has been told all."""
    (home(folder) / UNFINISHED).unlink(missing_ok=True)


def unfinished(folder: Path) -> str | None:
    """W&B's id of a run of which it has not been told all, "" where it cannot be read; None where it has all."""
    try:
        text = read(home(folder) / UNFINISHED).decode(errors="replace")
    except FileNotFoundError:
        return None
    except (OSError, DamagedError):
        return ""
    return text if ID.fullmatch(text) else ""


def being_told(folder: Path, patience: float = 0.0) -> bool:
    """Whether a process is writing W&B's record of the run, and goes on for so many seconds."""
    until = time.monotonic() + patience
    while held(home(folder) / LOCK):
        if time.monotonic() >= until:
            return True
        time.sleep(0.05)
    return False
