"""The training loop: it reads from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vicinal.data import Loader
from vicinal.mixing.context import Context
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import Progress, Tracker
from vicinal.training.batch_context import BatchContext
from vicinal.training.checkpointer import Checkpointer
from vicinal.training.evaluation import evaluate
from vicinal.training.mixing_stats import LAM_BINS
from vicinal.training.state import LAST, History, Row, Scores, TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    train: Loader
    val: Loader | None
    test: Loader
    clean: Loader | None  # some of the training samples, without augmentation
    class_names: tuple[str, ...]


def fit(training: TrainState, loaders: Loaders, tracker: Tracker, checkpointer: Checkpointer) -> dict[str, Any]:
    """Train to ``trainer.epochs``, validate after each epoch, and read the test set for reporting alone.

    The training is fresh or resumed, and has the last epoch's weights afterwards. Returns the scores that
    ``result.json`` records. Raises UserError: the loss became NaN or infinite. Raises Interrupted or StoppedEarly: the
    process was asked to stop, or a search has given the run up, and everything is saved.
    """
    learner, clock, history = training.learner, training.clock, training.history
    task = learner.objective.task
    epochs, steps, first = learner.settings.epochs, len(loaders.train), training.epoch
    while (epoch := training.epoch) <= epochs:
        checkpointer.before_epoch(training)
        train_epoch(training, loaders.train, tracker, checkpointer)
        if epoch == first and learner.stayed_eager:
            request = learner.settings.compile
            log.warning("trainer.compile=%s: torch compiled nothing of the model, which runs uncompiled", request)
        trained = time.perf_counter()
        train_metrics = training.train_metrics()
        loss, train_score = train_metrics.read()
        row: Row = {"epoch": epoch, "step": epoch * steps, "lr": training.lr}
        row["train/loss"] = loss
        if task.score_key is not None:
            row[f"train/{task.score_key}"] = train_score
        row |= training.mixing_row()
        if epoch == 1 or "progress" in learner.strategy.needs:
            middle = Context(epoch=epoch, epochs=epochs, progress=(epoch - 0.5) / epochs)
            if (law := learner.strategy.law_of_lambda(LAM_BINS, middle)) is not None:
                row["mixing/lam_law"] = law
        keys = [(name, key) for name, key in ((task.score_key, task.score_key), ("loss", task.loss_key)) if key]
        if loaders.clean is not None and keys:
            clean = score(training, loaders.clean, epoch * steps, checkpointer)
            row |= {f"train_clean/{name}": clean[key] for name, key in keys}
        if loaders.val is not None:
            row |= prefixed("val", score(training, loaders.val, epoch * steps, checkpointer))
        if epoch > epochs - LAST:
            records: list[dict[str, Tensor]] = []
            row |= prefixed("test", score(training, loaders.test, epoch * steps, checkpointer, records))
            if epoch == epochs:
                history.set_predictions(records)
                if history.predictions:
                    tracker.predictions(predictions(history, loaders))
        evaluated = time.perf_counter() - trained
        row |= {"throughput": train_metrics.samples / clock.epoch, "seconds": clock.epoch + evaluated}
        clock.train += clock.epoch
        clock.evaluation += evaluated
        clock.images += train_metrics.samples
        training.end_epoch(row)
        tracker.epoch(row)
        checkpointer.after_epoch(training)
    return history.finals(score_best_epoch(training, loaders))


def train_epoch(training: TrainState, loader: Loader, tracker: Tracker, checkpointer: Checkpointer) -> None:
    """Train on the rest of an epoch; of all steps, only those of ``trainer.log_every`` wait for the device."""
    learner, streams, clock = training.learner, training.streams, training.clock
    settings, device, shards = learner.settings, learner.hardware.device, learner.shards
    started = time.perf_counter() - clock.epoch
    contexts = BatchContext(learner, training.counts, len(loader))
    learner.model.train()
    make = loader.pending if learner.mixes_as_made else loader.epoch
    batches = make(streams.order, streams.augmentation, training.steps, training.epoch)
    with closing(batches), streams.default(shards.name("dropout", shards.own[0]), device):
        for done in range(training.steps, len(loader)):
            size = loader.size(done)
            for shard, totals in training.totals.items():
                inputs, targets = next(batches)
                streams.change(shards.name("dropout", shard), device)
                learner.begin_part(shard)
                context = contexts(inputs, targets, training.epoch, done)
                decided = learner.strategy.sample(inputs.shape, streams.mixings[shard], context)
                plan = decided.to(device)
                part = () if shards.count == 1 else (shard, len(targets) / size)
                step = learner.step(inputs, targets, plan, *part)
                if shard == 0:
                    training.mixed_examples(plan, inputs, targets, step.plan)
                # Counted from the host's copy, unless the forward pass has settled the weights.
                totals.mixing_stats.add(decided if step.plan is plan else step.plan, targets, inputs.shape)
                totals.train_metrics.add(step.loss, step.score, len(targets))
            clock.epoch = time.perf_counter() - started
            if training.steps % settings.log_every == 0 or training.steps == len(loader):
                so_far = training.train_metrics()
                if bad := so_far.first_bad_step():
                    learner.raise_diverged(f"since step {bad + (training.epoch - 1) * len(loader)}")
                loss, train_score = so_far.read()
                clock.epoch = time.perf_counter() - started  # reading has waited for the device
                means = {"loss": loss}
                if (key := learner.objective.task.score_key) is not None:
                    means[key] = train_score
                tracker.progress(Progress(training.epoch, training.steps, means, so_far.samples / clock.epoch))
            checkpointer.after_step(training)


def score(
    training: TrainState,
    loader: Loader,
    step: int,
    checkpointer: Checkpointer,
    records: list[dict[str, Tensor]] | None = None,
) -> Scores:
    """Return the scores of the weights after a step; a step can ruin them although its own loss was finite."""
    learner, world = training.learner, training.learner.shards.world

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader.batches(world.split):
            if world.size == 1:
                checkpointer.check(training)
            yield batch

    task, model = learner.objective.task, learner.eval_model
    scores = evaluate(task, model, batches(), learner.hardware, learner.eval_forward, records, world)
    if world.size > 1:  # each has another number of batches
        checkpointer.check(training)
    if not all(map(math.isfinite, scores.values())):
        learner.raise_diverged(f"in evaluation after step {step}")
    return scores


def predictions(history: History, loaders: Loaders) -> Predictions:
    """Return the predictions of the last epoch's weights for the test samples."""
    arrays = {name: values.numpy() for name, values in history.predictions.items()}
    return Predictions(**arrays, class_names=loaders.class_names)


def score_best_epoch(training: TrainState, loaders: Loaders) -> Scores | None:
    """Return the test scores of the weights of the best epoch; the model keeps those of the last."""
    history, learner, model = training.history, training.learner, training.learner.eval_model
    if history.best_epoch is None:
        return None
    last = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(history.best_weights)
    task, world = learner.objective.task, learner.shards.world
    batches = loaders.test.batches(world.split)
    scores = evaluate(task, model, batches, learner.hardware, learner.eval_forward, world=world)
    model.load_state_dict(last)
    return scores


def prefixed(prefix: str, scores: Scores) -> Scores:
    return {f"{prefix}/{name}": value for name, value in scores.items()}
