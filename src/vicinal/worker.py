"""The side of a parallel sweep's workers: one job after another, plain lines, and an end that saves."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from vicinal.errors import UserError

WATCH_SECONDS = 1.0
"""Between two looks at whether the process that gives out the jobs is still there."""
OTHERS = ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals that the process that gives out the jobs answers for all: it sends its workers SIGTERM."""


class StoppedError(UserError):
    """The job was not done, because its worker was asked to stop."""


class _State:
    packed = False
    busy = False
    stopping = False


def packed() -> bool:
    """Whether this process is a worker: other jobs of the sweep run beside its own."""
    return _State.packed


def begin(parent: int) -> None:
    """Called once in a new worker.

    Args:
        parent: process id of who gives out the jobs.
    """
    _State.packed = True
    for name in OTHERS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    os.setpgid(0, 0)  # last: it tells the parent that a signal finds somebody who saves


def begun(pid: int) -> bool:
    """Whether a worker has been through :func:`begin`, and so can be asked to stop."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _stop(signum: int, frame: FrameType | None) -> None:
    _State.stopping = True
    if _State.busy:
        raise SystemExit(128 + signum)


def _watch(parent: int) -> None:
    """Leave, after the job has saved, when the parent has died without a word."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    while _State.busy:
        time.sleep(WATCH_SECONDS / 10)
    os._exit(128 + signal.SIGTERM)


def work(job: Callable[..., JobReturn], label: str, threads: int, *arguments: Any) -> JobReturn:
    """Do one job.

    Args:
        job: what to call.
        label: begins every line of its output.
        threads: where ``trainer.threads`` is auto.
        *arguments: of the job.

    Returns:
        What can be sent to another process. A job that was stopped has failed with :class:`StoppedError`.
    """
    stopped = JobReturn(status=JobStatus.FAILED, _return_value=StoppedError("the worker was asked to stop"))
    try:
        _State.busy = True
        if _State.stopping:
            return stopped
        from vicinal.training import hardware

        hardware.AUTO_THREADS = threads
        with _labelled(label):
            done = job(*arguments)
    except (KeyboardInterrupt, SystemExit):
        return stopped
    finally:
        _State.busy = False
    if _State.stopping and done.status == JobStatus.FAILED:
        return stopped  # a library that was interrupted at a bad moment may have made an error of it
    done.cfg = done.hydra_cfg = None  # large, and the parent has its own
    if done.status == JobStatus.FAILED:
        done._return_value = _sendable(done._return_value)
    return done


def _sendable(error: BaseException) -> BaseException:
    """An exception that another process can read; many cannot be rebuilt from their text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _labelled(label: str) -> Iterator[None]:
    out = sys.stdout
    sys.stdout = Lines(out, label)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = out


class Lines(io.TextIOBase):
    """Standard output of one of several processes: whole lines, each with a label, and never a terminal.

    So lines of different jobs do not run into each other, and nobody draws a progress bar.
    """

    def __init__(self, out: Any, label: str) -> None:
        self._out, self._label, self._rest = out, label, ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if lines:
                self._out.write("".join(f"{self._label}{line}\n" for line in lines))
                self._out.flush()
        return len(text)

    def flush(self) -> None:
        self._out.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._out.encoding)
