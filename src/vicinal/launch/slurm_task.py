"""What a job of Slurm does: some runs of a sweep, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydra.core.utils import JobReturn

from vicinal.launch.worker import posted
from vicinal.runs.heartbeat import TakenOverError


@dataclass
class Task:
    """Runs of a sweep, each by its number and words, which ``run`` takes. Submitit pickles it."""

    run: Callable[[int, list[str]], JobReturn]
    jobs: list[tuple[int, list[str]]]

    def __call__(self) -> list[JobReturn]:
        return [posted(self._done(number, words)) for number, words in self.jobs]

    def _done(self, number: int, words: list[str]) -> JobReturn:
        done = self.run(number, words)
        if isinstance(done._return_value, TakenOverError):  # the job may have been put back into the queue
            raise SystemExit(f"error: {done._return_value}")  # and its result is that of its next start
        return done

    def checkpoint(self) -> Any:
        """Return the same again, for a job that is put back into the queue: its runs go on from their checkpoints."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)
