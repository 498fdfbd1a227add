"""Start and stop the worker processes of a parallel sweep, and give them jobs.

They are forked from a server that has imported torch (``cli/worker_preload.py``), and in which no thread runs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from types import FrameType, TracebackType
from typing import Any

from hydra.core.utils import JobReturn

from vicinal.errors import UserError
from vicinal.launch.worker import StoppedError, begin, work
from vicinal.runs.signals import GracefulShutdown, present

FORKS = multiprocessing.get_context("forkserver")
RESUME = "rerun the same command to resume"

Call = tuple[str, tuple[Any, ...]]  # label of the lines of a job's output, and the job's arguments


def warm_up() -> None:
    """Start the server that workers are forked from; it imports what they need while this process does other work."""
    forkserver.set_forkserver_preload(["vicinal.cli.worker_preload"])
    resource_tracker.ensure_running()  # else it is started in between, and lets signals through again
    safe = os.environ.get("PYTHONSAFEPATH")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, present())  # until the server ignores them: a Ctrl-C is for all
    os.environ["PYTHONSAFEPATH"] = "1"  # the server has the path of this process, not the folder it is in
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.environ.pop("PYTHONSAFEPATH")
        if safe is not None:
            os.environ["PYTHONSAFEPATH"] = safe


class Workers(GracefulShutdown):
    """Inside ``with``, ``count`` processes that do one job after another; at its end they are gone.

    After the first signal, or an exception, each saves its current job, and leaves. A second Ctrl-C kills them. ``job``
    is called with the arguments of each call, and ``environment`` are the variables of the processes.
    """

    def __init__(self, count: int, job: Callable[..., JobReturn], environment: Mapping[str, str]) -> None:
        import cloudpickle  # Hydra's resolvers are functions inside functions

        super().__init__()
        setup = cloudpickle.dumps((dict(environment), job))
        listens, self._alive = FORKS.Pipe(duplex=False)
        files = (Connection(os.dup(descriptor), readable=False) for descriptor in (1, 2))  # what can be sent of a file
        self._pool = ProcessPoolExecutor(count, FORKS, begin, (setup, listens, *files))

    def do(self, calls: Sequence[Call]) -> list[JobReturn]:
        """Do all calls, each by a free worker, and return what they return, in order; after a signal, those done.

        Raises UserError if a worker was killed in a job, or was asked by another process to stop; and errors of Hydra
        from before a job. An error of the job itself is in its return.
        """
        done: dict[int, JobReturn] = {}
        try:
            futures = {
                self._pool.submit(work, label, *arguments): number
                for number, (label, arguments) in enumerate(calls)
                if self.signal is None
            }
            for future in as_completed(futures):
                if self.signal is not None:
                    break
                result = future.result()
                if isinstance(result._return_value, StoppedError) and self.signal is None:
                    raise UserError(f"a worker was asked to stop; {RESUME}")
                done[futures[future]] = result
        except BrokenProcessPool:
            if self.signal is None:
                reason = "perhaps because memory ran out; fewer hydra.launcher.n_jobs need less"
                raise UserError(f"a worker was killed, {reason}; {RESUME}") from None
        return [done[number] for number in sorted(done)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._alive.close()
            if isinstance(error, KeyboardInterrupt):
                _kill()
            self._pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            _kill()
            self._pool.shutdown()
            raise
        finally:
            self._alive.close()
            super().__exit__(kind, error, traceback)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        super()._remember(number, frame)
        self._alive.close()  # each worker saves the job that it is at


def _kill() -> None:
    for process in multiprocessing.active_children():
        process.kill()
