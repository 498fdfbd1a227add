"""The jobs of a running sweep in the terminal: one table that stays below everything that is printed meanwhile."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vicinal.durations import duration
from vicinal.sweeps.page_tables import NOTHING
from vicinal.sweeps.progress import Job, Progress

COLORS = {"running": "cyan", "completed": "green", "failed": "red", "stopped": "yellow", "planned": ""}
"""Of the states, which are named too."""
FIRST = ("running", "failed", "stopped", "planned", "completed")
"""Which jobs are shown where there is no room for all."""
FRAME = 7
"""Lines of the table that are no job: the title, the head, the frame and what is left out."""
PROMPT = 0.2
"""Seconds until something that was printed is seen, at least."""
SHARE = 200
"""What is done beside a training is followed by a rest of this many times the processor time that it took."""


class LiveTable:
    """The table, if standard output is a terminal; else nothing at all.

    Several processes print, some of them by other ways than Python's, and each line would cut the table in two. So
    meanwhile their output goes to a file, from which it is copied to above the table. A file, not a pipe: nobody who
    prints ever waits for, or dies with, who copies.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._live: Live | None = None
        self._lines: IO[bytes] | None = None
        self._rest = ""
        self._costs = deque((0.0, 0.0), maxlen=3)
        self._undo = ExitStack()

    @property
    def pause(self) -> float:
        """Seconds between two calls of :meth:`forward`: each draws the table anew."""
        return max(PROMPT, SHARE * min(self._costs)) if self._live else 1.0

    def __enter__(self) -> Self:
        if self._console is None and not sys.stdout.isatty():
            return self
        try:
            console = self._console or Console(file=self._redirect())
        except OSError:
            self._undo.close()
            raise
        if not console.is_interactive:
            self._undo.close()
            return self
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.transient = error is None  # the report's tables follow; after an interruption nothing does
            self.forward(whole=False)
            self._live.stop()
        self._undo.close()

    def show(self, progress: Progress) -> None:
        if self._live:
            self._live.update(table(progress, self._live.console.height), refresh=True)

    def forward(self, whole: bool = True) -> None:
        """Print what has been written since the last time, above the table.

        Args:
            whole: lines alone; half a line waits for its end.
        """
        if self._lines is None or self._live is None:
            return
        text = self._rest + self._lines.read().decode(errors="replace")
        end = text.rfind("\n") + 1 if whole else len(text)
        text, self._rest = text[:end], text[end:]
        if text:
            began = time.thread_time()
            self._live.console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
            self._costs.append(time.thread_time() - began)

    def _redirect(self) -> IO[str]:
        """Send what this process and its children print to a file, and return the terminal."""
        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-")))
        descriptor = os.open(folder / "printed", os.O_CREAT | os.O_WRONLY | os.O_APPEND)  # of several processes
        self._lines = self._undo.enter_context((folder / "printed").open("rb"))
        terminal: IO[str] = self._undo.enter_context(os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding))
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            if os.isatty(number):
                stream.flush()
                kept = os.dup(number)
                os.dup2(descriptor, number)
                self._undo.callback(os.close, kept)
                self._undo.callback(os.dup2, kept, number)
                self._undo.callback(stream.flush)
        os.close(descriptor)
        return terminal


def table(progress: Progress, height: int) -> Table:
    """The jobs as a table.

    Args:
        progress: to show.
        height: lines that there are; of more jobs, those that say most are shown.
    """
    counts = ", ".join(f"{n} {status}" for status in FIRST if (n := progress.count(status)))
    left = "" if progress.left is None else f"; about {duration(progress.left)} left"
    shown = _chosen(progress.jobs, max(3, height - FRAME))
    hidden = len(progress.jobs) - len(shown)
    made = Table(
        title=f"{counts}{left}",
        title_justify="left",
        caption=f"and {hidden} more" if hidden else None,
        caption_justify="left",
    )
    for heading in (*(progress.swept or ["run"]), "seed", "state"):
        made.add_column(heading, overflow="fold")
    for heading in ("epoch", "val acc", "time left"):
        made.add_column(heading, justify="right", no_wrap=True)
    for job in shown:
        made.add_row(*_cells(job, progress.swept))
    return made


def _chosen(jobs: list[Job], most: int) -> list[Job]:
    """In grid order; those that are under way or need a look before those that are done or wait."""
    ranked = sorted(range(len(jobs)), key=lambda place: FIRST.index(jobs[place].run.status))
    return [jobs[place] for place in sorted(ranked[:most])]


def _cells(job: Job, swept: list[str]) -> list[Text]:
    run, color = job.run, COLORS[job.run.status]
    names = [job.values[key] for key in swept] or [run.name]
    accuracy = NOTHING if job.accuracy is None else f"{job.accuracy:.4f}"
    left = NOTHING if job.left is None else duration(job.left)
    rest = [Text(text) for text in (f"{job.done}/{job.epochs}", accuracy, left)]
    return [*map(Text, names), Text(str(run.seed)), Text(run.status, style=color), *rest]
