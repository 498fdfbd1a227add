"""Save training at intervals, and when the process is asked to stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicinal.config.keys import BILLION
from vicinal.errors import ConfigError
from vicinal.runs.signals import GracefulShutdown, StoppedEarly
from vicinal.training.state import TrainState
from vicinal.training.world import ALONE, World


@dataclass(frozen=True)
class Interval:
    """A number of epochs or of steps; at most one of the two is not 0."""

    epochs: int = 0
    steps: int = 0

    @classmethod
    def parse(cls, value: int | str) -> Interval:
        """Parse ``trainer.checkpoint_every``: 2 is every other epoch, ``200steps`` every 200 steps.

        Raises ConfigError: it is neither.
        """
        match = re.fullmatch(r"([0-9]{1,10})(epochs?|steps?)?", str(value).replace(" ", ""))
        if not match or not 1 <= int(match[1]) <= BILLION:
            allowed = f"must be an integer in [1, {BILLION}], of epochs, or of steps: 200steps"
            raise ConfigError("trainer.checkpoint_every", value, allowed)
        number = int(match[1])
        return cls(steps=number) if (match[2] or "").startswith("step") else cls(epochs=number)


Stop = Callable[[Sequence[Mapping[str, Any]]], str | None]
"""Says, from the rows of the epochs so far, why a training is to end before the next one; None for to go on."""


class Checkpointer:
    """Save a running training at intervals, at the end of its ``epochs``, and at a shutdown, by calling ``save``.

    Before the training is left, ``wait`` is called, which returns once what was saved is on the disk.
    ``stop`` is asked by the first process of a run before each epoch whether there is to be one.
    """

    def __init__(
        self,
        save: Callable[[TrainState], None],
        every: Interval,
        epochs: int,
        shutdown: GracefulShutdown,
        world: World = ALONE,
        stop: Stop | None = None,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._save, self._every, self._epochs, self._shutdown, self._world = save, every, epochs, shutdown, world
        self._stop, self._wait = stop, wait
        self._steps = 0  # since the last checkpoint

    def before_epoch(self, training: TrainState) -> None:
        """Save and raise :class:`StoppedEarly` if the training is not worth another epoch.

        In a resumed training the same is asked again, in case its process was killed before it could tell.
        """
        if self._stop is None or training.steps:
            return
        first = self._world.rank == 0
        if (reason := self._world.first(self._stop(training.history.rows) if first else None)) is not None:
            self.save(training)
            self._wait()
            raise StoppedEarly(reason)

    def after_step(self, training: TrainState) -> None:
        """Save a training after a step if it is time. Raises as :meth:`check` does."""
        self._steps += 1
        if self._steps == self._every.steps:
            self.save(training)
        self.check(training)

    def after_epoch(self, training: TrainState) -> None:
        """Save a training after an epoch, its row included, if it is time."""
        done = training.epoch - 1
        if done == self._epochs or (self._every.epochs and done % self._every.epochs == 0):
            self.save(training)

    def check(self, training: TrainState) -> None:
        """Save and raise :class:`Interrupted` if a process of the run was asked to stop."""
        if self._shutdown.agree(self._world.largest):
            self.save(training)
            self._wait()
            self._shutdown.check()

    def save(self, training: TrainState) -> None:
        """Save the training as it is now."""
        self._save(training)
        self._steps = 0
