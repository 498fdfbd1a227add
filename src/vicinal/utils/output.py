"""Standard output and standard error that never stop the work: it continues when they cannot be written."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from vicinal.utils.escaping import visible

PATIENCE_SECONDS = 10.0
"""Longest wait of a training for the reader of its output: a pager that is not scrolled, a stopped ``tee``."""
CHUNK = 4096  # bytes per write. A pipe that is ready for writing takes as many at once on Linux.
SPELLED = {"±": "+-", "–": "-", "×": "x", "…": "...", "μ": "u", "σ": "s", "↑": "^", "↓": "v"}
"""Replacements for characters that the encoding of the terminal lacks; all others are written as escapes."""
ERRORS = "vicinal.spelled"


class _Steady(io.FileIO):
    """A file descriptor for writing that raises no error. Text that cannot be written is lost."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.label = name
        self.lost = ""
        self._stuck = False

    def write(self, data: Any, /) -> int:
        """Return the number of bytes of ``data`` that are written or lost; the caller writes the rest."""
        try:
            if self._ready():
                return super().write(memoryview(data)[:CHUNK]) or 0  # it may not block, and takes nothing now
        except OSError as error:
            self._lose(error.strerror or str(error))
        return memoryview(data).nbytes

    def _ready(self) -> bool:
        """Return whether the reader takes something; a training waits at most PATIENCE_SECONDS for it, once."""
        seconds = None if not _hurries else 0.0 if self._stuck else PATIENCE_SECONDS
        if not hasattr(select, "poll"):  # Windows
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        self._stuck = not poll.poll(None if seconds is None else 1000 * seconds)
        if self._stuck:
            self._lose(f"its reader took nothing for {PATIENCE_SECONDS:g} s")
        return not self._stuck

    def _lose(self, reason: str) -> None:
        self.lost = self.lost or f"{self.label} is incomplete since {time.strftime('%H:%M:%S')}: {reason}"


_streams: weakref.WeakSet[_Steady] = weakref.WeakSet()
_hurries = 0  # blocks of :func:`hurried` that are running


def steady() -> None:
    """Replace the standard streams of this process by some that raise no error, unless this has been done already.

    A stream that other code has replaced, to capture what is printed, stays. A closed standard stream becomes
    ``/dev/null``: else the next file to be opened would have its descriptor, and take what others print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    for number, name, label in ((1, "stdout", "standard output"), (2, "stderr", "standard error")):
        before: TextIO | None = getattr(sys, name)
        if before is getattr(sys, f"__{name}__"):
            if before:
                with suppress(OSError, ValueError):
                    before.flush()
            setattr(sys, name, stream(number, before.encoding if before else "utf-8", label))


def stream(descriptor: int, encoding: str, name: str) -> TextIO:
    """Open a descriptor, which stays open, as text whose writing raises no error; messages have the stream's `name`.

    Characters that the encoding lacks are spelled out: "+-" for "±".
    """
    raw = _Steady(descriptor, name)
    _streams.add(raw)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, ERRORS, line_buffering=True)


def lost() -> list[str]:
    """Return what could not be printed so far, one line per stream that is still in use."""
    return sorted(stream.lost for stream in _streams if stream.lost)


@contextmanager
def hurried() -> Iterator[None]:
    """Inside ``with``, wait at most PATIENCE_SECONDS for a reader that stands still."""
    global _hurries
    _hurries += 1
    try:
        yield
    finally:
        _hurries -= 1


def printable(text: str, encoding: str) -> str:
    """Return ``text`` as a stream of this encoding shows it, with escapes for what would control the terminal."""
    return visible(text).encode(encoding, ERRORS).decode(encoding)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(SPELLED.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text), error.end


codecs.register_error(ERRORS, _spell)
