"""The interface between the training loop and everything that shows a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from vicinal.runs.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInfo:
    """Facts about a run that are known before it starts."""

    name: str  # readable, such as ``digits-cnn-input-alpha0.2-s0``
    run_id: str  # the run's identity (cell and seed)
    cell_id: str  # the identity shared by the runs that differ only in their seed
    config: dict[str, Any]  # resolved, in plain containers, without secrets
    choices: dict[str, str]  # the option chosen in each config group
    sweep: str | None  # the sweep that the run belongs to; None for a single run
    git_commit: str | None  # of the source that runs; None outside a repository
    folder: Path  # the run's own folder
    epochs: int  # number of epochs of the run
    wandb_id: str | None = None  # W&B's id of the run if it is resumed; None for a new run


class Progress(NamedTuple):
    """State within an epoch: means over its steps so far."""

    epoch: int  # the running epoch, from 1
    step: int  # steps done in this epoch
    means: Mapping[str, float]  # {name: mean} of the loss and of scores on the training batches
    images_per_second: float


class Tracker:
    """Base class of all trackers: each method reports an event of the run. This class ignores all of them.

    An option of the config group ``tracker`` names a subclass and the arguments of its constructor, which may check
    them but does nothing yet: a file or a connection is opened in :meth:`start`.
    """

    def start(self, info: RunInfo) -> None:
        """Called first, once per session of the run."""

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Called once, before the first epoch, with the epochs of earlier sessions.

        In a resumed run :meth:`mixed_images`, :meth:`mixed_sounds` and :meth:`predictions` may report earlier events
        before this call.

        Args:
            rows: of the epochs that are done, each as in :meth:`epoch`; empty in a new run.
            step: steps done in the epoch after them.
        """

    def progress(self, progress: Progress) -> None:
        """Called a few times per second at most, inside an epoch."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Called once at the end of each epoch.

        Args:
            row: flat, always with ``epoch`` (from 1), the x-axis of all curves; accuracies are fractions,
                ``throughput`` is images/s, ``seconds`` the epoch's duration. A list is a histogram: counts, or
                fractions, of equal bins of [0, 1].
        """

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        """Called with some images of the first batches, and how they were mixed.

        Args:
            images: uint8, (n, 4, C, H, W): each itself, its partner, the mask (white where it is its own) and what
                entered the network.
            captions: n texts with the labels and lambda.
        """

    def mixed_sounds(self, sounds: Tensor, rate: int, captions: Sequence[str]) -> None:
        """Called after :meth:`mixed_images` where the inputs are sounds, with what entered the network.

        Args:
            sounds: int16, (n, T).
            rate: samples per second.
            captions: n texts, those of the images.
        """

    def predictions(self, predictions: Predictions) -> None:
        """Called once, before the last epoch is reported, with its predictions on the test images."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Called once, after the last epoch, with the final numbers under flat keys such as ``test/last/acc1``."""

    def taken_away(self) -> None:
        """Called before :meth:`close` where the machine is needed for something else: the run is to go on elsewhere."""

    def close(self, error: BaseException | None) -> None:
        """Called last, whatever happened.

        Args:
            error: what ended the run; None if it is completed, KeyboardInterrupt or SystemExit if it was interrupted.
        """


class Trackers(Tracker):
    """Several trackers as one, for a session of a run, which begins and ends with the ``with`` block.

    Each event is reported to all of them, in the given order. Errors of its `own` end the run. The `chosen` ones, those
    of the config group, cannot stop the training: one that raises gets one warning, and from then on no event but
    :meth:`close`.
    """

    def __init__(self, info: RunInfo, *own: Tracker, chosen: Mapping[str, Tracker]) -> None:
        self._info, self._own, self._chosen = info, own, dict(chosen)
        self._failed: set[str] = set()

    def __enter__(self) -> Self:
        self._report(lambda tracker: tracker.start(self._info))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # last in, first out; a Ctrl-C in one of them does not keep the others from closing
            for name in reversed(self._chosen):
                stack.callback(self._guarded, name, lambda tracker: tracker.close(error))
            for tracker in reversed(self._own):
                stack.callback(tracker.close, error)

    def restore(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self._report(lambda tracker: tracker.restore(rows, step))

    def progress(self, progress: Progress) -> None:
        self._report(lambda tracker: tracker.progress(progress))

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._report(lambda tracker: tracker.epoch(row))

    def mixed_images(self, images: Tensor, captions: Sequence[str]) -> None:
        self._report(lambda tracker: tracker.mixed_images(images, captions))

    def mixed_sounds(self, sounds: Tensor, rate: int, captions: Sequence[str]) -> None:
        self._report(lambda tracker: tracker.mixed_sounds(sounds, rate, captions))

    def predictions(self, predictions: Predictions) -> None:
        self._report(lambda tracker: tracker.predictions(predictions))

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._report(lambda tracker: tracker.finish(summary))

    def taken_away(self) -> None:
        self._report(lambda tracker: tracker.taken_away())

    def _report(self, event: Callable[[Tracker], None]) -> None:
        for tracker in self._own:
            event(tracker)
        for name in self._chosen:
            if name not in self._failed:
                self._guarded(name, event)

    def _guarded(self, name: str, event: Callable[[Tracker], None]) -> None:
        try:
            event(self._chosen[name])
        except Exception as error:
            if name not in self._failed:
                self._failed.add(name)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("tracker.%s failed, the run goes on without it: %s", name, reason)
                log.debug("the error of tracker.%s", name, exc_info=error)
