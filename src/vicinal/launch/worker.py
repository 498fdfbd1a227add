"""A worker process of a parallel sweep: one job after another, labelled lines, and an end that saves."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import redirect_stdout, suppress
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from vicinal.errors import UserError
from vicinal.runs.signals import leave_an_import
from vicinal.utils import output

POLL_SECONDS = 0.1  # time between two signals to a job that is to save
IGNORED = ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")  # the launching process answers them, and lets its workers save


class StoppedError(UserError):
    """The job was not done, because its worker was asked to stop."""


class Worker:
    """The work of a worker process between its start and its end.

    After SIGTERM it saves its current job, and leaves. It sends that signal to itself at the end of ``alive``: a pipe
    without data, which ends when the launching process closes it or dies. ``setup`` is the environment and the function
    that does a job, pickled; ``out`` and ``errors`` are the output files of the launching process.
    """

    def __init__(self, setup: bytes, alive: Connection, out: Connection, errors: Connection) -> None:
        from vicinal.tracking.wandb import client

        self._busy = self._stopping = False
        self._close = client.close
        for name in IGNORED:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._stop)
        for descriptor, file in ((1, out), (2, errors)):  # those of the fork server may be older than the live table
            os.dup2(file.fileno(), descriptor)
            file.close()
        output.steady()
        environment, self._job = pickle.loads(setup)
        os.environ.clear()  # that of the fork server may be older
        os.environ.update(environment)
        Finalize(None, self._close, exitpriority=1)
        threading.Thread(target=self._watch, args=(alive,), name="parent-watch", daemon=True).start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self._stopping = self._stopping, True
        if not self._busy:
            signal.signal(number, signal.SIG_IGN)
            self._close()
            os._exit(128 + number)  # an exception is a result to the executor, which would wait for the next job
        if not again:
            leave_an_import(number, frame)
            raise SystemExit(128 + number)

    def _watch(self, alive: Connection) -> None:
        with suppress(EOFError, OSError):
            alive.recv()
        while True:
            os.kill(os.getpid(), signal.SIGTERM)  # the job saves; after it, the process leaves
            time.sleep(POLL_SECONDS)

    def work(self, label: str, *arguments: Any) -> JobReturn:
        """Do one job, with the label before each line of its output; return what can be sent to another process.

        Errors of the job are in its return, StoppedError after a signal. Errors of Hydra from before it are raised.
        """
        stopped = JobReturn(status=JobStatus.FAILED, _return_value=StoppedError("the worker was asked to stop"))
        try:
            self._busy = True
            if self._stopping:
                return stopped
            with redirect_stdout(Lines(sys.stdout, label)):
                done: JobReturn = self._job(*arguments)
        except (KeyboardInterrupt, SystemExit):
            return stopped
        except Exception as error:
            if self._stopping:
                return stopped
            raise sendable(error) from None
        finally:
            self._busy = False
        if self._stopping and done.status == JobStatus.FAILED:
            return stopped  # a library that was interrupted at a bad moment may have made an error of it
        return posted(done)


_worker: Worker  # the worker that this process is: an executor's initializer has no other place for it


def begin(*setup: Any) -> None:
    """Make this process a worker; arguments are those of :class:`Worker`."""
    global _worker
    _worker = Worker(*setup)


def work(label: str, *arguments: Any) -> JobReturn:
    """Do one job in this worker; see :meth:`Worker.work`."""
    return _worker.work(label, *arguments)


def posted(done: JobReturn) -> JobReturn:
    """Return the outcome of a job as it can be sent to another process."""
    done.cfg = done.hydra_cfg = None  # large, and the launching process has its own
    if done.status == JobStatus.FAILED:
        done._return_value = sendable(done._return_value)
    return done


def sendable(error: Exception) -> Exception:
    """Return the error, or one with the same text if another process could not rebuild it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Lines(io.TextIOBase):
    """Standard output of one of several processes: whole lines with a label. It is no terminal, so it has no bars."""

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

    def fileno(self) -> int:
        return int(self._out.fileno())

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._out.encoding)
