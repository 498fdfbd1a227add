"""The sections of a dashboard as plain data, which :mod:`vicinal.dashboards.build` makes panels of."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from vicinal.dashboards.keys import Keys
from vicinal.tasks import Task

Kind = Literal["alpha", "strategies", "curves", "media", "confusion", "bars", "lines"]
NEEDS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "alpha": ("summary", [("config", "mixup.alpha")]),
    "strategies": ("summary", [("config", "choices.mixup")]),
    "curves": ("history", [("history", "epoch"), ("config", "cell_id")]),
    "media": ("media", []),
}
"""{kind of plot: (place of its keys, other keys that it needs)}; the keys of other kinds are tables."""


@dataclass(frozen=True)
class Plot:
    """One panel.

    Attributes:
        title: of the panel.
        kind: ``curves`` of the history over epochs, mean and deviation per cell; ``alpha``, one point per run;
            ``strategies``, one bar each, mean and deviation; ``media``; and W&B's own charts, ``confusion``, ``bars``
            and ``lines``.
        keys: to show; for W&B's own charts the table. ``*`` stands for all keys of the runs' history that match.
        optional: whether the plot is left out if no run logs its keys: there may be no validation split, and ``none``
            has no lambda.
    """

    title: str
    kind: Kind
    keys: tuple[str, ...]
    optional: bool = True

    @property
    def needs(self) -> list[tuple[str, str]]:
        """(place, key) of all keys that it names, as :class:`~vicinal.dashboards.keys.Keys` has them."""
        place, others = NEEDS.get(self.kind, ("table", []))
        return [*((place, key) for key in self.keys), *others]


@dataclass(frozen=True)
class Section:
    name: str
    plots: tuple[Plot, ...]


def default_score(task: Task) -> str:
    """Return the key that cells are compared by: the test score of the epoch that validation chose."""
    return f"test/best_val/{task.selection}"


def sections(task: Task, score: str = "", more: Sequence[str] = ()) -> list[Section]:
    """Return all sections.

    Args:
        task: of the runs; each of its metrics has a bar plot and a learning curve.
        score: key of the summary that alphas and strategies are compared by; by default :func:`default_score`.
        more: keys of the history that get a panel of their own among the learning curves.
    """
    score, key = score or default_score(task), task.selection
    split = score.rpartition("/")[0] or "test/last"
    name = task.metric(key).title
    others = [(metric.title, f"{split}/{metric.key}") for metric in task.metrics if f"{split}/{metric.key}" != score]
    return [
        Section(
            "Alpha curve",
            (
                Plot(f"{score} by alpha", "alpha", (score,)),
                Plot(f"val/{key} by alpha", "alpha", (f"val/{key}",)),
            ),
        ),
        Section(
            "Strategies",
            (
                Plot(score, "strategies", (score,), optional=False),
                *(Plot(f"{title}, {split}", "strategies", (column,)) for title, column in others),
            ),
        ),
        Section(
            "Learning curves",
            (
                *(Plot(f"{metric.title}, validation", "curves", (f"val/{metric.key}",)) for metric in task.metrics),
                Plot(f"{name}, train, and its ceiling", "curves", (f"train/{key}", f"train/{key}_ceiling")),
                Plot("train loss and its floor", "curves", ("train/loss", "train/loss_floor")),
                Plot(f"{name} on clean train images", "curves", (f"train_clean/{key}",)),
                Plot("loss on clean train images", "curves", ("train_clean/loss",)),
                Plot(f"{name}, test, last epochs", "curves", (f"test/{key}",)),
                *(Plot(column, "curves", (column,), optional=False) for column in more),
            ),
        ),
        Section(
            "Mixing",
            (
                Plot("lambda", "curves", ("mixing/lam",)),
                Plot("lambda asked for", "curves", ("mixing/lam_law",)),
                Plot("mean weight of the partner", "curves", ("mixing/lam_mean_partner",)),
                Plot("entropy of the targets, nats", "curves", ("mixing/target_entropy",)),
                Plot(
                    "empty boxes, same class, unmixed",
                    "curves",
                    ("mixing/empty_boxes", "mixing/same_class", "mixing/unmixed"),
                ),
                Plot("batches mixed at each depth", "curves", ("mixing/layer/*",)),
            ),
        ),
        Section(
            "Images",
            (
                Plot("image, partner, mask, mixed", "media", ("mixed_images",)),
                Plot("test images by right and predicted class", "confusion", ("test/confusion_table",)),
                Plot("test accuracy by class", "bars", ("test/class_accuracy_table",)),
                Plot("test accuracy by confidence", "lines", ("test/reliability_table",)),
            ),
        ),
        Section(
            "Throughput",
            (
                Plot("images per second", "curves", ("throughput",)),
                Plot("seconds per epoch", "curves", ("seconds",)),
                Plot("images per second, whole run", "strategies", ("images_per_second",)),
            ),
        ),
    ]


def available(parts: Sequence[Section], keys: Keys) -> tuple[list[Section], list[str]]:
    """Return the sections without the optional plots that have no data, and one line per plot that is left out."""
    kept, lines = [], []
    for part in parts:
        plots = []
        for plot in part.plots:
            matches = [fnmatch.filter(sorted(keys.history), key) or [key] for key in plot.keys]
            plot = replace(plot, keys=tuple(chain.from_iterable(matches)))
            missing = [key for place, key in plot.needs if not keys.has(place, key)]
            if missing and plot.optional:
                lines.append(f"left out, no run logs {', '.join(missing)}: {plot.title}")
            else:
                plots.append(plot)
        if plots:
            kept.append(replace(part, plots=tuple(plots)))
    return kept, lines
