import logging
from typing import Any

import pytest
import torch

from vicinal.tracking.tracker import Progress, RunInfo, Tracker, Trackers


class Diary(Tracker):
    def __init__(self, name: str, told: list[Any]) -> None:
        self.name, self.told = name, told

    def progress(self, progress: Progress) -> None:
        self.told.append((self.name, progress.step))

    def epoch(self, row: Any) -> None:
        self.told.append((self.name, dict(row)))

    def mixed_images(self, images: torch.Tensor, captions: Any) -> None:
        self.told.append((self.name, images.shape, list(captions)))

    def finish(self, summary: Any) -> None:
        self.told.append((self.name, dict(summary)))


def test_all_are_told_in_order(info: RunInfo) -> None:
    told: list[Any] = []
    tracker = Trackers(info, Diary("a", told), chosen={"mine": Diary("b", told)})
    tracker.mixed_images(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ["x"])
    tracker.progress(Progress(1, 2, {"loss": 0.5}, 100.0))
    tracker.epoch({"epoch": 1})
    tracker.finish({"test/last/acc1": 1.0})
    shape = torch.Size([1, 3, 2, 2])
    each = [(shape, ["x"]), (2,), ({"epoch": 1},), ({"test/last/acc1": 1.0},)]
    assert told == [(name, *event) for event in each for name in "ab"]


class Faulty(Diary):
    """Fails in every event from one on."""

    def __init__(self, told: list[Any], first: str) -> None:
        super().__init__("faulty", told)
        self.first, self.failing = first, False

    def note(self, event: str) -> None:
        self.failing |= event == self.first
        self.told.append(("faulty", event))
        if self.failing:
            raise ConnectionError(f"{event} is not possible\nsecond line")

    def start(self, info: RunInfo) -> None:
        self.note("start")

    def epoch(self, row: Any) -> None:
        self.note("epoch")

    def finish(self, summary: Any) -> None:
        self.note("finish")

    def close(self, error: BaseException | None) -> None:
        self.note("close")


EVENTS = ("start", "epoch", "finish", "close")


@pytest.mark.parametrize("first", EVENTS)
def test_a_tracker_that_fails_is_one_warning_and_is_closed_all_the_same(
    info: RunInfo, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    told: list[Any] = []
    with Trackers(info, chosen={"mine": Faulty(told, first), "other": Diary("other", told)}) as trackers:
        trackers.epoch({"epoch": 1})
        trackers.finish({"test/last/acc1": 1.0})
    reported = [event for name, event in told if name == "faulty"]
    until = EVENTS.index(first) + 1
    assert reported == [*EVENTS[:until], *(["close"] if first != "close" else [])]
    assert [event for name, event in told if name == "other"] == [{"epoch": 1}, {"test/last/acc1": 1.0}]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    reason = f"ConnectionError: {first} is not possible"
    assert line == f"tracker.mine failed, the run goes on without it: {reason}"


def test_an_interruption_in_one_tracker_ends_the_run_and_closes_the_others(info: RunInfo) -> None:
    closed: list[tuple[str, object]] = []

    class Closing(Tracker):
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self, error: BaseException | None) -> None:
            closed.append((self.name, error))
            if self.name == "b":
                raise KeyboardInterrupt

    error = ValueError("the training")
    chosen = {name: Closing(name) for name in "abc"}
    with pytest.raises(KeyboardInterrupt), Trackers(info, Closing("own"), chosen=chosen):
        raise error
    assert closed == [(name, error) for name in ("own", "a", "b", "c")]


def test_an_error_of_the_runs_own_tracker_ends_the_run(info: RunInfo) -> None:
    told: list[Any] = []
    with pytest.raises(ConnectionError), Trackers(info, Faulty(told, "epoch"), chosen={}) as trackers:
        trackers.epoch({"epoch": 1})
    assert told == [("faulty", "start"), ("faulty", "epoch"), ("faulty", "close")]
