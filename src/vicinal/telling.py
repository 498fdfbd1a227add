"""What trackers are told of a run besides its epochs: who it is, and its final numbers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vicinal.description import heading
from vicinal.experiment import Experiment
from vicinal.runs.environment import code
from vicinal.runs.files import DamagedError
from vicinal.runs.predictions import Predictions
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb_tracker import WandbTracker


def run_info(experiment: Experiment, sweep: str | None) -> RunInfo:
    """Who the run is, for those who show it.

    Args:
        experiment: checked.
        sweep: the name of the sweep it belongs to.
    """
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
    )


def wandb_tracker(experiment: Experiment, info: RunInfo, id: str | None) -> WandbTracker:  # noqa: A002 - W&B's own name
    """W&B's tracker as the config wants it, for a new run or the one of an ``id``."""
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


def show(experiment: Experiment, result: dict[str, Any]) -> None:
    """Tell W&B of a completed run anew, as a run of its own.

    Args:
        experiment: of the run.
        result: its ``result.json``.
    """
    folder = experiment.folder
    with wandb_tracker(experiment, run_info(experiment, sweep=None), id=None) as wandb:
        with suppress(OSError, DamagedError):  # a view can do without
            wandb.predictions(Predictions.load(folder.predictions))
        wandb.restore(folder.rows(), step=0)
        summary = {name: result[name] for name in ("best_epoch", "images_per_second")}
        wandb.finish(final_numbers({name: result[name] for name in ("val", "val_best", "test")}) | summary)


def final_numbers(scores: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """{"test": {"last": {"acc1": .98}}} as {"test/last/acc1": .98}."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= final_numbers(value, f"{prefix}{name}/")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat
