"""The sections of a dashboard as plain data, which :mod:`vicinal.dashboards.build` makes panels of."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from vicinal.errors import UserError, suggest
from vicinal.tasks import Task

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
    def needs(self) -> list[Key]:
        """All keys that it names."""
        place, others = NEEDS.get(self.kind, ("table", []))
        return [*((place, key) for key in self.keys), *others]


Sections = Mapping[str, Sequence[Plot]]
"""{name: plots}."""


def default_score(task: Task) -> str:
    """Return the key that cells are compared by: the test score of the epoch that validation chose."""
    return f"test/best_val/{task.selection}"


def sections(task: Task, score: str = "", more: Sequence[str] = ()) -> Sections:
    """Return all sections.

    Args:
        task: of the runs; each of its metrics has a bar plot and a learning curve.
        score: key of the summary that alphas and strategies are compared by; by default :func:`default_score`.
        more: keys of the history that get a panel of their own among the learning curves.
    """
    score, key = score or default_score(task), task.selection
    split, name = score.rpartition("/")[0] or "test/last", task.metric(key).title
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
            _curves(f"{name}, train, and its ceiling", f"train/{key}", f"train/{key}_ceiling"),
            _curves("train loss and its floor", "train/loss", "train/loss_floor"),
            _curves(f"{name} on clean train images", f"train_clean/{key}"),
            _curves("loss on clean train images", "train_clean/loss"),
            _curves(f"{name}, test, last epochs", f"test/{key}"),
            *(Plot(column, "curves", (column,), optional=False) for column in more),
        ],
        "Mixing": [
            _curves("lambda", "mixing/lam"),
            _curves("lambda asked for", "mixing/lam_law"),
            _curves("mean weight of the partner", "mixing/lam_mean_partner"),
            _curves("entropy of the targets, nats", "mixing/target_entropy"),
            _curves("empty boxes, same class, unmixed", "mixing/empty_boxes", "mixing/same_class", "mixing/unmixed"),
            _curves("batches mixed at each depth", "mixing/layer/*"),
        ],
        "Images": [
            Plot("image, partner, mask, mixed", "media", ("mixed_images",)),
            Plot("test images by right and predicted class", "confusion", ("test/confusion_table",)),
            Plot("test accuracy by class", "bars", ("test/class_accuracy_table",)),
            Plot("test accuracy by confidence", "lines", ("test/reliability_table",)),
        ],
        "Throughput": [
            _curves("images per second", "throughput"),
            _curves("seconds per epoch", "seconds"),
            Plot("images per second, whole run", "strategies", ("images_per_second",)),
        ],
    }


def available(parts: Sections, keys: Collection[Key]) -> tuple[Sections, list[str]]:
    """Return the sections without the optional plots that have no data, and one line per plot that is left out.

    Raises:
        UserError: no run has logged a key of a plot that is not optional.
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
