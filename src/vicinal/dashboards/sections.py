"""The sections of a dashboard as plain data, and the keys that runs have logged for them."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from vicinal.analysis.records import Run, flat
from vicinal.errors import UserError, suggest
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.predictions import Predictions
from vicinal.tasks import Task
from vicinal.tracking.wandb.media import IMAGES, chart_keys

Key = tuple[str, str]
"""(place where W&B keeps it, key); places are ``history``, ``summary``, ``config``, ``media`` and ``table``."""
Kind = Literal["alpha", "strategies", "curves", "media", "confusion", "bars", "lines"]
NEEDS: dict[str, tuple[str, list[Key]]] = {
    "alpha": ("summary", [("config", "mixup.alpha")]),
    "strategies": ("summary", [("config", "choices.mixup")]),
    "curves": ("history", [("history", "epoch"), ("config", "cell_id")]),
    "media": ("media", []),
}
"""{kind of plot: (place of its keys, other keys that it needs)}; the keys of other kinds are tables."""


@dataclass(frozen=True)
class Plot:
    """One panel."""

    title: str
    kind: Kind
    """``curves`` of the history over epochs, mean and deviation per cell; ``alpha``, one point per run; ``strategies``,
    one bar each, mean and deviation; ``media``; and W&B's own charts, ``confusion``, ``bars`` and ``lines``."""
    keys: tuple[str, ...]
    """To show; for W&B's own charts the table. ``*`` stands for all keys of the runs' history that match."""
    optional: bool = True
    """The plot is left out if no run logs its keys: there may be no validation split, and ``none`` has no lambda."""

    @property
    def needs(self) -> list[Key]:
        """All keys that the panel names."""
        place, others = NEEDS.get(self.kind, ("table", []))
        return [*((place, key) for key in self.keys), *others]


Sections = Mapping[str, Sequence[Plot]]  # {name: plots}


def sections(task: Task, score: str = "", more: Sequence[str] = ()) -> Sections:
    """Return all sections; each metric of the task has a bar plot and a learning curve.

    Alphas and strategies are compared by the key `score` of the summary, by default the test score of the epoch that
    validation chose; the keys in `more` get a panel of their own among the learning curves.
    """
    score, key, train_key = score or f"test/best_val/{task.selection}", task.selection, task.score_key
    split = score.rpartition("/")[0] or "test/last"
    scored = []
    if train_key is not None:
        title, column = task.metric(train_key).title, f"train/{train_key}"
        scored = [
            _curves(f"{title}, train, and its ceiling", column, f"{column}_ceiling"),
            _curves(f"{title} on clean train images", f"train_clean/{train_key}"),
        ]
    others = [(metric.title, f"{split}/{metric.key}") for metric in task.metrics if f"{split}/{metric.key}" != score]
    return {
        "Alpha curve": [
            Plot(f"{score} by alpha", "alpha", (score,)),
            Plot(f"val/{key} by alpha", "alpha", (f"val/{key}",)),
        ],
        "Strategies": [
            Plot(score, "strategies", (score,), optional=False),
            *(Plot(f"{title}, {split}", "strategies", (column,)) for title, column in others),
        ],
        "Learning curves": [
            *(_curves(f"{metric.title}, validation", f"val/{metric.key}") for metric in task.metrics),
            *scored[:1],
            _curves("train loss and its floor", "train/loss", "train/loss_floor"),
            *scored[1:],
            _curves("loss on clean train images", "train_clean/loss"),
            _curves(f"{task.metric(key).title}, test, last epochs", f"test/{key}"),
            *(Plot(column, "curves", (column,), optional=False) for column in more),
        ],
        "Mixing": [
            _curves("lambda", "mixing/lam"),
            _curves("lambda asked for", "mixing/lam_law"),
            _curves("mean weight of the partner", "mixing/lam_mean_partner"),
            _curves("entropy of the targets, nats", "mixing/target_entropy"),
            _curves(
                "partner without weight, same class, unmixed",
                "mixing/empty_boxes",
                "mixing/same_class",
                "mixing/unmixed",
            ),
            _curves("batches mixed at each depth", "mixing/layer/*"),
        ],
        "Images": [
            Plot("image, partner, mask, mixed", "media", ("mixed_images",)),
            Plot("test images by right and predicted class", "confusion", ("test/confusion_table",)),
            Plot("test accuracy by class", "bars", ("test/class_accuracy_table",)),
            Plot("test accuracy by confidence", "lines", ("test/reliability_table",)),
        ],
        "Throughput": [
            _curves("samples per second", "throughput"),
            _curves("seconds per epoch", "seconds"),
            Plot("samples per second, whole run", "strategies", ("images_per_second",)),
        ],
    }


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
        places = {"history": history, "summary": history | scores | finals, "config": config, "media": images}
        with suppress(OSError, DamagedError):
            places["table"] = set(chart_keys(Predictions.load(RunFolder(run.folder).predictions)))
        keys |= {(place, key) for place, names in places.items() for key in names}
    return keys


def available(parts: Sections, keys: Collection[Key]) -> tuple[Sections, list[str]]:
    """Return the sections without the optional plots that have no data, and one line per plot that is left out.

    Raises UserError: no run has logged a key of a plot that is not optional.
    """
    history, lines = sorted(key for place, key in keys if place == "history"), []
    kept: dict[str, list[Plot]] = {}
    for name, plots in parts.items():
        for plot in plots:
            matches = [fnmatch.filter(history, key) or [key] for key in plot.keys]
            plot = replace(plot, keys=tuple(chain.from_iterable(matches)))
            missing = [key for key in plot.needs if key not in keys]
            if not missing:
                kept.setdefault(name, []).append(plot)
            elif plot.optional:
                lines.append(f"left out, no run logs {', '.join(key for _, key in missing)}: {plot.title}")
            else:
                place, key = missing[0]
                known = suggest(key, sorted(other for kind, other in keys if kind == place))
                raise UserError(f"panel '{plot.title}': no run logs {key} ({place}); {known}")
    return kept, lines


def _curves(title: str, *keys: str) -> Plot:
    return Plot(title, "curves", keys)
