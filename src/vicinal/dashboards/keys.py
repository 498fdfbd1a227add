"""The keys that the runs of a sweep have logged: a panel of any other key would stay empty."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from vicinal.analysis.records import Run, flat
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tracking.wandb.charts import keys as chart_keys
from vicinal.tracking.wandb.run import IMAGES

Key = tuple[str, str]
"""(place where W&B keeps it, key); places are ``history``, ``summary``, ``config``, ``media`` and ``table``."""


def logged(runs: Iterable[Run]) -> set[Key]:
    """Return the keys that W&B has of these runs, by the records in their folders."""
    keys: set[Key] = set()
    for run in runs:
        rows = run.rows()
        history = {key for row in rows for key in row}
        parts = {"val": run.val, "val_best": run.val_best, **{f"test/{which}": run.test[which] for which in run.test}}
        scores = {f"{part}/{name}" for part, numbers in parts.items() for name in numbers or ()}
        finals = {"best_epoch", "images_per_second"} if run.completed else set()
        config = {*flat(run.config), *(f"choices.{group}" for group in run.choices), "run_id", "cell_id", "git_commit"}
        images = {IMAGES} if rows and run.config.get("wandb", {}).get("images") else set()
        found = {"history": history, "summary": history | scores | finals, "config": config, "media": images}
        with suppress(OSError, DamagedError):
            found["table"] = set(chart_keys(Predictions.load(RunFolder(run.folder).predictions)))
        keys |= {(place, key) for place, names in found.items() for key in names}
    return keys
