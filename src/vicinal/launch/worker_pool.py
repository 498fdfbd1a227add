"""Worker processes of a parallel sweep, as the process sees them that gives out the jobs.

They are forked from one that has imported torch once for all (``cli/worker_preload.py``). No thread runs in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection, forkserver, reduction, resource_tracker
from multiprocessing.context import ForkServerProcess
from types import FrameType, TracebackType
from typing import Any, Self

from hydra.core.utils import JobReturn

from vicinal.errors import UserError
from vicinal.launch.worker import StoppedError, begun, serve
from vicinal.runs.signals import GracefulShutdown, present

FORKS = multiprocessing.get_context("forkserver")
LOOK_SECONDS = 0.05
"""Between two looks at whether a worker that is starting can be asked to stop."""

Call = tuple[str, tuple[Any, ...]]
"""What begins the lines of a job's output, and its arguments."""


def warm_up() -> None:
    """Start the process that workers are forked from; it imports what they need while this one goes on."""
    forkserver.set_forkserver_preload(["vicinal.cli.worker_preload"])
    resource_tracker.ensure_running()  # else it is started in between, and lets signals through again
    safe = os.environ.get("PYTHONSAFEPATH")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, present())  # until it ignores them: a Ctrl-C is for all
    os.environ["PYTHONSAFEPATH"] = "1"  # it has the path of this process, not the folder it is in
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.environ.pop("PYTHONSAFEPATH")
        if safe is not None:
            os.environ["PYTHONSAFEPATH"] = safe


class _Sent:
    """A file descriptor of this process, as an argument of one that is being started: there it is a number."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _received, (reduction.DupFd(self._descriptor),)


def _received(descriptor: Any) -> int:
    return int(descriptor.detach())


class Workers(GracefulShutdown):
    """Inside ``with``, processes that do one job after the other; at its end they are gone.

    The first signal is handed on to all of them, and each saves what it is at; after an exception they are asked to do
    the same. A second Ctrl-C kills them.

    Args:
        count: of the processes.
        job: what they do, called with the arguments of each call.
        threads: at most, of a job whose ``trainer.threads`` is auto.
    """

    def __init__(self, count: int, job: Callable[..., JobReturn], threads: int) -> None:
        import cloudpickle  # Hydra's resolvers are functions inside functions

        super().__init__()
        self._count, self._setup = count, cloudpickle.dumps((dict(os.environ), job, threads))
        self._workers: dict[connection.Connection, ForkServerProcess] = {}
        self._over = threading.Event()

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            for _ in range(self._count):
                ours, theirs = FORKS.Pipe()
                process = FORKS.Process(target=serve, args=(theirs, self._setup, _Sent(1), _Sent(2)))
                process.start()
                theirs.close()  # the worker's own is then the last, and its end that of the pipe
                self._workers[ours] = process
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def do(self, calls: Sequence[Call]) -> list[JobReturn]:
        """Do all, each by whoever is free.

        Returns:
            What came of each, in their order; after a signal, of those that were begun.

        Raises:
            UserError: a worker has ended in the middle of a job, or somebody has asked it alone to stop.
            Exception: what has kept Hydra from beginning one; what the job itself raises is in its return.
        """
        waiting = iter(enumerate(calls))
        busy: dict[connection.Connection, int] = {}
        done: dict[int, JobReturn] = {}
        idle = list(self._workers)
        while True:
            while idle and self.signal is None and (following := next(waiting, None)):
                pipe = idle.pop()
                busy[pipe], call = following
                with suppress(OSError):  # it has ended, which the next look shows
                    pipe.send(call)
            if not busy:
                return [done[number] for number in sorted(done)]
            ready = connection.wait(busy)
            for pipe in [each for each in busy if each in ready]:
                number = busy.pop(pipe)
                try:
                    came = pipe.recv()
                except (EOFError, OSError):
                    if self.signal is not None:
                        continue
                    raise UserError(
                        "a worker was killed, perhaps because memory ran out; fewer hydra.launcher.n_jobs need less; "
                        "rerun the same command to resume"
                    ) from None
                if isinstance(came, Exception):
                    raise came
                if self.signal is None and isinstance(came._return_value, StoppedError):
                    raise UserError("a worker was asked to stop; rerun the same command to resume")
                done[number] = came
                idle.append(pipe)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for pipe in self._workers:
                pipe.close()  # who waits for a job leaves
            if isinstance(error, Exception) and self.signal is None:
                self._stop()
            self._join(killed=isinstance(error, KeyboardInterrupt))
        except KeyboardInterrupt:
            self._join(killed=True)
            raise
        finally:
            self._over.set()
            super().__exit__(kind, error, traceback)

    def _join(self, killed: bool) -> None:
        for process in self._workers.values():
            if killed:
                process.kill()
            process.join()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        first = self.signal is None
        super()._remember(number, frame)
        if first:
            self._stop()

    def _stop(self) -> None:
        threading.Thread(target=self._ask, name="stop-workers", daemon=True).start()

    def _ask(self) -> None:
        """Each worker once to save and stop; those that are only starting as soon as they can."""
        asked: set[ForkServerProcess] = set()
        while not self._over.wait(LOOK_SECONDS):
            for process in {*self._workers.values()} - asked:
                if process.pid is not None and begun(process.pid):
                    asked.add(process)
                    process.terminate()
