"""A thread beside the training of a sweep that keeps the page and the terminal's table up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vicinal.live.page import render
from vicinal.live.progress import Progress, Watch
from vicinal.live.terminal import Effort, LiveTable
from vicinal.report.report import PAGE, RECORD, REPORT
from vicinal.runs import files
from vicinal.utils.output import hurried

log = logging.getLogger(__name__)

MIN_POLL_SECONDS = 1.0
"""Shortest time between two reads of the runs."""
MIN_PAGE_SECONDS = 3.0
"""Shortest time between two pages."""
MAX_PAGE_SECONDS = 10.0
"""Longest time between two pages: an older one says that it is no longer written."""


class Live:
    """Inside ``with``, the sweep's ``report/report.html`` grows, and a terminal shows a table of the jobs.

    Both are made from the folders of the runs, so it does not matter which processes train them. No error here stops
    the sweep.

    Args:
        sweep: its folder, with ``sweep.json``.
        epochs: {run id: number of epochs of the finished run}.
        waiting: ids of the runs that are to be trained.
    """

    def __init__(self, sweep: Path, epochs: Mapping[str, int], waiting: Collection[str]) -> None:
        self._watch = Watch(sweep, epochs, waiting)
        self.page = sweep / REPORT / PAGE
        self._table = LiveTable()
        self._undo = ExitStack()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)
        self._effort = Effort()
        self._written: tuple[object, float] = (None, 0.0)  # news and time of the last page

    def __enter__(self) -> Self:
        self._undo.enter_context(hurried())
        with self._harmless():
            self.page.parent.mkdir(parents=True, exist_ok=True)
            (self.page.parent / RECORD).unlink(missing_ok=True)  # it describes the page that is now replaced
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
                self._write(last, over=error is not None)  # else the report replaces it
        finally:
            self._table.__exit__(kind, error, traceback)
            self._undo.close()

    def _run(self) -> None:
        due = 0.0
        while not self._over.wait(self._table.pause):
            with self._harmless():
                self._table.forward()
                if time.monotonic() >= due:
                    due = time.monotonic() + MAX_PAGE_SECONDS  # if this fails
                    with self._effort.measured():
                        progress = self._watch.look()
                        self._table.show(progress)
                        self._write_news(progress)
                    due = time.monotonic() + max(MIN_POLL_SECONDS, self._effort.rest)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Log errors instead of raising them: the view of a sweep must not end it."""
        try:
            yield
        except OSError as problem:  # the training reports a full disk
            log.debug("%s", problem)
        except Exception as problem:
            log.warning("the sweep's page cannot be kept up to date: %s: %s", type(problem).__name__, problem)

    def _write_news(self, progress: Progress) -> None:
        """Write the page if there is news, but not too often."""
        before, at = self._written
        age = time.monotonic() - at
        if age >= MAX_PAGE_SECONDS - MIN_POLL_SECONDS or (age >= MIN_PAGE_SECONDS and _news(progress) != before):
            self._write(progress)

    def _write(self, progress: Progress, over: bool = False) -> None:
        if self.page.parent.is_symlink():  # the report will refuse it
            return
        text = render(progress, self.page, max(MAX_PAGE_SECONDS, 2 * self._effort.rest), over)
        files.write(self.page, text.encode(), durable=False)
        self._written = _news(progress), time.monotonic()


def _news(progress: Progress) -> object:
    return [(job.run.status, job.run.error, job.done) for job in progress.jobs]
