"""A sweep while it runs: a thread beside the training keeps the page and the terminal's table up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vicinal.live.page import render
from vicinal.live.progress import Progress, Watch
from vicinal.live.terminal import SHARE, LiveTable
from vicinal.report.report import PAGE, RECORD, REPORT
from vicinal.runs import files
from vicinal.utils.output import hurried

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the runs, at least."""
WRITE = 3.0
"""Seconds between two pages, at least."""
EVERY = 10.0
"""Seconds between two pages, at most: one that is older says that nobody writes it any more."""


class Live:
    """Inside ``with``, the sweep's ``report/report.html`` grows, and a terminal shows a table of the jobs.

    What is shown is read from the folders of the runs, so it does not matter which process trains them, and where.
    Nothing that goes wrong here stops the sweep.

    Args:
        sweep: its folder, with ``sweep.json``.
        epochs: {run id: number} that the runs will have.
        waiting: ids of the runs that are to be trained.
    """

    def __init__(self, sweep: Path, epochs: Mapping[str, int], waiting: Collection[str]) -> None:
        self._watch = Watch(sweep, epochs, waiting)
        self.page = sweep / REPORT / PAGE
        self._table = LiveTable()
        self._undo = ExitStack()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)
        self._costs: deque[float] = deque((0.0, 0.0), maxlen=3)
        self._written: tuple[object, float] = (None, 0.0)

    def __enter__(self) -> Self:
        self._undo.enter_context(hurried())
        with self._harmless():
            self.page.parent.mkdir(parents=True, exist_ok=True)
            (self.page.parent / RECORD).unlink(missing_ok=True)  # it speaks for the page that is now replaced
            self._write(self._watch.look())
            log.info("follow it in a browser: %s", self.page)
        with self._harmless():
            self._table.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            self._thread.join()
            with self._harmless():
                last = self._watch.look(over=True)
                self._table.show(last)
                self._write(last, over=error is not None)  # else the report follows, and who follows the page waits
        finally:
            self._table.__exit__(kind, error, traceback)
            self._undo.close()

    def _run(self) -> None:
        due = 0.0
        while not self._over.wait(self._table.pause):
            with self._harmless():
                self._table.forward()
                if time.monotonic() >= due:
                    due = time.monotonic() + EVERY  # if this fails
                    began = time.thread_time()
                    progress = self._watch.look()
                    self._table.show(progress)
                    self._consider(progress)
                    self._costs.append(time.thread_time() - began)
                    due = time.monotonic() + max(LOOK, self._rest)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """A sweep of days is not to end for a picture of it."""
        try:
            yield
        except OSError as problem:  # a full disk is for the training to name
            log.debug("%s", problem)
        except Exception as problem:
            log.warning("the sweep's page cannot be kept up to date: %s: %s", type(problem).__name__, problem)

    @property
    def _rest(self) -> float:
        """Seconds that a look has to be followed by, by what looks cost; not what a first import costs once."""
        return SHARE * min(self._costs)

    def _consider(self, progress: Progress) -> None:
        """Write the page if there is news, but not too often."""
        before, at = self._written
        age = time.monotonic() - at
        if age >= EVERY - LOOK or (age >= WRITE and _news(progress) != before):
            self._write(progress)

    def _write(self, progress: Progress, over: bool = False) -> None:
        if self.page.parent.is_symlink():  # the report, which follows, says so
            return
        text = render(progress, self.page, max(EVERY, 2 * self._rest), over)
        files.write(self.page, text.encode(), durable=False)
        self._written = _news(progress), time.monotonic()


def _news(progress: Progress) -> object:
    return [(job.run.status, job.run.error, job.done) for job in progress.jobs]
