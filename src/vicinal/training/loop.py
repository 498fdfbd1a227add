"""The training loop: it reads from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from vicinal.data import Loader
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import Progress, Tracker
from vicinal.training.checkpointer import Checkpointer
from vicinal.training.evaluation import evaluate
from vicinal.training.mixing_stats import LAM_BINS
from vicinal.training.state import LAST, History, Row, Scores, TrainState
from vicinal.training.train_metrics import DivergedError, TrainMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    train: Loader
    val: Loader | None
    test: Loader
    clean: Loader | None
    """Some of the training images, without augmentation."""
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Finals:
    """What a finished training is judged by."""

    val: Scores | None
    """Of the last epoch; None without a validation split."""
    val_best: Scores | None
    """Of ``best_epoch``; None likewise."""
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


def fit(training: TrainState, loaders: Loaders, tracker: Tracker, checkpointer: Checkpointer) -> Finals:
    """Train to ``trainer.epochs``, validate after each epoch, and read the test set for reporting alone.

    Args:
        training: fresh, or under way; it holds the last epoch's weights afterwards.
        loaders: of the three parts.
        tracker: is told what happens.
        checkpointer: saves the training at its intervals.

    Raises:
        DivergedError: the loss became NaN or infinite.
        Interrupted: somebody asked the process to stop, and everything is saved.
    """
    learner, clock, history = training.learner, training.clock, training.history
    epochs, steps, first = learner.settings.epochs, len(loaders.train), training.epoch
    while (epoch := training.epoch) <= epochs:
        train_metrics = train_epoch(training, loaders.train, tracker, checkpointer)
        if epoch == first and learner.stayed_eager:
            wish = learner.settings.compile
            log.warning("trainer.compile=%s: torch compiled nothing of the model, which runs uncompiled", wish)
        trained = time.perf_counter()
        row: Row = {"epoch": epoch, "step": epoch * steps, "lr": training.lr, **prefixed("train", train_metrics.read())}
        row |= training.mixing_stats.read()
        if epoch == 1 and (law := learner.strategy.law(LAM_BINS)) is not None:
            row["mixing/lam_law"] = law
        if loaders.clean is not None:
            clean = score(training, loaders.clean, epoch * steps, checkpointer)
            row |= {"train_clean/acc1": clean["acc1"], "train_clean/loss": clean["nll"]}
        if loaders.val is not None:
            row |= prefixed("val", score(training, loaders.val, epoch * steps, checkpointer))
        if epoch > epochs - LAST:
            seen: list[tuple[Tensor, Tensor, Tensor]] = []
            row |= prefixed("test", score(training, loaders.test, epoch * steps, checkpointer, seen))
            if epoch == epochs:
                history.set_predictions(seen)
                tracker.predictions(predictions(history, loaders))
        evaluated = time.perf_counter() - trained
        row |= {"throughput": train_metrics.samples / clock.epoch, "seconds": clock.epoch + evaluated}
        clock.train += clock.epoch
        clock.evaluation += evaluated
        clock.images += train_metrics.samples
        training.end_epoch(row)
        tracker.epoch(row)
        checkpointer.after_epoch(training)
    test_last = history.last("test")
    assert test_last is not None
    return Finals(
        val=history.last("val"),
        val_best=history.best("val"),
        test_last=test_last,
        test_best_val=score_best_epoch(training, loaders),
        test_median10=history.median(),
        best_epoch=history.best_epoch,
        seconds={"train": clock.train, "evaluation": clock.evaluation},
        images_per_second=clock.images / clock.train,
    )


def train_epoch(training: TrainState, loader: Loader, tracker: Tracker, checkpointer: Checkpointer) -> TrainMetrics:
    """What is left of one pass over the training images; nothing in a step waits for the device, only a look does."""
    learner, streams, clock = training.learner, training.streams, training.clock
    train_metrics, mixing_stats = training.train_metrics, training.mixing_stats
    settings, device = learner.settings, learner.hardware.device
    started = time.perf_counter() - clock.epoch
    learner.model.train()
    with streams.default("dropout", device):
        for images, labels in loader.epoch(streams.order, streams.augmentation, skip=train_metrics.steps):
            plan = learner.strategy.sample(images.shape, streams.mixing)
            mixing_stats.add(plan, labels, images.shape)
            plan = plan.to(device)
            training.mixed_examples(plan, images, labels)
            loss, logits = learner.step(images, labels, plan)
            train_metrics.add(loss, plan.correct(logits, labels))
            clock.epoch = time.perf_counter() - started
            if train_metrics.steps % settings.log_every == 0 or train_metrics.steps == len(loader):
                if bad := train_metrics.first_bad_step():
                    step = (training.epoch - 1) * len(loader) + bad
                    raise DivergedError(f"since step {step}", learner.peak_lr, learner.hardware.precision)
                means = train_metrics.read()
                clock.epoch = time.perf_counter() - started  # the look has waited for the device
                speed = train_metrics.samples / clock.epoch
                tracker.progress(Progress(training.epoch, train_metrics.steps, means, speed))
            checkpointer.after_step(training)
    return train_metrics


def score(
    training: TrainState,
    loader: Loader,
    step: int,
    checkpointer: Checkpointer,
    seen: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Scores:
    """Scores of the weights after a step; a step can ruin them although its own loss was finite."""
    learner = training.learner

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader.batches():
            checkpointer.check(training)
            yield batch

    scores = evaluate(learner.eval_model, batches(), learner.hardware, learner.eval_forward, seen)
    if not math.isfinite(scores["nll"]):
        raise DivergedError(f"in evaluation after step {step}", learner.peak_lr, learner.hardware.precision)
    return scores


def predictions(history: History, loaders: Loaders) -> Predictions:
    """What the last epoch's weights say of the test images."""
    arrays = {name: values.numpy() for name, values in history.predictions.items()}
    return Predictions(**arrays, class_names=loaders.class_names)


def score_best_epoch(training: TrainState, loaders: Loaders) -> Scores | None:
    """Test scores on the weights of the best epoch; the model is left with those of the last."""
    history, learner, model = training.history, training.learner, training.learner.eval_model
    if history.best_epoch is None:
        return None
    last = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(history.best_weights)
    scores = evaluate(model, loaders.test.batches(), learner.hardware, learner.eval_forward)
    model.load_state_dict(last)
    return scores


def prefixed(prefix: str, scores: Scores) -> Scores:
    return {f"{prefix}/{name}": value for name, value in scores.items()}
