from typing import Any

import torch

from vicinal.tracking.tracker import Progress, Tracker, Trackers


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


def test_all_are_told_in_order() -> None:
    told: list[Any] = []
    tracker = Trackers(Diary("a", told), Diary("b", told))
    tracker.mixed_images(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ["x"])
    tracker.progress(Progress(1, 2, {"loss": 0.5}, 100.0))
    tracker.epoch({"epoch": 1})
    tracker.finish({"test/last/acc1": 1.0})
    shape = torch.Size([1, 3, 2, 2])
    each = [(shape, ["x"]), (2,), ({"epoch": 1},), ({"test/last/acc1": 1.0},)]
    assert told == [(name, *event) for event in each for name in "ab"]
