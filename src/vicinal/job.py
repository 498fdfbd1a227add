"""One job from its config to its result."""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any

import torch
from omegaconf import OmegaConf

from vicinal.config import CONF
from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.runs.environment import code, describe, redact
from vicinal.runs.folder import write_json
from vicinal.tracking import Console, JsonLines, RunInfo, Trackers, WandbTracker
from vicinal.training.hardware import apply
from vicinal.training.learner import Learner
from vicinal.training.loop import Finals, fit
from vicinal.training.panel import Panel
from vicinal.training.streams import Streams

log = logging.getLogger(__name__)

PANEL_BATCHES = 4
"""Batches from which the panel of mixed images is taken."""


def run(experiment: Experiment, sweep: str | None = None) -> dict[str, Any]:
    """Train one experiment, unless it is done already.

    Args:
        experiment: checked.
        sweep: the name of the sweep it belongs to, W&B's group.

    Returns:
        The content of its ``result.json``.

    Raises:
        UserError: the data cannot be had, or the training diverged. The reason is in ``result.json`` too.
    """
    folder = experiment.folder
    done = folder.completed()
    if experiment.config["dry_run"]:
        log.info("%s: %s", folder.path, "done" if done else "new")
        return done or {}
    if done and not experiment.config["rerun"]:
        log.info("already completed: %s (rerun=true trains it again)", folder.path)
        _tell_differences(done, experiment)
        return done
    for line in experiment.idle():
        log.info("%s", line)
    data = experiment.load_data() if done else None  # data that cannot be had must not cost the result that is there
    folder.clear()
    with folder.logging():
        try:
            result = _train(experiment, data, sweep)
        except Exception as error:
            known = isinstance(error, UserError)
            reason = redact(str(error) if known else f"{type(error).__name__}: {error}")
            write_json(folder.result, {**_heading(experiment), "status": "failed", "error": reason})
            with folder.log.open("a") as own_log:  # whoever called decides what the terminal shows
                own_log.write(f"failed: {reason}\n" if known else redact(traceback.format_exc()))
            raise
        write_json(folder.result, result)
    log.info("%s", _verdict(result))
    log.info("results in %s", folder.path)
    return result


def _train(experiment: Experiment, data: ImageData | None, sweep: str | None) -> dict[str, Any]:
    started = time.perf_counter()
    folder, settings, hardware = experiment.folder, experiment.trainer, experiment.hardware
    folder.config.write_text(_config_file(experiment))
    environment = describe(hardware.device, hardware.precision, hardware.threads)
    write_json(folder.environment, environment)
    apply(hardware, settings)
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
    info = RunInfo(
        name=f"{experiment.name}-s{experiment.seed}",
        run_id=experiment.run_id,
        cell_id=experiment.cell_id,
        config=_public_config(experiment),
        choices=experiment.choices,
        sweep=sweep,
        git_commit=code()[0],
        folder=folder.path,
        epochs=settings.epochs,
        steps_per_epoch=len(loaders.train),
        batch_size=settings.batch_size,
    )
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
    wandb = WandbTracker(
        info,
        mode=experiment.wandb.mode,
        project=experiment.wandb.project,
        entity=experiment.wandb.entity,
        tags=experiment.wandb.tags,
        images=experiment.wandb.images,
    )
    ready = time.perf_counter()
    with Trackers(JsonLines(folder.metrics), wandb, Console(info)) as trackers:
        panel = Panel(data, experiment.wandb.images, min(PANEL_BATCHES, len(loaders.train)), trackers)
        finals = fit(learner, loaders, streams, trackers, watch=panel)
        scores = _scores(finals)
        trackers.finish(
            _flat(scores) | {"best_epoch": finals.best_epoch, "images_per_second": finals.images_per_second}
        )
    torch.save({"epoch": settings.epochs, "model": learner.evaluated.state_dict()}, folder.checkpoint)
    return {
        **_heading(experiment),
        "status": "completed",
        "epochs": settings.epochs,
        "best_epoch": finals.best_epoch,
        **scores,
        "seconds": {"setup": ready - started, **finals.seconds, "total": time.perf_counter() - started},
        "images_per_second": finals.images_per_second,
        "hardware": {name: environment[name] for name in ("device", "device_name", "precision", "threads")},
        "versions": environment["versions"],
        "wandb": {"mode": wandb.mode, "id": wandb.id},
    }


def _heading(experiment: Experiment) -> dict[str, Any]:
    return {
        "run_id": experiment.run_id,
        "cell_id": experiment.cell_id,
        "name": experiment.name,
        "seed": experiment.seed,
        "choices": experiment.choices,
        "config": _public_config(experiment),
    }


def _public_config(experiment: Experiment) -> dict[str, Any]:
    """As result.json and W&B are told it: without the choices, which stand beside it, and free of secrets."""
    config = {name: value for name, value in experiment.config.items() if name != "_choices_"}
    public: dict[str, Any] = json.loads(redact(json.dumps(config)))
    return public


def _scores(finals: Finals) -> dict[str, Any]:
    return {
        "val": finals.val,
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


def _verdict(result: dict[str, Any]) -> str:
    test, parts = result["test"], []
    for name, label in {
        "last": "last epoch",
        "best_val": "best by validation",
        "median10": "median of last 10",
    }.items():
        if test[name] is not None:
            parts.append(f"{label} {test[name]['acc1']:.4f}")
    return "test acc1: " + ", ".join(parts)


def _config_file(experiment: Experiment) -> str:
    """``config.yaml``: resolved, and a primary config of its own, so that Hydra can be given it back."""
    primary = OmegaConf.load(CONF / "config.yaml")
    settings = [dict(item) for item in primary.defaults if "hydra/" in str(item)]
    command = f"python train.py --config-path {experiment.folder.path} --config-name config"
    header = f"# The resolved config of {experiment.run_id}. To run it again: {command}\n"
    parts = [{"defaults": ["schema", "_self_", *settings]}, experiment.config, {"hydra": primary.hydra}]
    return header + redact("".join(OmegaConf.to_yaml(part) for part in parts))


def _tell_differences(done: dict[str, Any], experiment: Experiment) -> None:
    """What "auto" means on this machine may be something else than where the result was made."""
    made = {**done["hardware"], "torch": done["versions"]["torch"]}
    hardware = experiment.hardware
    here = {
        "device": hardware.device.type,
        "precision": hardware.precision,
        "threads": hardware.threads,
        "torch": torch.__version__.partition("+")[0],
    }
    for name, value in here.items():
        if str(made[name]).partition("+")[0] != str(value):
            log.warning("it was made with %s %s, here it would be %s: other last bits", name, made[name], value)
