"""Defer signals that ask the process to stop until the running step has ended and everything is saved."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Ctrl-C; kill, and a job scheduler's cancel; a closed terminal; Slurm's ``--signal`` before the time is up."""


def present() -> list[signal.Signals]:
    """Return the signals among them that this system has."""
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def leave_an_import(number: int, frame: FrameType | None) -> None:
    """Exit at once, with 128 + signal, if the signal interrupted an import.

    Handlers that raise call this first: torch imports from C++, where an exception aborts the process.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            os._exit(128 + number)
        frame = frame.f_back


class Interrupted(BaseException):
    """Raised at a safe point after a signal. Like KeyboardInterrupt it is no Exception, since nothing has failed."""


class StoppedEarly(BaseException):
    """Raised between two epochs when a search has given a run up; its text says why. Everything is saved.

    Like :class:`Interrupted` it is no Exception, since nothing has failed.
    """


class GracefulShutdown:
    """Inside ``with``, remember the first signal; :meth:`check` raises :class:`Interrupted` from then on.

    At the end of ``with`` the previous handler gets the signal, such as a launcher that puts the job back into Slurm's
    queue. If that returns, the process exits with 128 + signal, even if the step has failed. A second Ctrl-C does not
    wait.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows no other to handle signals
            for number in present():
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # nohup, a background job of a script
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self.signal is not None and (error is None or isinstance(error, (Interrupted, StoppedEarly, Exception))):
            if isinstance(error, Exception):
                log.error("%s: not everything could be saved: %s", self.signal.name, error)
            before = self._before[self.signal]
            if callable(before):
                before(int(self.signal), None)
            sys.exit(128 + self.signal)

    def agree(self, largest: Callable[[int], int]) -> bool:
        """Return whether a process of the run has had a signal, which this one then has too.

        ``largest`` returns the largest of the numbers of all processes, which call this together.
        """
        if (number := largest(self.signal or 0)) and self.signal is None:
            self.signal = signal.Signals(number)
        return self.signal is not None

    def check(self) -> None:
        """Raise :class:`Interrupted` if there has been a signal; the caller has saved everything."""
        if self.signal is not None:
            log.warning("%s: everything is saved; rerun the same command to resume", self.signal.name)
            raise Interrupted

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)
            again = "; again: stop without saving" if number == signal.SIGINT else ""
            if not log.isEnabledFor(logging.WARNING):
                return
            # Not logged: the signal may have come in the middle of a line of the log.
            with suppress(OSError):  # the terminal may be closed
                os.write(2, f"{self.signal.name}: finishing the step and saving{again}\n".encode())
