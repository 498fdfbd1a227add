"""Do one piece of work at a time in a thread, while the caller goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType

log = logging.getLogger(__name__)


class Background(AbstractContextManager["Background"]):
    """Work in a thread that is waited for before the next piece, and at the end of ``with``.

    What the work raises is raised where it is waited for; it is logged, with the name of the work, where another
    exception ends the ``with``.
    """

    def __init__(self, name: str) -> None:
        self._name, self._pool = name, ThreadPoolExecutor(1)
        self._begun: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin some work once the last is done. Raises what the last has raised; then nothing is begun."""
        self.wait()
        self._begun = self._pool.submit(work)

    def wait(self) -> None:
        """Return once the work is done. Raises what it has raised, once."""
        if (begun := self._begun) is None:
            return
        try:
            begun.result()
        finally:
            if begun.done():  # else the wait itself was interrupted
                self._begun = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as late:
            if error is None:
                raise
            log.error("%s: %s", self._name, late)
        finally:
            self._pool.shutdown()
