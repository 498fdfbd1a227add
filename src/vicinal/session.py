"""One session of a run: from a checkpoint, or from nothing, to the result. A run that was interrupted has several."""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from vicinal import memory
from vicinal.config import CONF
from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.runs import checkpoint
from vicinal.runs.environment import code, describe, differences, fixed, redact
from vicinal.runs.files import DamagedError, sha256, write, write_json
from vicinal.runs.folder import RunFolder
from vicinal.runs.interruption import Interruption
from vicinal.runs.predictions import Predictions
from vicinal.tracking.console import Console
from vicinal.tracking.jsonlines import JsonLines
from vicinal.tracking.mixed_sheet import MixedSheet
from vicinal.tracking.predictions_file import PredictionsFile
from vicinal.tracking.tracker import RunInfo, Trackers
from vicinal.tracking.wandb_tracker import WandbTracker
from vicinal.training.hardware import apply
from vicinal.training.keeper import Keeper
from vicinal.training.learner import Learner
from vicinal.training.loop import Finals, fit, predictions
from vicinal.training.panel import Panel
from vicinal.training.state import Training
from vicinal.training.streams import Streams

log = logging.getLogger(__name__)

PANEL_BATCHES = 4
"""Batches from which the panel of mixed images is taken."""


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint.

    Attributes:
        training: of :class:`Training`.
        wandb_id: W&B's id of the run.
        made_with: what decides the last bits, and the source's hash, in the session that wrote it.
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
            content = checkpoint.load(file)
            if content["run_id"] != experiment.run_id:
                raise DamagedError(f"it is of another run, {content['run_id']}")
            if "training" in content:
                return Saved(**{name: content[name] for name in Saved.__dataclass_fields__})
        except FileNotFoundError:
            continue
        except KeyError as missing:
            folder.set_aside(file, DamagedError(f"another version of Vicinal wrote it, without {missing}"), instead)
            continue
        except DamagedError as damage:
            folder.set_aside(file, damage, instead)
            continue
        if folder.previous.exists() and file is folder.checkpoint:
            file.unlink()  # the weights of a training that had ended, but whose result was not written yet
        else:
            folder.set_aside(file, DamagedError("it has weights, but the result that belongs to them is lost"), instead)
    return None


def train(experiment: Experiment, saved: Saved | None, data: ImageData | None, sweep: str | None) -> dict[str, Any]:
    """Train to the end, and write everything but the result.

    Args:
        experiment: checked.
        saved: to go on from.
        data: where it has been loaded already.
        sweep: the name of the sweep it belongs to, W&B's group.

    Returns:
        The content of ``result.json``, but its status.

    Raises:
        UserError: the data cannot be had, the training diverged, or the code does not fit the checkpoint any more.
        Interrupted: the process was asked to stop, and everything is saved. At the end of the ``with`` that owns the
            signals it becomes what the signal means for the process.
    """
    began = time.perf_counter()
    started = began - (saved.seconds if saved else 0.0)
    folder, settings, hardware = experiment.folder, experiment.trainer, experiment.hardware
    here = describe(hardware.device, hardware.precision, hardware.threads)
    _write_config(experiment, continued=saved is not None)
    _write_environment(experiment, here, continued=saved is not None)
    made_with = {**fixed(here), "source": here["source"]}
    news = [] if saved is None else differences(saved.made_with, made_with)
    changed = [*(saved.changed if saved else []), *news]
    apply(hardware, settings)
    memory.reset_peak(hardware.device)
    data = data or experiment.load_data()
    loaders = experiment.make_loaders(data)
    streams = Streams(experiment.seed)
    with streams.default("init"):
        model = experiment.make_model()
    learner = Learner(
        model,
        experiment.optimizer,
        experiment.scheduler,
        experiment.strategy,
        settings,
        hardware,
        steps_per_epoch=len(loaders.train),
    )
    info = _info(experiment, len(loaders.train), sweep)
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
    wandb = _wandb(experiment, info, saved.wandb_id if saved else None)

    def save(training: Training) -> None:
        content = Saved(training.state_dict(), wandb.id, made_with, changed, time.perf_counter() - started)
        _save(folder, {"run_id": experiment.run_id, **vars(content)})

    ready = time.perf_counter()
    files = JsonLines(folder.metrics), MixedSheet(folder.mixed), PredictionsFile(folder.predictions)
    with Interruption() as interruption, Trackers(*files, wandb, Console(info)) as trackers:
        panel = Panel(data, experiment.wandb.images, min(PANEL_BATCHES, len(loaders.train)), trackers)
        training = Training(learner, streams, panel, experiment.classes)
        keeper = Keeper(save, experiment.checkpoint_every, settings.epochs, interruption)
        if saved:
            _restore(training, saved, news, folder)
            if training.history.predictions:  # nothing is left to train, and the last row is to be told again
                trackers.predictions(predictions(training.history, loaders))
        trackers.restore(training.history.rows, training.tally.steps)
        keeper.save(training)
        finals = fit(training, loaders, trackers, keeper)
        scores = _scores(finals)
        summary = {"best_epoch": finals.best_epoch, "images_per_second": finals.images_per_second}
        trackers.finish(_flat(scores) | summary)
    weights = {"model": learner.evaluated.state_dict(), "best_model": training.history.best_weights}
    epochs = {"epoch": settings.epochs, "best_epoch": finals.best_epoch}
    _save(folder, {"run_id": experiment.run_id, **epochs, **weights})
    return {
        **heading(experiment),
        "epochs": settings.epochs,
        "best_epoch": finals.best_epoch,
        **scores,
        "seconds": {"setup": ready - began, **finals.seconds, "total": time.perf_counter() - started},
        "images_per_second": finals.images_per_second,
        "peak_memory": memory.peak(hardware.device),
        "hardware": {
            **{name: here[name] for name in ("device", "device_name", "precision", "threads")},
            "compile": hardware.compile,
        },
        "versions": here["versions"],
        "changed": changed,
        "wandb": {"mode": wandb.mode, "id": wandb.id},
    }


def show(experiment: Experiment, result: dict[str, Any]) -> None:
    """Tell W&B of a completed run anew, as a run of its own.

    Args:
        experiment: of the run.
        result: its ``result.json``.
    """
    folder = experiment.folder
    with _wandb(experiment, _info(experiment, 1, sweep=None), id=None) as wandb:
        with suppress(FileNotFoundError, DamagedError):  # a view can do without
            wandb.predictions(Predictions.load(folder.predictions))
        wandb.restore(folder.rows(), step=0)
        summary = {name: result[name] for name in ("best_epoch", "images_per_second")}
        wandb.finish(_flat({name: result[name] for name in ("val", "val_best", "test")}) | summary)


def heading(experiment: Experiment) -> dict[str, Any]:
    """Who a result belongs to; free of secrets."""
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "name": experiment.name,
        "seed": experiment.seed,
        "choices": experiment.choices,
        "config": json.loads(redact(json.dumps(experiment.settings()))),
    }


def _restore(training: Training, saved: Saved, news: list[str], folder: RunFolder) -> None:
    try:
        training.load_state_dict(saved.training)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = (
            " ".join(str(error).split("\n")[:2]).replace("\t", "").strip()
        )  # torch says which key in the second line
        raise UserError(
            f"the checkpoint does not fit the code any more ({reason}); rerun=true trains from the beginning"
        ) from error
    for line in news:
        log.warning("it is not continued as it was begun: %s; the last bits may differ", line)
    rows = training.history.rows
    if folder.rows()[: len(rows)] != rows:
        log.warning("%s is not what was written; it is written again, as the checkpoint has it", folder.metrics)
    log.info("going on in epoch %d after step %d", training.epoch, training.tally.steps)
    training.panel.show()


def _save(folder: RunFolder, content: dict[str, Any]) -> None:
    if folder.checkpoint.exists():
        checkpoint.keep(folder.checkpoint, folder.previous)
    checkpoint.save(folder.checkpoint, content)


def _write_config(experiment: Experiment, continued: bool) -> None:
    file, content = experiment.folder.config, config_file(experiment)
    if continued and not file.exists():
        log.warning("%s is missing; it is written again", file)
    elif continued and file.read_bytes() != content:  # damaged, or the folder or W&B's settings are others now
        log.warning("%s is not what is asked for now; it is written again", file)
    write(file, content)


def _write_environment(experiment: Experiment, here: dict[str, Any], continued: bool) -> None:
    content, file = here, experiment.folder.environment
    if continued:
        try:
            earlier = json.loads(file.read_bytes())
            if earlier.pop("checksum", None) != _checksum(experiment, earlier):
                raise ValueError
            again = {name: value for name, value in here.items() if value != earlier.get(name)}
            content = {**earlier, "continued": [*earlier.get("continued", []), again]}
        except FileNotFoundError:
            log.warning("%s is missing; it is begun anew", file)
        except (ValueError, TypeError, AttributeError):
            experiment.folder.set_aside(file, DamagedError("it is not what was written"), "and begun anew")
    write_json(file, {**content, "checksum": _checksum(experiment, content)})


def _checksum(experiment: Experiment, environment: dict[str, Any]) -> str:
    """Of the sessions so far, of this run: they have to be whole when the last of them seals all files."""
    return sha256(json.dumps([experiment.run_id, environment]).encode())


def _wandb(experiment: Experiment, info: RunInfo, id: str | None) -> WandbTracker:  # noqa: A002 - W&B's own name
    settings = experiment.wandb
    return WandbTracker(
        info,
        mode=settings.mode,
        project=settings.project,
        entity=settings.entity,
        tags=settings.tags,
        images=settings.images,
        id=id,
    )


def _info(experiment: Experiment, steps_per_epoch: int, sweep: str | None) -> RunInfo:
    about = heading(experiment)
    return RunInfo(
        name=f"{experiment.name}-s{experiment.seed}",
        run_id=experiment.run_id,
        cell_id=experiment.cell_id,
        config=about["config"],
        choices=experiment.choices,
        sweep=sweep,
        git_commit=code()[0],
        folder=experiment.folder.path,
        epochs=experiment.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=experiment.trainer.batch_size,
    )


def _scores(finals: Finals) -> dict[str, Any]:
    return {
        "val": finals.val,
        "val_best": finals.val_best,
        "test": {"last": finals.test_last, "best_val": finals.test_best_val, "median10": finals.test_median10},
    }


def _flat(scores: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """{"test": {"last": {"acc1": .98}}} as {"test/last/acc1": .98}."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat


def config_file(experiment: Experiment) -> bytes:
    """``config.yaml``: resolved, and a primary config of its own, so that Hydra can be given it back."""
    primary = _primary()
    settings = [dict(item) for item in primary.defaults if "hydra/" in str(item)]
    command = f"python train.py --config-path {experiment.folder.path} --config-name config"
    header = f"# The resolved config of {experiment.run_id}. To run it again: {command}\n"
    parts = [{"defaults": ["schema", "_self_", *settings]}, experiment.config, {"hydra": primary.hydra}]
    return (header + redact("".join(OmegaConf.to_yaml(part) for part in parts))).encode()


@cache
def _primary() -> Any:
    return OmegaConf.load(CONF / "config.yaml")
