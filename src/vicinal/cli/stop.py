"""Signals outside of a training: ``with`` blocks end, of W&B and of the progress bar, and then the process."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

from vicinal.runs.signals import leave_an_import, present


class Stop:
    """Handler of signals that raises. Within a training ``runs.signals.GracefulShutdown`` has them."""

    def __init__(self) -> None:
        self.number: int | None = None
        """Of the signal that has come."""

    def install(self) -> None:
        """Handle the signals that no program handles yet."""
        for number in present():
            before = signal.getsignal(number)
            if isinstance(before, Stop) or before in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        leave_an_import(number, frame)
        self.number = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)


def leave_if_stopped() -> None:
    """Leave if a signal has come: a library that it interrupted may have made an error of the exception."""
    for handler in map(signal.getsignal, present()):
        if isinstance(handler, Stop) and handler.number is not None:
            sys.exit(128 + handler.number)
