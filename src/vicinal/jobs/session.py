"""One session of a run: from a checkpoint, or from nothing, to the result. A run that was interrupted has several."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from vicinal.build import initialise, make_loaders, make_model, warn_of_statistics
from vicinal.data import RunData
from vicinal.experiment import Experiment
from vicinal.jobs.provenance import kept, run_metadata, write_config, write_environment
from vicinal.jobs.resume import Saved, load, restore
from vicinal.jobs.run_info import final_numbers, run_info, wandb_record
from vicinal.launch import gpu_memory
from vicinal.launch.slurm import taken_away
from vicinal.runs import checkpoint
from vicinal.runs.background import Background
from vicinal.runs.environment import describe, fixed
from vicinal.runs.files import write
from vicinal.runs.signals import GracefulShutdown, Interrupted
from vicinal.tasks import Task, recorded
from vicinal.tracking.console import Console
from vicinal.tracking.run_files import RunFiles
from vicinal.tracking.tracker import Tracker, Trackers
from vicinal.tracking.wandb.settings import agent_run
from vicinal.training.checkpointer import Checkpointer, Stop
from vicinal.training.hardware import apply
from vicinal.training.learner import Learner
from vicinal.training.loop import fit, predictions
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.rng_streams import RngStreams
from vicinal.training.state import TrainState
from vicinal.utils import output

log = logging.getLogger(__name__)

EXAMPLE_BATCHES = 4  # batches from which the mixed examples are taken


class RunContext:
    """One session of a run, with its files begun and the process set up; ``loading`` seconds went into the data."""

    def __init__(self, experiment: Experiment, saved: Saved, data: RunData, sweep: str | None, loading: float):
        self._began = time.perf_counter() - loading
        self._earlier = saved.seconds
        self.experiment, self.data, self.folder = experiment, data, experiment.folder
        hardware, continued = experiment.hardware, saved.training is not None
        about = (experiment.targets, experiment.packages)
        self.folder.check_lock()  # loading the data may have taken long
        self._here = describe(hardware.device, hardware.precision, hardware.threads, *about)
        write_config(experiment, continued)
        write_environment(experiment, self._here, continued)
        apply(hardware, experiment.trainer)
        gpu_memory.reset_peak(hardware.device)
        self._made_with = {**fixed(self._here), "code": self._here["sources"], "data": data.contents}
        if experiment.shards.count > 1 and not experiment.shards.exact:
            self._made_with["processes"] = experiment.shards.world.size
        self.news = saved.news(self._made_with)
        self._changed = [*saved.changed, *self.news]
        self.info = run_info(experiment, sweep, saved.wandb_id)
        precision = hardware.precision
        if precision == "fp32" and "tf32" in self._here:
            precision += f", TF32 for {self._here['tf32']}"
        log.info(
            "%s on %s (%s, %d threads): %d %s to train on, %d to validate, %d to test",
            *(self.info.name, hardware.device.type, precision, hardware.threads),
            len(data.train.targets),
            experiment.sizes.inputs.noun,
            *(0 if part is None else len(part.targets) for part in (data.val, data.test)),
        )
        if hardware.slow:
            text = "trainer.precision=%s is slower than fp32 on this processor, up to ten times if it only emulates it"
            log.warning(text, precision)
        if (shards := experiment.shards).count > 1:
            by = "one process" if shards.world.size == 1 else f"{shards.world.size} processes"
            log.info("each batch in %d parts (trainer.shards), by %s", shards.count, by)
        self._counts = experiment.task.counts(data.true_targets, experiment.sizes.classes)
        if experiment.dataset.values["imbalance"] != "none":
            sizes = ", ".join(f"{name} {count}" for name, count in zip(data.class_names, self._counts, strict=True))
            log.info("training images per class (dataset.imbalance): %s", sizes)
        if data.noise is not None:
            file = self.folder.noisy_labels
            write(file, data.noise.to_csv(data.train.rows).encode())
            text = "%d training labels are wrong on purpose (dataset.label_noise), as listed in %s"
            log.info(text, len(data.noise.index), file.name)
        self.task = experiment.task.bind(data, uneven=experiment.dataset.values["imbalance"] != "none")
        self._baseline = self.task.baseline(data)
        if self._baseline is not None:
            score = self._baseline["test"][self.task.selection]
            log.info("%s on the same samples: test %s %.4f", self._baseline["name"], self.task.selection, score)
        self.loaders = make_loaders(experiment, data)
        self.writing = Background("a checkpoint")
        """Writes the checkpoints of a training on a GPU; ``with`` it, none is left unwritten."""

    def session_seconds(self) -> float:
        return time.perf_counter() - self._began

    def begin(self, tracker: Tracker) -> TrainState:
        """Return a new training, before the first step."""
        return new_training(self.experiment, self.data, self.task, len(self.loaders.train), tracker)

    def save(self, content: dict[str, Any]) -> None:
        """Write a checkpoint, and keep the one before it."""
        self.folder.check_lock()
        if self.folder.checkpoint.exists():
            checkpoint.keep(self.folder.checkpoint, self.folder.previous)
        checkpoint.save(self.folder.checkpoint, {"run_id": self.experiment.run_id, **content})

    def save_training(self, state: TrainState) -> None:
        """Write a checkpoint from which the training can be resumed, by as many processes as there are then.

        Where :func:`writes_beside` says so, it is copied to the host, and written while the training goes on: what is
        loaded from it is the training at this moment. The one before is in its place until then. If that could not be
        written, this one is written in line, as a last try. Not measured on a GPU yet.
        """
        wandb_id = wandb_record(self.experiment.trackers, self.info)["id"]
        seconds = self._earlier + self.session_seconds()
        content = vars(Saved(state.state_dict(), wandb_id, self._made_with, self._changed, seconds))
        if writes_beside(self.experiment):
            self.folder.check_lock()
            try:
                self.writing.wait()  # before the copy: two of them may be more than the host's memory
            except OSError as error:
                log.warning("the last checkpoint could not be written: %s", error)
            else:
                self.writing.start(partial(self.save, checkpoint.copied(content)))
                return
        self.save(content)
        self.experiment.shards.world.first()  # the other processes go on, or leave, when all is written

    def conclude(self, state: TrainState, scores: dict[str, Any], ready: float) -> dict[str, Any]:
        """Save the final weights, and return the content of ``result.json``; its setup took ``ready`` seconds."""
        self.writing.wait()
        experiment, data, here = self.experiment, self.data, self._here
        history, clock = state.history, state.clock
        rows, times = kept(history.rows)
        self.save(
            {
                "epoch": experiment.trainer.epochs,
                "best_epoch": history.best_epoch,
                "model": state.learner.eval_model.state_dict(),
                "best_model": history.best_weights,
                "rows": rows,
                "predictions": history.predictions,
                "class_names": list(data.class_names),
            }
        )
        total = self._earlier + self.session_seconds()
        spent = {"setup": ready, "train": clock.train, "evaluation": clock.evaluation, "total": total, "epochs": times}
        return {
            **run_metadata(experiment),
            "task": recorded(self.task),
            "epochs": experiment.trainer.epochs,
            "best_epoch": history.best_epoch,
            **scores,
            "seconds": spent,
            "images_per_second": clock.images_per_second,
            "peak_memory": gpu_memory.peak(experiment.hardware.device),
            "hardware": {
                **{
                    name: here[name]
                    for name in ("device", "device_name", "precision", "tf32", "threads")
                    if name in here
                },
                "compile": experiment.hardware.compile,
                **({"processes": experiment.shards.world.size} if experiment.shards.count > 1 else {}),
            },
            "versions": here["versions"],
            "data": data.contents,
            "skipped_files": list(data.skipped),
            "class_counts": self._counts.tolist(),
            "noisy_labels": 0 if data.noise is None else len(data.noise.index),
            "baseline": self._baseline,
            "changed": self._changed,
            "wandb": wandb_record(experiment.trackers, self.info),
        }


def writes_beside(experiment: Experiment) -> bool:
    """Return whether checkpoints are written while the training goes on: on a GPU, which would stand still meanwhile.

    On a CPU there is nothing to gain, the cores are busy. Several processes wait for what they save together.
    """
    return experiment.hardware.device.type == "cuda" and experiment.shards.world.size == 1


def new_training(experiment: Experiment, data: RunData, task: Task, steps: int, tracker: Tracker) -> TrainState:
    """Return network, optimizer, schedule and random streams, before the first of so many ``steps`` per epoch."""
    streams = RngStreams(experiment.seed, experiment.shards)
    with streams.default("init"):
        model = make_model(experiment)
    initialise(model, experiment, data)
    warn_of_statistics(model, data)
    parts = (experiment.optimizer, experiment.scheduler, experiment.strategy)
    settings, hardware, shards = experiment.trainer, experiment.hardware, experiment.shards
    counts = task.counts(data.train.targets, experiment.sizes.classes)
    factor = experiment.optimizer.values["norm_bias_lr"]
    more: dict[str, Any] = {"task": task, "counts": counts, "shards": shards, "norm_bias_lr": factor}
    learner = Learner(model, *parts, settings, hardware, steps, **more)
    examples = MixedExamples(data, experiment.wandb.images, min(EXAMPLE_BATCHES, steps), tracker, task)
    return TrainState(learner, streams, examples, counts)


def assist(experiment: Experiment, saved: Saved, data: RunData, stop: Stop | None = None) -> None:
    """Compute the own parts of a training that the first process reports and saves; write nothing.

    Raises as :func:`train`.
    """
    apply(experiment.hardware, experiment.trainer)
    task = experiment.task.bind(data, uneven=experiment.dataset.values["imbalance"] != "none")
    loaders, silent = make_loaders(experiment, data), Tracker()
    state = new_training(experiment, data, task, len(loaders.train), silent)

    def save(state: TrainState) -> None:
        state.state_dict()  # sends the own part of it
        experiment.shards.world.first()  # which has written it

    with GracefulShutdown() as shutdown:
        every, world = experiment.checkpoint_every, experiment.shards.world
        checkpointer = Checkpointer(save, every, experiment.trainer.epochs, shutdown, world, stop)
        if saved.training is not None:
            load(state, saved)
        checkpointer.save(state)
        fit(state, loaders, silent, checkpointer)


def train(
    experiment: Experiment,
    saved: Saved,
    data: RunData,
    sweep: str | None,
    loading: float,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train to the end, and write everything, the result last; return it. The done mark does not wait for W&B.

    Raises UserError if the training diverged, or if the code does not fit the checkpoint any more. After a signal it
    saves all and raises Interrupted, which the ``with`` that owns the signals turns into the meaning of the signal. If
    ``stop`` says so it saves all and raises StoppedEarly.
    """
    context = RunContext(experiment, saved, data, sweep, loading)
    folder, epochs, loaders = experiment.folder, experiment.trainer.epochs, context.loaders
    own = RunFiles(folder), Console(len(loaders.train), noun=experiment.sizes.inputs.noun)
    # W&B begins its run during the rest of the setup, and not during the first step.
    with (
        output.hurried(),
        GracefulShutdown() as shutdown,
        Trackers(context.info, *own, chosen=experiment.trackers) as trackers,
        context.writing,
    ):
        state = context.begin(trackers)
        every, world = experiment.checkpoint_every, experiment.shards.world
        wait = context.writing.wait
        checkpointer = Checkpointer(context.save_training, every, epochs, shutdown, world, stop, wait)
        ready = context.session_seconds()
        if saved.training is not None:
            restore(state, saved, context.news, folder)
            if state.history.predictions:  # nothing is left to train, and the last row has to be reported again
                trackers.predictions(predictions(state.history, loaders))
        trackers.restore(state.history.rows, state.steps)
        checkpointer.save(state)
        try:
            scores = fit(state, loaders, trackers, checkpointer)
        except Interrupted:
            if agent_run() and taken_away(shutdown.signal or 0):
                trackers.taken_away()
            raise
        speed = state.clock.images_per_second
        trackers.finish(final_numbers(scores) | {"best_epoch": state.history.best_epoch, "images_per_second": speed})
        # The done mark; at its end the `with` waits for W&B.
        return folder.complete(context.conclude(state, scores, ready))
