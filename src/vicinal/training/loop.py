"""The training loop: it reads from top to bottom."""

from __future__ import annotations

import statistics
import time
from collections import deque
from dataclasses import dataclass, field

from torch import Tensor, nn

from vicinal.data import ImageData, Loader
from vicinal.mixing import Strategy
from vicinal.mixing.bounds import accuracy_ceiling, loss_floor
from vicinal.tracking import Progress, Tracker
from vicinal.training.evaluation import evaluate
from vicinal.training.learner import Learner
from vicinal.training.panel import mixed_images
from vicinal.training.streams import Streams
from vicinal.training.tally import Tally

LAST = 10
"""Epochs at the end whose test metrics enter the median, as in the mixup paper (arXiv 1710.09412, section 3.2)."""

Scores = dict[str, float]
"""acc1, acc5, nll and ece, as :class:`vicinal.training.evaluation.Metrics` computes them."""


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


def fit(
    learner: Learner,
    loaders: Loaders,
    data: ImageData,
    strategy: Strategy,
    streams: Streams,
    tracker: Tracker,
    panel_size: int = 0,
) -> Finals:
    """Train for ``trainer.epochs``, validate after each epoch, and read the test set for reporting alone.

    Args:
        learner: with fresh weights; it holds the last epoch's weights afterwards.
        loaders: of the three parts.
        data: for the names of the classes and the normalisation, which the panel undoes.
        strategy: what is mixed.
        streams: the order, augmentation, mixing and dropout of this run.
        tracker: is told what happens.
        panel_size: mixed images shown from the first batch.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    epochs, hardware = learner.settings.epochs, learner.hardware
    history = History()
    train_seconds = evaluation_seconds = 0.0
    images_seen = 0
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        lr = learner.lr
        tally = train_epoch(epoch, learner, loaders.train, data, strategy, streams, tracker, panel_size)
        trained = time.perf_counter()
        row = {
            "epoch": epoch,
            "step": epoch * len(loaders.train),
            "lr": lr,
            **prefixed("train", tally.read()),
        }
        if loaders.val is not None:
            scores = evaluate(learner.evaluated, loaders.val.batches(), hardware)
            history.validated(epoch, scores, learner.evaluated)
            row |= prefixed("val", scores)
        if epoch > epochs - LAST:
            history.tests.append(evaluate(learner.evaluated, loaders.test.batches(), hardware))
            row |= prefixed("test", history.tests[-1])
        ended = time.perf_counter()
        tracker.epoch(row | {"throughput": tally.samples / (trained - started), "seconds": ended - started})
        train_seconds += trained - started
        evaluation_seconds += ended - trained
        images_seen += tally.samples
    return Finals(
        val=history.val,
        test_last=history.tests[-1],
        test_best_val=test_best_by_validation(learner, loaders, history),
        test_median10=history.median(),
        best_epoch=history.best_epoch,
        seconds={"train": train_seconds, "evaluation": evaluation_seconds},
        images_per_second=images_seen / train_seconds,
    )


def train_epoch(
    epoch: int,
    learner: Learner,
    loader: Loader,
    data: ImageData,
    strategy: Strategy,
    streams: Streams,
    tracker: Tracker,
    panel_size: int,
) -> Tally:
    """One pass over the training images; nothing in a step waits for the device."""
    settings, hardware = learner.settings, learner.hardware
    tally = Tally(hardware.device)
    started = time.perf_counter()
    learner.model.train()
    with streams.default("dropout", hardware.device):
        for images, labels in loader.epoch(streams.order, streams.augmentation):
            plan = strategy.sample(images.shape, streams.mixing).to(hardware.device)
            if epoch == 1 and tally.steps == 0 and panel_size:
                tracker.mixed_images(*mixed_images(plan, images, labels, data, panel_size))
            loss, logits = learner.step(images, labels, plan)
            tally.add(
                loss,
                correct=plan.correct(logits, labels),
                ceiling=accuracy_ceiling(plan, labels),
                floor=loss_floor(plan, labels, logits.shape[1], settings.label_smoothing),
            )
            if tally.steps % settings.log_every == 0 or tally.steps == len(loader):
                tally.check_finite(before=(epoch - 1) * len(loader), lr=learner.lr, precision=hardware.precision)
                means = tally.read()
                speed = tally.samples / (time.perf_counter() - started)
                tracker.progress(Progress(epoch, tally.steps, means["loss"], means["acc1"], speed))
    return tally


def test_best_by_validation(learner: Learner, loaders: Loaders, history: History) -> Scores | None:
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
