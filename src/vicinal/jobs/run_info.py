"""Give trackers the facts about a run besides its epochs: its name and config, and its final numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from vicinal.config.schema import WandbConfig
from vicinal.config.validation import check_ranges
from vicinal.experiment import Experiment
from vicinal.jobs.provenance import run_metadata
from vicinal.runs import mixed_sheet, mixed_sounds
from vicinal.runs.environment import code
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo, Tracker, Trackers
from vicinal.tracking.wandb import record
from vicinal.tracking.wandb import settings as wandb_settings
from vicinal.tracking.wandb.tracker import WandbTracker
from vicinal.utils.nested import flat

PATIENCE = 20.0  # seconds to wait for W&B's process, which may outlive a killed training and have all data


def run_info(experiment: Experiment, sweep: str | None, wandb_id: str | None) -> RunInfo:
    """Return the facts about a run that its trackers get."""
    metadata = run_metadata(experiment) | {"epochs": experiment.trainer.epochs}
    return _info(metadata, experiment.folder, sweep=sweep, git_commit=code()[0], wandb_id=wandb_id)


def _info(metadata: Mapping[str, Any], folder: RunFolder, **more: Any) -> RunInfo:
    names = ("run_id", "cell_id", "config", "choices", "epochs")
    own = {name: metadata[name] for name in names}
    return RunInfo(name=f"{metadata['name']}-s{metadata['seed']}", folder=folder.path, **own, **more)


def wandb_record(trackers: Mapping[str, Tracker], info: RunInfo) -> dict[str, str | None]:
    """Return the entry ``wandb`` of ``result.json``: mode, id, name and group of the W&B run."""
    wandb = trackers.get("wandb")
    if isinstance(wandb, WandbTracker):
        return {"mode": wandb.mode, "id": wandb.id, "name": wandb.name, "group": wandb.group}
    return {"mode": "disabled", "id": info.wandb_id, "name": info.name, "group": info.sweep}


def show(folder: RunFolder, result: dict[str, Any], settings: WandbConfig, id: str | None) -> None:  # noqa: A002
    """Send W&B a completed run from its files; ``id`` is that of the W&B run that has a part of it, or None."""
    git = folder.about().get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    metadata = result | {"config": result["config"] | {"wandb": vars(settings)}}
    sweep = result["wandb"].get("group") if id else None
    info = _info(metadata, folder, sweep=sweep, git_commit=commit, wandb_id=id)
    with Trackers(info, chosen={"wandb": WandbTracker()}) as wandb:
        with suppress(OSError, ValueError, DamagedError):  # a view can do without
            images, captions = _panel(folder.mixed)
            wandb.mixed_images(images, captions)
            sounds, rate = mixed_sounds.read(folder.mixed_sounds, len(captions))
            wandb.mixed_sounds(torch.from_numpy(sounds.copy()), rate, captions)
        with suppress(OSError, DamagedError):
            wandb.predictions(Predictions.load(folder.predictions))
        wandb.restore(folder.rows(), step=0)
        names = ("val", "val_best", "test", "best_epoch", "images_per_second")  # older results lack some
        wandb.finish(final_numbers({name: result.get(name) for name in names}))


def catch_up(folder: RunFolder, result: dict[str, Any], settings: WandbConfig) -> str | None:
    """Send W&B what it lacks of a completed run, unless W&B is disabled; return the outcome in words, if any."""
    lacking = record.unfinished(folder.path)
    if lacking is None or wandb_settings.requested_mode(settings.mode)[0] == "disabled":
        return None
    if record.being_written(folder.path, PATIENCE):
        return "W&B's own process is still at it"
    if (lacking := record.unfinished(folder.path)) is not None:  # the process may have sent it meanwhile
        show(folder, result, settings, lacking or None)
    left = record.unfinished(folder.path)
    return "W&B has all of it now" if left is None else "W&B still lacks a part of it"


def settings(result: Mapping[str, Any]) -> WandbConfig:
    """Return W&B's settings from a ``result.json``, checked; one of another version may lack keys."""
    stored = {item.name: result["config"]["wandb"].get(item.name) for item in fields(WandbConfig)}
    check_ranges(WandbConfig, stored, prefix="wandb.")
    return WandbConfig(**wandb_settings.with_variables(stored))


def _panel(file: Path) -> tuple[torch.Tensor, list[str]]:
    """Read the mixed images from ``mixed.png``: uint8 (n, T, C, H, W), n captions."""
    rows = mixed_sheet.tiles(file)
    images = torch.stack([torch.from_numpy(tiles) for tiles, _ in rows])
    grey = bool((images == images[:, :, :1]).all())
    return images[:, :, :1] if grey else images, [caption for _, caption in rows]


def final_numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return {"test": {"last": {"acc1": 0.98}}} as {"test/last/acc1": 0.98}, without numbers that are missing."""
    return {name: value for name, value in flat(scores).items() if value is not None}
