"""What a run reports, and to whom: the interface between the training loop and everything that shows a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vicinal.runs.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RunInfo:
    """What a tracker may tell of a run before it starts.

    Attributes:
        name: readable, such as ``digits-cnn-input-alpha0.2-s0``.
        run_id: the run's identity (cell and seed).
        cell_id: the identity shared by the runs that differ in their seed alone.
        config: resolved, in plain containers.
        choices: the option chosen in each config group.
        sweep: the sweep that the run belongs to; None for a single run.
        git_commit: of the source that runs; None outside a repository.
        folder: the run's own folder.
        epochs: how many the run has.
    """

    name: str
    run_id: str
    cell_id: str
    config: dict[str, Any]
    choices: dict[str, str]
    sweep: str | None
    git_commit: str | None
    folder: Path
    epochs: int


class Progress(NamedTuple):
    """State within an epoch: means over its steps so far."""

    epoch: int
    """The running epoch, from 1."""
    step: int
    """Steps done in this epoch."""
    means: Mapping[str, float]
    """{name: mean} of the loss and of scores on the training batches."""
    images_per_second: float


class Tracker:
    """Is told what happens in a run. This one ignores all of it."""

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Called once, before anything else: what earlier sessions of the run have come to.

        Args:
            rows: of the epochs that are done, each as :meth:`epoch` was told it; empty in a fresh run.
            step: steps done in the epoch after them.
        """

    def progress(self, progress: Progress) -> None:
        """Called a few times a second at most, inside an epoch."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Called once at the end of each epoch.

        Args:
            row: flat, always with ``epoch`` (from 1), the one clock of all curves; accuracies are fractions,
                ``throughput`` is images/s, ``seconds`` the epoch's duration. A list is a histogram: counts, or shares,
                of equal bins of [0, 1].
        """

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        """Called with some images of the first batches, and how they were mixed.

        Args:
            images: uint8, (n, 4, C, H, W): each itself, its partner, the mask (white where it is its own) and what
                entered the network.
            captions: n texts with the labels and lambda.
        """

    def predictions(self, predictions: Predictions) -> None:
        """Called once, before the last epoch is told, with what its weights say of the test images."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Called once, after the last epoch, with the final numbers under flat keys such as ``test/last/acc1``."""


class Trackers(Tracker):
    """Several trackers as one, told in the given order."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        for tracker in self.trackers:
            tracker.restore(rows, step)

    def progress(self, progress: Progress) -> None:
        for tracker in self.trackers:
            tracker.progress(progress)

    def epoch(self, row: Mapping[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.epoch(row)

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        for tracker in self.trackers:
            tracker.mixed_images(images, captions)

    def predictions(self, predictions: Predictions) -> None:
        for tracker in self.trackers:
            tracker.predictions(predictions)

    def finish(self, summary: Mapping[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.finish(summary)
