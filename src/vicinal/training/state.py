"""Everything that training changes, which is what a checkpoint contains."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vicinal.tasks import Task
from vicinal.training.learner import Learner
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.mixing_stats import MixingStats
from vicinal.training.rng_streams import RngStreams
from vicinal.training.stateful import Stateful
from vicinal.training.train_metrics import TrainMetrics

LAST = 10
"""Epochs at the end whose test metrics enter the median, as in the mixup paper (arXiv 1710.09412, section 3.2)."""

Scores = dict[str, float]  # the metrics of a task by their keys

Row = dict[str, Any]  # one epoch, as ``metrics.jsonl`` has it


class History(Stateful):
    """The rows of all epochs, the weights of the best, and the predictions of the last."""

    STATE = ("rows", "best_epoch", "best_weights", "predictions")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.best_epoch: int | None = None
        """The best epoch on validation by the task's selection, the first of equals; None without validation."""
        self.best_weights: dict[str, Tensor] = {}
        self.predictions: dict[str, Tensor] = {}
        """Records of the test samples after the last epoch, {name: (N, ...)}, on the host."""

    def add(self, row: Row, model: nn.Module, task: Task) -> None:
        """Add the row of the next epoch; the weights of its model are kept if they are the best so far."""
        self.rows.append(row)
        key = f"val/{task.selection}"
        if key not in row:
            return
        metric = task.metric(task.selection)
        if self.best_epoch is None or metric.improves(row[key], self.rows[self.best_epoch - 1][key]):
            self.best_epoch = len(self.rows)
            self.best_weights = {name: value.clone() for name, value in model.state_dict().items()}

    def set_predictions(self, batches: Sequence[dict[str, Tensor]]) -> None:
        """Keep what the task has recorded of the test samples after the last epoch, one dictionary per batch."""
        self.predictions = {name: torch.cat([batch[name] for batch in batches]).cpu() for name in batches[0]}

    def last(self, part: str) -> Scores | None:
        """Return the scores of the last epoch on ``val`` or ``test``, if it has any."""
        return self._scores(self.rows[-1], part)

    def best(self, part: str) -> Scores | None:
        """Return the scores of the best epoch on ``val`` or ``test``, if there is one and it has any."""
        return None if self.best_epoch is None else self._scores(self.rows[self.best_epoch - 1], part)

    def median(self) -> Scores:
        """Return the median of each test metric over the last 10 epochs (over all, if there were fewer)."""
        tests = [scores for row in self.rows[-LAST:] if (scores := self._scores(row, "test"))]
        return {name: statistics.median(scores[name] for scores in tests) for name in tests[0]}

    def finals(self, test_best: Scores | None) -> dict[str, Any]:
        """Return the scores that ``result.json`` records; those by the best epoch are None without validation."""
        test = {"last": self.last("test"), "best_val": test_best, "median10": self.median()}
        return {"val": self.last("val"), "val_best": self.best("val"), "test": test}

    @staticmethod
    def _scores(row: Row, part: str) -> Scores | None:
        names = [key for key in row if key.startswith(f"{part}/")]
        return {key.removeprefix(f"{part}/"): row[key] for key in names} or None


class Clock(Stateful):
    """Seconds of work and number of images trained on, over all sessions of a run."""

    STATE = ("train", "evaluation", "epoch", "images")

    def __init__(self) -> None:
        self.train = 0.0
        self.evaluation = 0.0
        self.epoch = 0.0
        """Seconds of training in the running epoch so far."""
        self.images = 0

    @property
    def images_per_second(self) -> float:
        """Training alone, mean over all epochs that have ended."""
        return self.images / self.train


class ShardTotals(Stateful):
    """Sums over the steps of the running epoch, of one part of the batches."""

    STATE = ("train_metrics", "mixing_stats")

    def __init__(self, learner: Learner, counts: Tensor) -> None:
        device = learner.hardware.device
        self.train_metrics = TrainMetrics(device)
        """Their number of steps is the position in the epoch."""
        self.mixing_stats = MixingStats(learner.strategy.depths, counts, learner.objective, device)
        """Counts of what has been mixed."""


class TrainState(Stateful):
    """A running training: its learner, its random streams and `examples`, which are shown each batch unmixed.

    `counts` are the training images per class, (K,) int64, on the CPU.
    """

    STATE = ("lr", "learner", "streams", "mixed_examples", "history", "clock")

    def __init__(self, learner: Learner, streams: RngStreams, examples: MixedExamples, counts: Tensor) -> None:
        self.learner, self.streams, self.mixed_examples, self.counts = learner, streams, examples, counts
        self.history = History()
        self._begin_epoch()
        self.clock = Clock()

    def _begin_epoch(self) -> None:
        learner = self.learner
        learner.begin_epoch(self.epoch)
        self.totals = {shard: ShardTotals(learner, self.counts) for shard in learner.shards.own}
        """{own part of the batches: its sums over the epoch so far}."""
        self.lr = learner.lr()
        """Learning rate of the first step of the running epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training in all its processes, which all call this."""
        totals = {shard: total.state_dict() for shard, total in self.totals.items()}
        world, own = self.learner.shards.world, (totals, self.streams.state_dict())
        if world.size > 1:
            shares = world.gather(own)
            totals, streams = ({key: value for share in shares for key, value in share[0].items()}, shares[0][1])
            for _, others in shares:
                streams["mixing"] |= others["mixing"]
                streams["lent"] |= others["lent"]
        else:
            totals, streams = own
        return {**super().state_dict(), "streams": streams, "totals": totals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history.load_state_dict(state["history"])
        self._begin_epoch()  # with the loss of that epoch
        super().load_state_dict(state)
        for shard, total in self.totals.items():
            total.load_state_dict(state["totals"][shard])

    @property
    def epoch(self) -> int:
        """Number of the running epoch, from 1; one more than there are when training is over."""
        return len(self.history.rows) + 1

    @property
    def steps(self) -> int:
        """Steps done in the running epoch."""
        return next(iter(self.totals.values())).train_metrics.steps

    def train_metrics(self) -> TrainMetrics:
        """Return the sums over all parts of the epoch's batches so far."""
        states = self._gathered([total.train_metrics.state_dict() for total in self.totals.values()])
        return TrainMetrics.of_shards(states, self.learner.hardware.device)

    def mixing_row(self) -> Row:
        """Return what the epoch has mixed, in all parts of its batches: a part of its row."""
        learner = self.learner
        for total in self.totals.values():
            total.mixing_stats.fold()
        whole = ShardTotals(learner, self.counts).mixing_stats
        for state in self._gathered([total.mixing_stats.state_dict() for total in self.totals.values()]):
            whole.add_shard(state)
        return whole.read()

    def _gathered(self, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the states of all parts, in their order, from those of this process."""
        return [state for share in self.learner.shards.world.gather(states) for state in share]

    def end_epoch(self, row: Row) -> None:
        """End the epoch with its row, and begin the next one."""
        self.history.add(row, self.learner.eval_model, self.learner.objective.task)
        self._begin_epoch()
        self.clock.epoch = 0.0
        self.streams.begin_epoch()
