"""The runs of a sweep as tasks of Ray, which are followed until all have ended, or cancelled so that they save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn

from vicinal.errors import UserError, first_line, reason_of
from vicinal.launch.ray_worker import Setup, work
from vicinal.runs.signals import GracefulShutdown

POLL_SECONDS = 1.0  # between two looks for tasks that have ended, and for signals

Call = tuple[str, int, list[str]]  # what names a run in the output, its number and its words


class Tasks(GracefulShutdown):
    """Inside ``with``, one task a run. After the first signal those that run save and leave, and no other begins.

    ``options`` are Ray's, such as ``num_cpus``.
    """

    def __init__(self, setup: Setup, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._setup, self._options = setup, options

    def do(self, calls: Sequence[Call]) -> Iterator[tuple[int, JobReturn | str]]:
        """Yield the place of each call and its outcome, or why it has none, as they end; after a signal, none more."""
        import ray

        task, setup = ray.remote(**self._options)(work), ray.put(self._setup)
        left = {
            task.options(name=name).remote(setup, number, words): place
            for place, (name, number, words) in enumerate(calls)
        }
        cancelled = False
        while left:
            ended, _ = ray.wait([*left], num_returns=len(left), timeout=POLL_SECONDS)
            if self.signal is not None and not cancelled:
                for one in reversed([*left]):  # those that wait have not begun when a core becomes free
                    ray.cancel(one)
                cancelled = True
            for one in ended:
                place = left.pop(one)
                if self.signal is None:
                    yield place, _outcome(ray, one)


def _outcome(ray: Any, task: Any) -> JobReturn | str:
    try:
        done: JobReturn = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # raised in the task
        cause = error.cause
        if isinstance(cause, UserError):
            return str(cause)
        return reason_of(cause)
    except ray.exceptions.TaskCancelledError:
        return "Ray: the task was cancelled"
    except ray.exceptions.RayError as error:
        return f"Ray: {first_line(error).partition('. ')[0].rstrip('.')}"  # the rest tells of files and processes
    return done
