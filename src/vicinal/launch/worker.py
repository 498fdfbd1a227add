"""The side of a parallel sweep's workers: one job after another, plain lines, and an end that saves."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from vicinal.errors import UserError
from vicinal.runs.signals import leave_an_import
from vicinal.utils import output

LOOK_SECONDS = 0.1
"""Between two looks at whether the job has saved, when the process that gives out the jobs has died."""
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


def serve(pipe: Connection, setup: bytes, out: int, errors: int) -> None:
    """A worker's life: one job after the other, until the pipe ends, or the first after it was asked to stop.

    Args:
        pipe: gives for each job what begins the lines of its output, and its arguments; takes what came of it.
        setup: the environment, what a job is, and its threads where ``trainer.threads`` is auto; pickled.
        out: descriptor for standard output, that of the process that gives out the jobs.
        errors: descriptor for standard error of that process.
    """
    from vicinal.tracking.wandb import client

    _begin()
    for ours, theirs in ((1, out), (2, errors)):  # this process was forked from one that is older than the live table
        os.dup2(theirs, ours)
        os.close(theirs)
    output.steady()
    environment, job, threads = pickle.loads(setup)
    os.environ.clear()  # that of the process that this one was forked from may be older
    os.environ.update(environment)
    try:
        with suppress(EOFError, OSError):  # nobody gives out jobs any more
            while not _State.stopping:
                label, arguments = pipe.recv()
                pipe.send(work(job, label, threads, *arguments))
    finally:
        client.close()


def _begin() -> None:
    _State.packed = True
    for name in OTHERS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_watch, name="parent-watch", daemon=True).start()
    os.setpgid(0, 0)  # last: it tells the parent that a signal finds somebody who saves


def begun(pid: int) -> bool:
    """Whether a worker has begun to live, and so can be asked to stop."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _stop(signum: int, frame: FrameType | None) -> None:
    first, _State.stopping = not _State.stopping, True
    if first and _State.busy:
        leave_an_import(signum, frame)
        raise SystemExit(128 + signum)


def _watch() -> None:
    """Leave, after the job has saved, when the parent has died without a word."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    while _State.busy:
        time.sleep(LOOK_SECONDS)
    os._exit(128 + signal.SIGTERM)


def work(job: Callable[..., JobReturn], label: str, threads: int, *arguments: Any) -> JobReturn | Exception:
    """Do one job; nothing that goes wrong in it is raised.

    Args:
        job: what to call.
        label: begins every line of its output.
        threads: at most, where ``trainer.threads`` is auto.
        *arguments: of the job.

    Returns:
        What can be sent to another process; an exception, if Hydra could not even begin. A job that was stopped has
        failed with :class:`StoppedError`.
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
    except Exception as error:
        return stopped if _State.stopping else _sendable(error)
    finally:
        _State.busy = False
    if _State.stopping and done.status == JobStatus.FAILED:
        return stopped  # a library that was interrupted at a bad moment may have made an error of it
    done.cfg = done.hydra_cfg = None  # large, and the parent has its own
    if done.status == JobStatus.FAILED:
        done._return_value = _sendable(done._return_value)
    return done


def _sendable(error: Exception) -> Exception:
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

    def fileno(self) -> int:
        return int(self._out.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._out.encoding)
