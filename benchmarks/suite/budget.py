"""A limit in seconds for a measurement: an alarm in the main thread, which the measured code does not catch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

AGAIN_SECONDS = 10.0
"""Between two alarms: a library may swallow one where Python calls it from a callback."""


class OutOfTime(BaseException):
    """The budget is used up. Like KeyboardInterrupt it is no error, and not for ``except Exception``."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the main thread once ``seconds`` have passed inside, until it is noticed.

    Args:
        seconds: > 0; None is no limit.
    """
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        while True:  # an alarm may come right here
            try:
                noticed()
                signal.signal(signal.SIGALRM, before)
                break
            except OutOfTime:
                continue


def noticed() -> None:
    """Stop the alarm, since cleaning up follows."""
    signal.setitimer(signal.ITIMER_REAL, 0)
