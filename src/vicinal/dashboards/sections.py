"""What a dashboard shows, section by section: plain data that :mod:`vicinal.dashboards.build` makes panels of."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from vicinal.dashboards.keys import Keys

Kind = Literal["alpha", "strategies", "curves", "media", "confusion", "bars", "lines"]

SCORE = "test/best_val/acc1"
"""What alphas and strategies are compared by unless somebody says otherwise: validation chose the epoch."""


@dataclass(frozen=True)
class Plot:
    """One panel.

    Attributes:
        title: of the panel.
        kind: ``curves`` of the history over epochs, mean and deviation of a cell; ``alpha``, a point a run;
            ``strategies``, a bar each, mean and deviation; ``media``; and W&B's own charts, ``confusion``, ``bars``
            and ``lines``.
        keys: what is shown; for W&B's own charts the table. A ``*`` stands for whatever the runs' history has there.
        optional: not all runs log it: there may be no validation split, and ``none`` has no lambda.
    """

    title: str
    kind: Kind
    keys: tuple[str, ...]
    optional: bool = True

    @property
    def needs(self) -> list[tuple[str, str]]:
        """(place, key) of all that it names, as :class:`~vicinal.dashboards.keys.Keys` has them."""
        place = {"alpha": "summary", "strategies": "summary", "curves": "history", "media": "media"}.get(
            self.kind, "table"
        )
        others = {
            "alpha": [("config", "mixup.alpha")],
            "strategies": [("config", "choices.mixup")],
            "curves": [("history", "epoch"), ("config", "cell_id")],
        }
        return [*((place, key) for key in self.keys), *others.get(self.kind, [])]


@dataclass(frozen=True)
class Section:
    name: str
    plots: tuple[Plot, ...]


def sections(score: str = SCORE, more: Sequence[str] = ()) -> list[Section]:
    """All that there is to see.

    Args:
        score: key of the summary that alphas and strategies are compared by.
        more: keys of the history that get a panel of their own among the learning curves.
    """
    return [
        Section(
            "Alpha curve",
            (
                Plot(f"{score} by alpha", "alpha", (score,)),
                Plot("val/acc1 by alpha", "alpha", ("val/acc1",)),
            ),
        ),
        Section(
            "Strategies",
            (
                Plot(score, "strategies", (score,), optional=False),
                Plot("negative log-likelihood, last epoch", "strategies", ("test/last/nll",)),
                Plot("calibration error, last epoch", "strategies", ("test/last/ece",)),
            ),
        ),
        Section(
            "Learning curves",
            (
                Plot("validation accuracy", "curves", ("val/acc1",)),
                Plot("train accuracy and its ceiling", "curves", ("train/acc1", "train/acc1_ceiling")),
                Plot("train loss and its floor", "curves", ("train/loss", "train/loss_floor")),
                Plot("accuracy on clean train images", "curves", ("train_clean/acc1",)),
                Plot("loss on clean train images", "curves", ("train_clean/loss",)),
                Plot("test accuracy, last epochs", "curves", ("test/acc1",)),
                *(Plot(key, "curves", (key,), optional=False) for key in more),
            ),
        ),
        Section(
            "Ledger",
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
                Plot("seconds an epoch", "curves", ("seconds",)),
                Plot("images per second, whole run", "strategies", ("images_per_second",)),
            ),
        ),
    ]


def available(parts: Sequence[Section], keys: Keys) -> tuple[list[Section], list[str]]:
    """The sections without optional plots that no run has anything for, and a line for each that is left out."""
    kept, lines = [], []
    for part in parts:
        plots = []
        for plot in part.plots:
            found = [fnmatch.filter(sorted(keys.history), key) or [key] for key in plot.keys]
            plot = replace(plot, keys=tuple(chain.from_iterable(found)))
            missing = [key for place, key in plot.needs if not keys.has(place, key)]
            if missing and plot.optional:
                lines.append(f"left out, no run logs {', '.join(missing)}: {plot.title}")
            else:
                plots.append(plot)
        if plots:
            kept.append(replace(part, plots=tuple(plots)))
    return kept, lines
