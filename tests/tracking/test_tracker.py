from types import TracebackType
from typing import Any

import pytest
import torch

from vicinal.tracking.tracker import Progress, Tracker, Trackers


class Diary(Tracker):
    def __init__(self, name: str, told: list[Any]) -> None:
        self.name, self.told = name, told

    def __enter__(self) -> "Diary":
        self.told.append((self.name, "enter"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.told.append((self.name, "exit", kind))

    def progress(self, progress: Progress) -> None:
        self.told.append((self.name, progress.step))

    def epoch(self, row: Any) -> None:
        self.told.append((self.name, dict(row)))

    def mixed_images(self, images: torch.Tensor, captions: Any) -> None:
        self.told.append((self.name, images.shape, list(captions)))

    def finish(self, summary: Any) -> None:
        self.told.append((self.name, dict(summary)))


def test_all_are_told_in_order_and_left_in_the_opposite_order() -> None:
    told: list[Any] = []
    with Trackers(Diary("a", told), Diary("b", told)) as tracker:
        tracker.mixed_images(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ["x"])
        tracker.progress(Progress(1, 2, 0.5, 0.5, 100.0))
        tracker.epoch({"epoch": 1})
        tracker.finish({"test/last/acc1": 1.0})
    shape = torch.Size([1, 3, 2, 2])
    each = [(shape, ["x"]), (2,), ({"epoch": 1},), ({"test/last/acc1": 1.0},)]
    middle = [(name, *event) for event in each for name in "ab"]
    assert told == [("a", "enter"), ("b", "enter"), *middle, ("b", "exit", None), ("a", "exit", None)]


def test_an_exception_reaches_every_tracker_and_the_caller() -> None:
    told: list[Any] = []
    with pytest.raises(ZeroDivisionError), Trackers(Diary("a", told), Diary("b", told)):
        raise ZeroDivisionError
    assert told[2:] == [("b", "exit", ZeroDivisionError), ("a", "exit", ZeroDivisionError)]


def test_a_tracker_that_cannot_be_entered_leaves_none_open() -> None:
    class Broken(Tracker):
        def __enter__(self) -> "Broken":
            raise OSError("no")

    told: list[Any] = []
    with pytest.raises(OSError, match="no"), Trackers(Diary("a", told), Broken(), Diary("c", told)):
        pass
    assert told == [("a", "enter"), ("a", "exit", OSError)]
