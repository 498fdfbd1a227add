"""The training loop: it reads from top to bottom."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from vicinal.data import Loader
from vicinal.mixing import MixPlan
from vicinal.mixing.bounds import accuracy_ceiling, loss_floor
from vicinal.tracking import Progress, Tracker
from vicinal.training.evaluation import evaluate
from vicinal.training.learner import Learner
from vicinal.training.streams import Streams
from vicinal.training.tally import DivergedError, Tally

LAST = 10
"""Epochs at the end whose test metrics enter the median, as in the mixup paper (arXiv 1710.09412, section 3.2)."""

Scores = dict[str, float]
"""acc1, acc5, nll and ece, as :class:`vicinal.training.evaluation.Metrics` computes them."""

Watch = Callable[[MixPlan, Tensor, Tensor], None]
"""Is shown a plan with the images (B, C, H, W) and labels (B,) that it is for."""


@dataclass(frozen=True)
class Loaders:
    train: Loader
    val: Loader | None
    test: Loader


@dataclass(frozen=True)
class Finals:
    """What a finished training is judged by."""

    val: Scores | None
    """Of the last epoch; None without a validation split."""
    test_last: Scores
    test_best_val: Scores | None
    """On the weights of ``best_epoch``; None without a validation split."""
    test_median10: Scores
    """Median of each metric over the last 10 epochs (over all, if there were fewer)."""
    best_epoch: int | None
    """The epoch with the best validation accuracy, the first of equals."""
    seconds: dict[str, float]
    images_per_second: float
    """Training alone, mean over all epochs."""


@dataclass
class History:
    """What the epochs leave behind for the verdict."""

    tests: deque[Scores] = field(default_factory=lambda: deque(maxlen=LAST))
    val: Scores | None = None
    best_acc1: float = -1.0
    best_epoch: int | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def validated(self, epoch: int, scores: Scores, model: nn.Module) -> None:
        self.val = scores
        if scores["acc1"] > self.best_acc1:
            self.best_acc1, self.best_epoch = scores["acc1"], epoch
            self.best_weights = {name: value.clone() for name, value in model.state_dict().items()}

    def median(self) -> Scores:
        return {name: statistics.median(scores[name] for scores in self.tests) for name in self.tests[0]}


def fit(learner: Learner, loaders: Loaders, streams: Streams, tracker: Tracker, watch: Watch) -> Finals:
    """Train for ``trainer.epochs``, validate after each epoch, and read the test set for reporting alone.

    Args:
        learner: with fresh weights; it holds the last epoch's weights afterwards.
        loaders: of the three parts.
        streams: the order, augmentation, mixing and dropout of this run.
        tracker: is told what happens.
        watch: is shown every batch before it is mixed.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    epochs, steps = learner.settings.epochs, len(loaders.train)
    history = History()
    train_seconds = evaluation_seconds = 0.0
    images_seen = 0
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        lr = learner.lr
        tally = train_epoch(epoch, learner, loaders.train, streams, tracker, watch)
        trained = time.perf_counter()
        row = {"epoch": epoch, "step": epoch * steps, "lr": lr, **prefixed("train", tally.read())}
        if loaders.val is not None:
            scores = score(learner, loaders.val, epoch * steps)
            history.validated(epoch, scores, learner.evaluated)
            row |= prefixed("val", scores)
        if epoch > epochs - LAST:
            history.tests.append(score(learner, loaders.test, epoch * steps))
            row |= prefixed("test", history.tests[-1])
        ended = time.perf_counter()
        tracker.epoch(row | {"throughput": tally.samples / (trained - started), "seconds": ended - started})
        train_seconds += trained - started
        evaluation_seconds += ended - trained
        images_seen += tally.samples
    return Finals(
        val=history.val,
        test_last=history.tests[-1],
        test_best_val=score_best_epoch(learner, loaders, history),
        test_median10=history.median(),
        best_epoch=history.best_epoch,
        seconds={"train": train_seconds, "evaluation": evaluation_seconds},
        images_per_second=images_seen / train_seconds,
    )


def train_epoch(
    epoch: int, learner: Learner, loader: Loader, streams: Streams, tracker: Tracker, watch: Watch
) -> Tally:
    """One pass over the training images; nothing in a step waits for the device, only a look does."""
    settings, device = learner.settings, learner.hardware.device
    tally = Tally(device)
    started = time.perf_counter()
    learner.model.train()
    with streams.default("dropout", device):
        for images, labels in loader.epoch(streams.order, streams.augmentation):
            plan = learner.strategy.sample(images.shape, streams.mixing).to(device)
            watch(plan, images, labels)
            loss, logits = learner.step(images, labels, plan)
            tally.add(
                loss,
                correct=plan.correct(logits, labels),
                ceiling=accuracy_ceiling(plan, labels),
                floor=loss_floor(plan, labels, logits.shape[1], settings.label_smoothing),
            )
            if tally.steps % settings.log_every == 0 or tally.steps == len(loader):
                if bad := tally.first_bad_step():
                    step = (epoch - 1) * len(loader) + bad
                    raise DivergedError(f"since step {step}", learner.peak_lr, learner.hardware.precision)
                means = tally.read()
                speed = tally.samples / (time.perf_counter() - started)
                tracker.progress(Progress(epoch, tally.steps, means["loss"], means["acc1"], speed))
    return tally


def score(learner: Learner, loader: Loader, step: int) -> Scores:
    """Scores of the weights after a step; a step can ruin them although its own loss was finite."""
    scores = evaluate(learner.evaluated, loader.batches(), learner.hardware)
    if not math.isfinite(scores["nll"]):
        raise DivergedError(f"in evaluation after step {step}", learner.peak_lr, learner.hardware.precision)
    return scores


def score_best_epoch(learner: Learner, loaders: Loaders, history: History) -> Scores | None:
    """Test scores on the weights of the best epoch; the model is left with those of the last."""
    if history.best_epoch is None:
        return None
    model = learner.evaluated
    last = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(history.best_weights)
    scores = evaluate(model, loaders.test.batches(), learner.hardware)
    model.load_state_dict(last)
    return scores


def prefixed(prefix: str, scores: Scores) -> Scores:
    return {f"{prefix}/{name}": value for name, value in scores.items()}
