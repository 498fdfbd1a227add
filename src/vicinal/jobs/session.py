"""One session of a run: from a checkpoint, or from nothing, to the result. A run that was interrupted has several."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import repair
from vicinal.jobs.provenance import run_metadata, write_config, write_environment
from vicinal.jobs.run_info import final_numbers, run_info, wandb_record
from vicinal.launch import gpu_memory
from vicinal.runs import checkpoint
from vicinal.runs.environment import describe, differences, fixed, others
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.shapes import misfit
from vicinal.runs.signals import GracefulShutdown
from vicinal.tracking.console import Console
from vicinal.tracking.jsonlines import JsonLines
from vicinal.tracking.mixed_sheet import MixedSheet
from vicinal.tracking.predictions_file import PredictionsFile
from vicinal.tracking.tracker import ChosenTrackers, Trackers
from vicinal.training.checkpointer import Checkpointer
from vicinal.training.hardware import apply
from vicinal.training.learner import Learner
from vicinal.training.loop import Finals, fit, predictions
from vicinal.training.mixed_examples import MixedExamples
from vicinal.training.rng_streams import RngStreams
from vicinal.training.state import TrainState
from vicinal.utils import output

log = logging.getLogger(__name__)

PANEL_BATCHES = 4
"""Batches from which the panel of mixed images is taken."""


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint.

    Attributes:
        training: of :class:`TrainState`.
        wandb_id: W&B's id of the run.
        made_with: what decides the last bits, and hashes of code and data, in the session that wrote it.
        changed: how the sessions before differed in that.
        seconds: that all sessions have taken.
    """

    training: dict[str, Any]
    wandb_id: str | None
    made_with: dict[str, Any]
    changed: list[str]
    seconds: float


def recover(experiment: Experiment) -> Saved | None:
    """The last good checkpoint of a run; None if there is none. A damaged one is named and set aside."""
    folder = experiment.folder
    for file, instead in {
        folder.checkpoint: "the one before it is used, if there is one",
        folder.previous: "the training begins anew",
    }.items():
        try:
            content = checkpoint.load(file, {"run_id": str})
            if content["run_id"] != experiment.run_id:
                raise DamagedError(file, f"it is of another run, {content['run_id']}")
            if "training" in content:
                saved = Saved(**{name: content[name] for name in Saved.__dataclass_fields__})
                if (where := misfit(content, checkpoint.TRAINING)) is not None:
                    raise DamagedError(file, f"{where} in it is not what was written")
                return saved
        except FileNotFoundError:
            continue
        except KeyError as missing:
            folder.set_aside(DamagedError(file, f"another version of Vicinal wrote it, without {missing}"), instead)
            continue
        except DamagedError as damage:
            folder.set_aside(damage, instead)
            continue
        if folder.previous.exists() and file is folder.checkpoint:
            file.unlink()  # the weights of a training that had ended, but whose result was not written yet
        else:
            folder.set_aside(DamagedError(file, "it has weights, but the result that belongs to them is lost"), instead)
    return None


def train(
    experiment: Experiment, saved: Saved | None, data: ImageData, sweep: str | None, loading: float
) -> dict[str, Any]:
    """Train to the end, and write everything, the result last. The done mark does not wait for W&B.

    Args:
        experiment: checked.
        saved: to go on from.
        data: of the run.
        sweep: the name of the sweep it belongs to, W&B's group.
        loading: seconds that the data have taken.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: the training diverged, or the code does not fit the checkpoint any more.
        Interrupted: the process was asked to stop, and everything is saved. At the end of the ``with`` that owns the
            signals it becomes what the signal means for the process.
    """
    began = time.perf_counter() - loading
    started = began - (saved.seconds if saved else 0.0)
    folder, settings, hardware = experiment.folder, experiment.trainer, experiment.hardware
    here = describe(hardware.device, hardware.precision, hardware.threads, experiment.targets)
    write_config(experiment, continued=saved is not None)
    write_environment(experiment, here, continued=saved is not None)
    apply(hardware, settings)
    gpu_memory.reset_peak(hardware.device)
    made_with = {**fixed(here), "code": here["sources"], "data": data.contents}
    news = _news(saved.made_with, made_with) if saved else []
    changed = [*(saved.changed if saved else []), *news]
    loaders = experiment.make_loaders(data)
    info, steps = run_info(experiment, sweep, saved.wandb_id if saved else None), len(loaders.train)
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
    files = JsonLines(folder.metrics), MixedSheet(folder.mixed), PredictionsFile(folder.predictions)
    # W&B begins its run beside what is left to do before the first step, and not beside that step.
    with (
        output.hurried(),
        GracefulShutdown() as shutdown,
        ChosenTrackers(experiment.trackers, info) as chosen,
        Console(settings.epochs, steps) as console,
    ):
        streams = RngStreams(experiment.seed)
        with streams.default("init"):
            model = experiment.make_model()
        learner = Learner(
            model,
            experiment.optimizer,
            experiment.scheduler,
            experiment.strategy,
            settings,
            hardware,
            steps_per_epoch=steps,
        )
        trackers = Trackers(*files, chosen, console)
        examples = MixedExamples(data, experiment.wandb.images, min(PANEL_BATCHES, steps), trackers)
        training = TrainState(learner, streams, examples, experiment.classes)

        def save(training: TrainState) -> None:
            wandb_id = wandb_record(experiment.trackers, info)["id"]
            content = Saved(training.state_dict(), wandb_id, made_with, changed, time.perf_counter() - started)
            _save(folder, {"run_id": experiment.run_id, **vars(content)})

        checkpointer = Checkpointer(save, experiment.checkpoint_every, settings.epochs, shutdown)
        ready = time.perf_counter()
        if saved:
            _restore(training, saved, news, folder)
            if training.history.predictions:  # nothing is left to train, and the last row is to be told again
                trackers.predictions(predictions(training.history, loaders))
        trackers.restore(training.history.rows, training.train_metrics.steps)
        checkpointer.save(training)
        finals = fit(training, loaders, trackers, checkpointer)
        scores = _scores(finals)
        summary = {"best_epoch": finals.best_epoch, "images_per_second": finals.images_per_second}
        trackers.finish(final_numbers(scores) | summary)
        weights = {"model": learner.eval_model.state_dict(), "best_model": training.history.best_weights}
        epochs = {"epoch": settings.epochs, "best_epoch": finals.best_epoch}
        rows, times = repair.kept(training.history.rows)
        records = {"rows": rows, "predictions": training.history.predictions, "class_names": list(data.class_names)}
        _save(folder, {"run_id": experiment.run_id, **epochs, **weights, **records})
        seconds = {"setup": ready - began, **finals.seconds, "total": time.perf_counter() - started, "epochs": times}
        result = {
            **run_metadata(experiment),
            "epochs": settings.epochs,
            "best_epoch": finals.best_epoch,
            **scores,
            "seconds": seconds,
            "images_per_second": finals.images_per_second,
            "peak_memory": gpu_memory.peak(hardware.device),
            "hardware": {
                **{name: here[name] for name in ("device", "device_name", "precision", "threads")},
                "compile": hardware.compile,
            },
            "versions": here["versions"],
            "data": data.contents,
            "skipped_files": list(data.skipped),
            "changed": changed,
            "wandb": wandb_record(experiment.trackers, info),
        }
        return folder.complete(result)  # the done mark; at its end the `with` waits for W&B


def _news(made: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """How a session differs from the one before in what decides its numbers."""
    bits = {name: value for name, value in here.items() if not isinstance(value, Mapping)}
    return [*differences(made, bits), *others(made, here)]


def _restore(training: TrainState, saved: Saved, news: list[str], folder: RunFolder) -> None:
    try:
        training.load_state_dict(saved.training)
    except Exception as error:  # of torch, by what does not fit
        reason = (
            " ".join(str(error).split("\n")[:2]).replace("\t", "").strip()
        )  # torch says which key in the second line
        raise UserError(
            f"the checkpoint does not fit the code any more ({reason}); rerun=true trains from the beginning"
        ) from error
    for line in news:
        more = "rerun=true trains from the beginning" if line.startswith("other ") else "the last bits may differ"
        log.warning("it is not continued as it was begun: %s; %s", line, more)
    rows = training.history.rows
    if folder.rows()[: len(rows)] != rows:
        log.warning("%s is not what was written; it is written again, as the checkpoint has it", folder.metrics)
    log.info("going on in epoch %d after step %d", training.epoch, training.train_metrics.steps)
    training.mixed_examples.show()


def _save(folder: RunFolder, content: dict[str, Any]) -> None:
    if folder.checkpoint.exists():
        checkpoint.keep(folder.checkpoint, folder.previous)
    checkpoint.save(folder.checkpoint, content)


def _scores(finals: Finals) -> dict[str, Any]:
    return {
        "val": finals.val,
        "val_best": finals.val_best,
        "test": {"last": finals.test_last, "best_val": finals.test_best_val, "median10": finals.test_median10},
    }
