"""All that training changes, which is all that a checkpoint has to hold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.training.learner import Learner
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.mixing_stats import MixingStats
from vicinal.training.rng_streams import RngStreams
from vicinal.training.train_metrics import TrainMetrics

LAST = 10
"""Epochs at the end whose test metrics enter the median, as in the mixup paper (arXiv 1710.09412, section 3.2)."""

Scores = dict[str, float]
"""acc1, acc5, nll and ece, as :class:`vicinal.training.evaluation.Metrics` computes them."""

Row = dict[str, Any]
"""One epoch, as ``metrics.jsonl`` has it."""


class History:
    """What the epochs leave behind for the verdict: their rows, and the weights of the best."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.best_epoch: int | None = None
        """The epoch with the best validation accuracy, the first of equals; None without a validation split."""
        self.best_weights: dict[str, Tensor] = {}
        self.predictions: dict[str, Tensor] = {}
        """Of the test images after the last epoch: labels, predicted classes and confidence, (N,) each, on the host."""

    def add(self, row: Row, model: nn.Module) -> None:
        """The row of the next epoch, and the model that it is about."""
        self.rows.append(row)
        if "val/acc1" not in row:
            return
        if self.best_epoch is None or row["val/acc1"] > self.rows[self.best_epoch - 1]["val/acc1"]:
            self.best_epoch = len(self.rows)
            self.best_weights = {name: value.clone() for name, value in model.state_dict().items()}

    def set_predictions(self, batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """The labels, predicted classes and confidences of the test images after the last epoch, a batch each."""
        names = ("labels", "predicted", "confidence")
        self.predictions = {
            name: torch.cat(parts).cpu() for name, parts in zip(names, zip(*batches, strict=True), strict=True)
        }

    def last(self, part: str) -> Scores | None:
        """Scores of the last epoch on ``val`` or ``test``, if it has any."""
        return self._scores(self.rows[-1], part)

    def best(self, part: str) -> Scores | None:
        """Scores of the best epoch on ``val`` or ``test``, if there is one and it has any."""
        return None if self.best_epoch is None else self._scores(self.rows[self.best_epoch - 1], part)

    def median(self) -> Scores:
        """Of each test metric over the last 10 epochs (over all, if there were fewer)."""
        tests = [scores for row in self.rows[-LAST:] if (scores := self._scores(row, "test"))]
        return {name: statistics.median(scores[name] for scores in tests) for name in tests[0]}

    @staticmethod
    def _scores(row: Row, part: str) -> Scores | None:
        names = [key for key in row if key.startswith(f"{part}/")]
        return {key.removeprefix(f"{part}/"): row[key] for key in names} or None

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in vars(self):
            setattr(self, name, state[name])


class Clock:
    """Seconds of work and images trained on, over all sessions of a run."""

    def __init__(self) -> None:
        self.train = 0.0
        self.evaluation = 0.0
        self.epoch = 0.0
        """Seconds that the running epoch has been trained for so far."""
        self.images = 0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class TrainState:
    """A training under way.

    Args:
        learner: weights, optimizer, schedule, gradient scale and averaged weights.
        streams: the random streams.
        panel: is shown every batch before it is mixed.
        classes: of the images.
    """

    def __init__(self, learner: Learner, streams: RngStreams, examples: MixedExamples, classes: int) -> None:
        self.learner, self.streams, self.mixed_examples, self._classes = learner, streams, examples, classes
        self._begin_epoch()
        self.history = History()
        self.clock = Clock()

    def _begin_epoch(self) -> None:
        learner = self.learner
        device, smoothing = learner.hardware.device, learner.settings.label_smoothing
        self.train_metrics = TrainMetrics(device)
        """Sums over the steps of the running epoch; their number is the position in it."""
        self.mixing_stats = MixingStats(learner.strategy.depths, self._classes, smoothing, device)
        """What the running epoch has mixed so far."""
        self.lr = learner.lr
        """Learning rate of the first step of the running epoch."""

    @property
    def epoch(self) -> int:
        """The running one, from 1; one more than there are when training is over."""
        return len(self.history.rows) + 1

    def end_epoch(self, row: Row) -> None:
        """Nothing of the epoch is left to do; the next one begins."""
        self.history.add(row, self.learner.eval_model)
        self._begin_epoch()
        self.clock.epoch = 0.0
        self.streams.begin_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers; a view of what is there now, to be written or copied at once."""
        return {"lr": self.lr, **{name: part.state_dict() for name, part in self._parts().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, to the bit."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.lr = state["lr"]

    def _parts(self) -> dict[str, Any]:
        names = ("learner", "streams", "mixed_examples", "train_metrics", "mixing_stats", "history", "clock")
        return {name: getattr(self, name) for name in names}
