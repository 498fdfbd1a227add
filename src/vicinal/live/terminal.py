"""The jobs of a running sweep in the terminal: one table that stays below everything else that is printed."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from rich.console import Console, Group
from rich.text import Text

from vicinal.live.pinned import Pinned
from vicinal.live.progress import Job, Progress
from vicinal.report.widths import Column, drawn, fit
from vicinal.utils.durations import duration
from vicinal.utils.output import printable, stream

NOTHING = "–"
COLORS = {"running": "cyan", "failed": "red", "stopped": "yellow", "planned": "", "completed": "green"}
"""{status: colour}. Where there is no room for all jobs, those of the first statuses are shown."""
STATUSES = list(COLORS)
FRAME_LINES = 6
"""Lines besides the jobs and the headings: the title, three rules, the caption, and the line of the cursor."""
MIN_PAUSE_SECONDS = 0.2  # shortest time between two copies of what was printed to the terminal
REST_PER_WORK = 200
"""Rest that follows work beside the training, as a multiple of its processor time: it costs at most 0.5 %."""


class Effort:
    """Processor time of repeated work beside the training."""

    def __init__(self) -> None:
        self._costs = deque((0.0, 0.0), maxlen=3)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the work inside ``with``."""
        began = time.thread_time()
        yield
        self._costs.append(time.thread_time() - began)

    @property
    def rest(self) -> float:
        """Seconds to rest; a single expensive run, such as one with a first import, does not count."""
        return REST_PER_WORK * min(self._costs)


class LiveTable:
    """A table, if standard output is a terminal; else nothing.

    Several processes print, some of them not through Python, and each line would cut the table in two. So their output
    goes to a file, from which it is copied to above the table. A file, not a pipe, so that writers never block on the
    process that copies, and do not get SIGPIPE when it ends.
    """

    def __init__(self) -> None:
        self._pinned: Pinned | None = None
        self._block: Callable[[int, int], Group | str] = lambda width, height: ""
        self._lines: IO[bytes]
        self._rest = ""
        self._effort = Effort()
        self._undo = ExitStack()

    @property
    def pause(self) -> float:
        """Seconds between two calls of :meth:`forward`, each of which may draw the table."""
        return max(MIN_PAUSE_SECONDS, self._effort.rest) if self._pinned else 1.0

    def start(self) -> None:
        if sys.stdout.isatty():
            with ExitStack() as undo:
                console = Console(file=self._redirect(undo))
                if console.is_interactive:
                    self._pinned = Pinned(console)
                    self._undo = undo.pop_all()

    def stop(self, erase: bool) -> None:
        """Print all that has been written, and leave the table below it or erase it."""
        with self._undo:
            self.forward(whole=False)
            if erase and self._pinned:
                self._pinned.erase()

    def show(self, progress: Progress) -> None:
        if self._pinned:
            self._block = partial(table, progress, encoding=self._pinned.encoding)
            self._pinned.draw(self._block)

    def forward(self, whole: bool = True) -> None:
        """Print above the table what has been written since the last call; ``whole`` lines only, or all."""
        if self._pinned is None:
            return
        text = self._rest + self._lines.read().decode(errors="replace")
        end = text.rfind("\n") + 1 if whole else len(text)
        text, self._rest = text[:end], text[end:]
        if text or self._pinned.resized():
            with self._effort.measured():
                self._pinned.draw(self._block, text.removesuffix("\n").split("\n") if text else [])

    def _redirect(self, undo: ExitStack) -> IO[str]:
        """Redirect the output of this process and its children to a file, and return the terminal."""
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-")))
        descriptor = os.open(folder / "printed", os.O_CREAT | os.O_WRONLY | os.O_APPEND)  # several processes write
        self._lines = undo.enter_context((folder / "printed").open("rb"))
        terminal = os.dup(1)
        undo.callback(os.close, terminal)
        for standard, number in ((sys.stdout, 1), (sys.stderr, 2)):
            if os.isatty(number):
                standard.flush()
                kept = os.dup(number)
                os.dup2(descriptor, number)
                undo.callback(os.close, kept)
                undo.callback(os.dup2, kept, number)
                undo.callback(standard.flush)
        os.close(descriptor)
        return stream(terminal, sys.stdout.encoding, "the terminal")


def table(progress: Progress, width: int, height: int, encoding: str = "utf-8") -> Group:
    """Return the jobs as a table, one line per job.

    Columns that do not fit into the width of the terminal are left out and named below the table. If not all jobs fit
    into its height, those that need attention are shown.
    """
    candidates = _most_urgent(progress.jobs, max(1, height - FRAME_LINES - 1))  # of a large sweep, only so many fit
    columns, spare = _columns(progress, candidates, encoding)
    widths = fit(columns, width, spare)
    heading_lines = max(len(columns[index].folded(width)) for index, width in widths.items())
    shown = _most_urgent(candidates, max(1, height - FRAME_LINES - heading_lines))
    counts = ", ".join(f"{n} {status}" for status in STATUSES if (n := progress.count(status)))
    left = "" if progress.left is None else f"; about {duration(progress.left)} left"
    hidden = len(progress.jobs) - len(shown)
    left_out = ", ".join(column.heading for index, column in enumerate(columns) if index not in widths)
    below = [*[f"and {hidden} more"] * bool(hidden), *[f"no room for {left_out}"] * bool(left_out)]
    body = drawn(_columns(progress, shown, encoding)[0], widths)
    return Group(_line(f"{counts}{left}"), body, *[_line("; ".join(below))] * bool(below))


def _line(text: str) -> Text:
    return Text(text, "italic", no_wrap=True, overflow="ellipsis")


def _most_urgent(jobs: list[Job], most: int) -> list[Job]:
    """Return at most this many jobs, those of the first STATUSES, in grid order."""
    ranked = sorted(range(len(jobs)), key=lambda place: STATUSES.index(jobs[place].run.status))
    return [jobs[place] for place in sorted(ranked[:most])]


def _columns(progress: Progress, jobs: list[Job], encoding: str) -> tuple[list[Column], list[str]]:
    """Return the columns, and the headings of those to be left out first where there is no room."""
    texts = {key: [job.values[key] for job in jobs] for key in progress.swept} or {
        "run": [job.run.name for job in jobs]
    }
    texts |= {"seed": [str(job.run.seed) for job in jobs], "state": [job.state for job in jobs]}
    numbers = {
        "epoch": [f"{job.done}/{job.epochs}" for job in jobs],
        f"val {progress.metric.short or progress.metric.title}": [
            NOTHING if job.score is None else f"{job.score:.4f}" for job in jobs
        ],
        "time left": [NOTHING if job.left is None else duration(job.left) for job in jobs],
    }
    columns = []
    for heading, cells in {**texts, **numbers}.items():
        styled = [
            Text(printable(cell, encoding), COLORS.get(cell.partition(" ")[0], "") if heading == "state" else "")
            for cell in cells
        ]
        columns.append(Column(printable(heading, encoding), styled, number=heading in numbers, fold=False))
    return columns, [*reversed(numbers), *reversed(progress.swept[1:]), "seed"]
