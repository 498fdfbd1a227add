"""A thread beside the training of a sweep that keeps the page and the terminal's table up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vicinal.live.page import render
from vicinal.live.progress import Progress, Watch
from vicinal.live.terminal import Effort, LiveTable
from vicinal.report.report import PAGE, RECORD, REPORT
from vicinal.runs import files
from vicinal.utils.output import hurried

log = logging.getLogger(__name__)

MIN_POLL_SECONDS = 1.0  # shortest time between two reads of the runs
MIN_PAGE_SECONDS = 3.0  # shortest time between two pages
MAX_PAGE_SECONDS = 10.0  # longest time between two pages: an older one says that it is no longer written


class Live:
    """The views of a running sweep, made from the folders of its runs: it does not matter which processes train them.

    No error here stops the sweep. `epochs` has the number of epochs that each run is to have, by its id, and `waiting`
    the ids of the runs that are to be trained.
    """

    def __init__(self, sweep: Path, epochs: Mapping[str, int], waiting: Collection[str]) -> None:
        self._watch = Watch(sweep, epochs, waiting)
        self.page = sweep / REPORT / PAGE
        self._table = LiveTable()
        self._ended = threading.Event()
        self._effort = Effort()
        self._news: object = None  # in the last page
        self._written = 0.0  # when the last page was

    @contextmanager
    def shown(self, again: bool = False) -> Iterator[None]:
        """Inside, the sweep's ``report/report.html`` grows, and a terminal shows a table of the jobs.

        ``again`` if the same command has said where the page is.
        """
        thread = threading.Thread(target=self._follow, name="live-page", daemon=True)
        over = True
        with hurried():
            with harmless():
                self.page.parent.mkdir(parents=True, exist_ok=True)
                (self.page.parent / RECORD).unlink(missing_ok=True)  # it describes the page that is now replaced
                self._write(self._watch.look())
                if not again:
                    log.info("follow it in a browser: %s", self.page)
            with harmless():
                self._table.start()
            thread.start()
            try:
                yield
                over = False  # the report replaces the page and the table
            finally:
                try:
                    self._end(thread, over)
                finally:
                    self._table.stop(erase=not over)

    def _end(self, thread: threading.Thread, over: bool) -> None:
        self._ended.set()
        thread.join()
        with harmless():
            last = self._watch.look(over=True)
            self._table.show(last)
            self._write(last, over)

    def _follow(self) -> None:
        due = 0.0
        while not self._ended.wait(self._table.pause):
            with harmless():
                self._table.forward()
                if time.monotonic() >= due:
                    due = time.monotonic() + MAX_PAGE_SECONDS  # if this fails
                    with self._effort.measured():
                        progress = self._watch.look()
                        self._table.show(progress)
                        self._write_news(progress)
                    due = time.monotonic() + max(MIN_POLL_SECONDS, self._effort.rest)

    def _write_news(self, progress: Progress) -> None:
        """Write the page if there is news, but not too often."""
        age = time.monotonic() - self._written
        if age >= MAX_PAGE_SECONDS - MIN_POLL_SECONDS or (age >= MIN_PAGE_SECONDS and _news(progress) != self._news):
            self._write(progress)

    def _write(self, progress: Progress, over: bool = False) -> None:
        if self.page.parent.is_symlink():  # the report will refuse it
            return
        text = render(progress, self.page, max(MAX_PAGE_SECONDS, 2 * self._effort.rest), over)
        files.write(self.page, text.encode(), durable=False)
        self._news, self._written = _news(progress), time.monotonic()


@contextmanager
def harmless() -> Iterator[None]:
    """Log errors instead of raising them: the view of a sweep must not end it."""
    try:
        yield
    except OSError as problem:  # the training reports a full disk
        log.debug("%s", problem)
    except Exception as problem:
        log.warning("the sweep's page cannot be kept up to date: %s: %s", type(problem).__name__, problem)


def _news(progress: Progress) -> object:
    return [(job.run.status, job.run.error, job.done) for job in progress.jobs]
