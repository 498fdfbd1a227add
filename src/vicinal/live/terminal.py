"""The jobs of a running sweep in the terminal: one table that stays below everything that is printed meanwhile."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rich.console import Console, Group, RenderableType
from rich.text import Text

from vicinal.launch.pinned import Pinned
from vicinal.live.progress import Job, Progress
from vicinal.report.html.tables import NOTHING
from vicinal.report.widths import Column, drawn, fit, head_lines
from vicinal.utils.durations import duration
from vicinal.utils.output import printable, stream

COLORS = {"running": "cyan", "completed": "green", "failed": "red", "stopped": "yellow", "planned": ""}
"""Of the states, which are named too."""
FIRST = ("running", "failed", "stopped", "planned", "completed")
"""Which jobs are shown where there is no room for all."""
FRAME = 6
"""Lines besides the jobs and the headings: the title, three rules, the caption, and the one that the cursor is in."""
SPARE = ("time left", "val acc", "epoch")
"""Columns to be left out where a terminal is narrow, the first one first."""
PROMPT = 0.2
"""Seconds until something that was printed is seen, at least."""
SHARE = 200
"""What is done beside a training is followed by a rest of this many times the processor time that it took."""


class LiveTable:
    """The table, if standard output is a terminal; else nothing at all.

    Several processes print, some of them by other ways than Python's, and each line would cut the table in two. So
    meanwhile their output goes to a file, from which it is copied to above the table. A file, not a pipe: writers never
    wait for the process that copies, nor do they end with it.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._pinned: Pinned | None = None
        self._progress: Progress | None = None
        self._lines: IO[bytes] | None = None
        self._rest = ""
        self._costs = deque((0.0, 0.0), maxlen=3)
        self._undo = ExitStack()

    @property
    def pause(self) -> float:
        """Seconds between two calls of :meth:`forward`: each may draw the table."""
        return max(PROMPT, SHARE * min(self._costs)) if self._pinned else 1.0

    def __enter__(self) -> Self:
        if self._console is None and not sys.stdout.isatty():
            return self
        try:
            console = self._console or Console(file=self._redirect())
        except OSError:
            self._undo.close()
            raise
        if console.is_interactive:
            self._pinned = Pinned(console)
        else:
            self._undo.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pinned:
            self.forward(whole=False)
            if error is None:
                self._pinned.erase()  # the report's tables follow; after an interruption nothing does
        self._undo.close()

    def show(self, progress: Progress) -> None:
        self._progress = progress
        self._draw()

    def forward(self, whole: bool = True) -> None:
        """Print what has been written since the last time, above the table.

        Args:
            whole: lines alone; half a line waits for its end.
        """
        if self._lines is None or self._pinned is None:
            return
        text = self._rest + self._lines.read().decode(errors="replace")
        end = text.rfind("\n") + 1 if whole else len(text)
        text, self._rest = text[:end], text[end:]
        if text or self._pinned.resized():
            began = time.thread_time()
            self._draw(text.removesuffix("\n").split("\n") if text else [])
            self._costs.append(time.thread_time() - began)

    def _draw(self, printed: Sequence[str] = ()) -> None:
        if self._pinned:
            encoding = self._pinned.encoding
            shown = self._progress
            self._pinned.draw(lambda width, height: table(shown, width, height, encoding) if shown else "", printed)

    def _redirect(self) -> IO[str]:
        """Send what this process and its children print to a file, and return the terminal."""
        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-")))
        descriptor = os.open(folder / "printed", os.O_CREAT | os.O_WRONLY | os.O_APPEND)  # of several processes
        self._lines = self._undo.enter_context((folder / "printed").open("rb"))
        terminal = os.dup(1)
        self._undo.callback(os.close, terminal)
        for standard, number in ((sys.stdout, 1), (sys.stderr, 2)):
            if os.isatty(number):
                standard.flush()
                kept = os.dup(number)
                os.dup2(descriptor, number)
                self._undo.callback(os.close, kept)
                self._undo.callback(os.dup2, kept, number)
                self._undo.callback(standard.flush)
        os.close(descriptor)
        return stream(terminal, sys.stdout.encoding, "the terminal")


def table(progress: Progress, width: int, height: int, encoding: str = "utf-8") -> Group:
    """The jobs as a table, one line per job.

    Args:
        progress: to show.
        width: columns of the terminal. What it has no room for is left out, and named below the table.
        height: lines of the terminal. Of more jobs, those that say most are shown.
        encoding: of the terminal.
    """
    candidates = _chosen(progress.jobs, max(1, height - FRAME - 1))  # of a large sweep, not all are looked at
    columns = _columns(progress.swept, candidates, encoding)
    widths = fit(columns, width, [*SPARE, *reversed(progress.swept[1:]), "seed"])
    shown = _chosen(candidates, max(1, height - FRAME - head_lines(columns, widths)))
    counts = ", ".join(f"{n} {status}" for status in FIRST if (n := progress.count(status)))
    left = "" if progress.left is None else f"; about {duration(progress.left)} left"
    hidden = len(progress.jobs) - len(shown)
    left_out = ", ".join(column.heading for index, column in enumerate(columns) if index not in widths)
    below = [*[f"and {hidden} more"] * bool(hidden), *[f"no room for {left_out}"] * bool(left_out)]
    parts: list[RenderableType] = [_line(f"{counts}{left}"), drawn(_columns(progress.swept, shown, encoding), widths)]
    return Group(*parts, *[_line("; ".join(below))] * bool(below))


def _line(text: str) -> Text:
    return Text(text, "italic", no_wrap=True, overflow="ellipsis")


def _chosen(jobs: list[Job], most: int) -> list[Job]:
    """In grid order; those that are under way or need a look before those that are done or wait."""
    ranked = sorted(range(len(jobs)), key=lambda place: FIRST.index(jobs[place].run.status))
    return [jobs[place] for place in sorted(ranked[:most])]


def _columns(swept: list[str], jobs: list[Job], encoding: str) -> list[Column]:
    names = {key: [job.values[key] for job in jobs] for key in swept} or {"run": [job.run.name for job in jobs]}
    states = [job.run.status for job in jobs]
    numbers = {
        "epoch": [f"{job.done}/{job.epochs}" for job in jobs],
        "val acc": [NOTHING if job.accuracy is None else f"{job.accuracy:.4f}" for job in jobs],
        "time left": [NOTHING if job.left is None else duration(job.left) for job in jobs],
    }
    texts = {**names, "seed": [str(job.run.seed) for job in jobs]}
    return [
        *(Column(name, [printable(each, encoding) for each in cells], fold=False) for name, cells in texts.items()),
        Column("state", states, fold=False, styles=[COLORS[status] for status in states]),
        *(
            Column(name, [printable(each, encoding) for each in cells], True, fold=False)
            for name, cells in numbers.items()
        ),
    ]
