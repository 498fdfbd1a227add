"""One session of a run: from a checkpoint, or from nothing, to the result. A run that was interrupted has several."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from vicinal.build import make_loaders, make_model
from vicinal.data import ImageData
from vicinal.experiment import Experiment
from vicinal.jobs import repair
from vicinal.jobs.provenance import run_metadata, write_config, write_environment
from vicinal.jobs.resume import Saved, news_since, restore
from vicinal.jobs.run_info import final_numbers, run_info, wandb_record
from vicinal.launch import gpu_memory
from vicinal.runs import checkpoint
from vicinal.runs.environment import describe, fixed
from vicinal.runs.files import write
from vicinal.runs.folder import RunFolder
from vicinal.runs.signals import GracefulShutdown
from vicinal.tracking.console import Console
from vicinal.tracking.run_files import RunFiles
from vicinal.tracking.tracker import RunInfo, Tracker, Trackers
from vicinal.training.checkpointer import Checkpointer
from vicinal.training.hardware import apply
from vicinal.training.learner import Learner
from vicinal.training.loop import Loaders, fit, predictions
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.rng_streams import RngStreams
from vicinal.training.state import TrainState
from vicinal.utils import output

log = logging.getLogger(__name__)

EXAMPLE_BATCHES = 4
"""Batches from which the mixed examples are taken."""


@dataclass(frozen=True)
class RunContext:
    """One session of a run, prepared: its files are begun, and the process is set up for it.

    Attributes:
        experiment: checked.
        data: of the run.
        loaders: of the data.
        info: the run, for trackers.
        here: the environment of this session.
        made_with: what of it decides the last bits, with hashes of code and data.
        news: how it differs from that of the session before.
        changed: how all sessions so far have differed.
        began: seconds of ``time.perf_counter`` at the start of this session.
        earlier: seconds that the sessions before have taken.
    """

    experiment: Experiment
    data: ImageData
    loaders: Loaders
    info: RunInfo
    here: dict[str, Any]
    made_with: dict[str, Any]
    news: list[str]
    changed: list[str]
    began: float
    earlier: float

    @property
    def folder(self) -> RunFolder:
        return self.experiment.folder

    @property
    def wandb(self) -> dict[str, Any]:
        """Mode, id, name and group of the run at W&B, as far as they are known."""
        return wandb_record(self.experiment.trackers, self.info)

    def seconds(self) -> float:
        """Return the seconds that all sessions have taken so far."""
        return self.earlier + time.perf_counter() - self.began

    def save(self, content: dict[str, Any]) -> None:
        """Write a checkpoint, and keep the one before it."""
        if self.folder.checkpoint.exists():
            checkpoint.keep(self.folder.checkpoint, self.folder.previous)
        checkpoint.save(self.folder.checkpoint, {"run_id": self.experiment.run_id, **content})


def train(
    experiment: Experiment, saved: Saved | None, data: ImageData, sweep: str | None, loading: float
) -> dict[str, Any]:
    """Train to the end, and write everything, the result last. The done mark does not wait for W&B.

    Args:
        experiment: checked.
        saved: checkpoint to resume from.
        data: of the run.
        sweep: name of the sweep it belongs to, W&B's group.
        loading: seconds that loading the data has taken.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: the training diverged, or the code does not fit the checkpoint any more.
        Interrupted: the process was asked to stop, and everything is saved. At the end of the ``with`` that owns the
            signals it becomes what the signal means for the process.
    """
    context = prepare(experiment, saved, data, sweep, loading)
    folder, epochs, steps = experiment.folder, experiment.trainer.epochs, len(context.loaders.train)
    own = RunFiles(folder), Console(steps)
    # W&B begins its run beside what is left to do before the first step, and not beside that step.
    with (
        output.hurried(),
        GracefulShutdown() as shutdown,
        Trackers(context.info, *own, chosen=experiment.trackers) as trackers,
    ):
        state = begin(context, trackers)

        def save(state: TrainState) -> None:
            wandb_id, seconds = context.wandb["id"], context.seconds()
            context.save(vars(Saved(state.state_dict(), wandb_id, context.made_with, context.changed, seconds)))

        checkpointer = Checkpointer(save, experiment.checkpoint_every, epochs, shutdown)
        ready = time.perf_counter() - context.began
        if saved:
            restore(state, saved, context.news, folder)
            if state.history.predictions:  # nothing is left to train, and the last row has to be told again
                trackers.predictions(predictions(state.history, context.loaders))
        trackers.restore(state.history.rows, state.train_metrics.steps)
        checkpointer.save(state)
        scores = fit(state, context.loaders, trackers, checkpointer)
        speed = state.clock.images_per_second
        trackers.finish(final_numbers(scores) | {"best_epoch": state.history.best_epoch, "images_per_second": speed})
        # The done mark; at its end the `with` waits for W&B.
        return folder.complete(conclude(context, state, scores, ready))


def prepare(
    experiment: Experiment, saved: Saved | None, data: ImageData, sweep: str | None, loading: float
) -> RunContext:
    """Write what a run's folder says of it, and set the process up. Arguments as for :func:`train`."""
    began = time.perf_counter() - loading
    settings, hardware = experiment.trainer, experiment.hardware
    here = describe(hardware.device, hardware.precision, hardware.threads, experiment.targets)
    write_config(experiment, continued=saved is not None)
    write_environment(experiment, here, continued=saved is not None)
    apply(hardware, settings)
    gpu_memory.reset_peak(hardware.device)
    made_with = {**fixed(here), "code": here["sources"], "data": data.contents}
    news = news_since(saved, made_with) if saved else []
    info = run_info(experiment, sweep, saved.wandb_id if saved else None)
    log.info(
        "%s on %s (%s, %d threads): %d images to train on, %d to validate, %d to test",
        info.name,
        hardware.device.type,
        hardware.precision,
        hardware.threads,
        len(data.train.labels),
        0 if data.val is None else len(data.val.labels),
        len(data.test.labels),
    )
    if data.noise is not None:
        write(experiment.folder.noisy_labels, data.noise.to_csv(data.train.rows).encode())
        log.info(
            "%d training labels are wrong on purpose (dataset.label_noise), as listed in %s",
            len(data.noise.index),
            experiment.folder.noisy_labels.name,
        )
    return RunContext(
        experiment,
        data,
        make_loaders(experiment, data),
        info,
        here,
        made_with,
        news,
        changed=[*(saved.changed if saved else []), *news],
        began=began,
        earlier=saved.seconds if saved else 0.0,
    )


def begin(context: RunContext, tracker: Tracker) -> TrainState:
    """Return a new training: network, optimizer, schedule and random streams, before the first step."""
    experiment, steps = context.experiment, len(context.loaders.train)
    streams = RngStreams(experiment.seed)
    with streams.default("init"):
        model = make_model(experiment)
    learner = Learner(
        model,
        experiment.optimizer,
        experiment.scheduler,
        experiment.strategy,
        experiment.trainer,
        experiment.hardware,
        steps_per_epoch=steps,
    )
    examples = MixedExamples(context.data, experiment.wandb.images, min(EXAMPLE_BATCHES, steps), tracker)
    return TrainState(learner, streams, examples, experiment.classes)


def conclude(context: RunContext, state: TrainState, scores: dict[str, Any], ready: float) -> dict[str, Any]:
    """Save the final weights, and return the content of ``result.json``.

    Args:
        context: of the session.
        state: after the last epoch.
        scores: by :func:`fit`.
        ready: seconds from the start of the session to its first step.
    """
    experiment, history, hardware = context.experiment, state.history, context.experiment.hardware
    rows, times = repair.kept(history.rows)
    seconds = {"train": state.clock.train, "evaluation": state.clock.evaluation}
    context.save(
        {
            "epoch": experiment.trainer.epochs,
            "best_epoch": history.best_epoch,
            "model": state.learner.eval_model.state_dict(),
            "best_model": history.best_weights,
            "rows": rows,
            "predictions": history.predictions,
            "class_names": list(context.data.class_names),
        }
    )
    return {
        **run_metadata(experiment),
        "epochs": experiment.trainer.epochs,
        "best_epoch": history.best_epoch,
        **scores,
        "seconds": {"setup": ready, **seconds, "total": context.seconds(), "epochs": times},
        "images_per_second": state.clock.images_per_second,
        "peak_memory": gpu_memory.peak(hardware.device),
        "hardware": {
            **{name: context.here[name] for name in ("device", "device_name", "precision", "threads")},
            "compile": hardware.compile,
        },
        "versions": context.here["versions"],
        "data": context.data.contents,
        "skipped_files": list(context.data.skipped),
        "noisy_labels": 0 if context.data.noise is None else len(context.data.noise.index),
        "changed": context.changed,
        "wandb": context.wandb,
    }
