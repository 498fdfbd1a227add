"""When a checkpoint is written: at its intervals, at the end, and when somebody asks the process to stop."""

import signal
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from vicinal.errors import ConfigError, written
from vicinal.runs.signals import GracefulShutdown, Interrupted, StoppedEarly
from vicinal.training.checkpointer import Checkpointer, Interval


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        (1, Interval(epochs=1)),
        (20, Interval(epochs=20)),
        ("2", Interval(epochs=2)),
        ("2epochs", Interval(epochs=2)),
        ("1 epoch", Interval(epochs=1)),
        ("200steps", Interval(steps=200)),
        ("1step", Interval(steps=1)),
        ("5 steps", Interval(steps=5)),
    ],
)
def test_interval(value: int | str, interval: Interval) -> None:
    assert Interval.parse(value) == interval


@pytest.mark.parametrize("value", [0, -1, "0steps", "", "steps", "1.5", "-2steps", "2hours", "2stepss", "2e3", "1\n2"])
def test_what_is_no_interval(value: int | str) -> None:
    with pytest.raises(ConfigError) as refused:
        Interval.parse(value)
    allowed = "must be an integer in [1, 1000000000], of epochs, or of steps: 200steps"
    assert str(refused.value) == f"trainer.checkpoint_every={written(value)}: {allowed}"


class Run:
    """Nine steps in three epochs, and where in them it was saved: (epochs done, steps in all)."""

    def __init__(self, every: Interval, epochs: int = 3) -> None:
        self.training: Any = SimpleNamespace(epoch=1)
        self.shutdown = GracefulShutdown()
        self.steps = 0
        self.saved: list[tuple[int, int]] = []
        self.checkpointer = Checkpointer(self.save, every, epochs, self.shutdown)

    def save(self, training: Any) -> None:
        assert training is self.training
        self.saved.append((training.epoch - 1, self.steps))

    def go(self, epochs: int = 3) -> "Run":
        for _ in range(epochs):
            for _ in range(3):
                self.steps += 1
                self.checkpointer.after_step(self.training)
            self.training.epoch += 1
            self.checkpointer.after_epoch(self.training)
        return self


@pytest.mark.parametrize(
    ("every", "saved"),
    [
        (Interval(epochs=1), [(1, 3), (2, 6), (3, 9)]),
        (Interval(epochs=2), [(2, 6), (3, 9)]),
        (Interval(epochs=5), [(3, 9)]),
        (Interval(steps=1), [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6), (2, 7), (2, 8), (2, 9), (3, 9)]),
        (Interval(steps=4), [(1, 4), (2, 8), (3, 9)]),  # counted over the end of an epoch
        (Interval(steps=100), [(3, 9)]),
    ],
)
def test_saved_at_each_interval_and_at_the_end(every: Interval, saved: list[tuple[int, int]]) -> None:
    assert Run(every).go().saved == saved


def test_a_save_of_another_reason_begins_the_interval_anew() -> None:
    run = Run(Interval(steps=4))
    run.go(1)
    run.checkpointer.save(run.training)
    run.go(2)
    assert run.saved == [(1, 3), (2, 7), (3, 9)]


def test_a_signal_is_saved_once_and_stops_after_the_step() -> None:
    run = Run(Interval(steps=2))
    run.go(1)
    run.shutdown.signal = signal.SIGTERM
    with pytest.raises(Interrupted):
        run.go(1)
    assert run.saved == [(0, 2), (1, 4), (1, 4)]  # at its interval, and for the signal
    with pytest.raises(Interrupted):
        run.checkpointer.check(run.training)


def test_a_training_is_left_once_what_it_has_saved_is_written() -> None:
    said: list[str] = []
    training: Any = SimpleNamespace(epoch=3, steps=0, history=SimpleNamespace(rows=[{}, {}]))
    stop = partial(Checkpointer, lambda _: said.append("save"), Interval(epochs=1), 5)
    shutdown = GracefulShutdown()
    stopping = stop(shutdown, stop=lambda rows: "enough", wait=lambda: said.append("wait"))
    with pytest.raises(StoppedEarly):
        stopping.before_epoch(training)
    assert said == ["save", "wait"]
    stopping.after_epoch(training)
    assert said == ["save", "wait", "save"]  # the training goes on
    shutdown.signal = signal.SIGTERM
    with pytest.raises(Interrupted):
        stopping.check(training)
    assert said == ["save", "wait", "save", "save", "wait"]

    def full() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        stop(shutdown, wait=full).check(training)


def test_without_a_signal_a_check_does_nothing() -> None:
    run = Run(Interval(epochs=1))
    run.checkpointer.check(run.training)
    assert run.saved == []


def stopped(rows: list[dict[str, float]], steps: int) -> tuple[list[int], list[str]]:
    """For how many rows it was asked, and why it stopped."""
    asked: list[int] = []
    saved: list[Any] = []

    def stop(rows: Any) -> str | None:
        asked.append(len(rows))
        return "enough" if len(rows) >= 2 else None

    training: Any = SimpleNamespace(epoch=1, steps=steps, history=SimpleNamespace(rows=rows))
    checkpointer = Checkpointer(saved.append, Interval(epochs=5), 5, GracefulShutdown(), stop=stop)
    try:
        checkpointer.before_epoch(training)
    except StoppedEarly as reason:
        assert saved == [training]
        return asked, [str(reason)]
    assert saved == []
    return asked, []


def test_a_search_is_asked_before_each_epoch_and_what_it_gives_up_is_saved() -> None:
    assert stopped([], 0) == ([0], [])
    assert stopped([{}], 0) == ([1], [])
    assert stopped([{}, {}], 0) == ([2], ["enough"])  # also when a training is resumed here
    assert stopped([{}, {}], 7) == ([], [])  # within an epoch that was begun
