"""Statistics of what was really mixed, one row per cell, with the histogram of lambda against the law asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHARES = {
    "mixing/lam_mean_partner": "partner's weight",
    "mixing/empty_boxes": "empty boxes",
    "mixing/same_class": "same class",
    "mixing/unmixed": "unmixed",
}
"""{key of an epoch that is a fraction: heading}."""
ENTROPY, LAYER, COUNTS, LAW = "mixing/target_entropy", "mixing/layer/", "mixing/lam", "mixing/lam_law"
Epochs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Histogram:
    """How often lambda was in each of equal bins of [0, 1], and the fractions that the law has there, if known."""

    counts: list[int]
    shares: list[float]
    law: list[float]


@dataclass(frozen=True)
class MixingStats:
    """Means over the epochs and runs of a cell; NaN where no epoch has a number."""

    label: str
    shares: dict[str, float]
    entropy: float
    layers: str
    histogram: Histogram | None


def collect(curves: Mapping[str, Sequence[Epochs]]) -> list[MixingStats]:
    """Return the statistics of the cells that mixed, from {label of the cell: epochs of each of its runs}."""
    mixed = {
        label: [epoch for epochs in runs for epoch in epochs if "mixing/lam_mean_partner" in epoch]
        for label, runs in curves.items()
    }
    return [_stats(label, epochs) for label, epochs in mixed.items() if epochs]


def _stats(label: str, epochs: Epochs) -> MixingStats:
    layers: Counter[str] = Counter()
    for epoch in epochs:
        layers.update({key.removeprefix(LAYER): count for key, count in epoch.items() if key.startswith(LAYER)})
    shares = {key: _mean(epochs, key) for key in SHARES}
    text = ", ".join(f"{name} {count}" for name, count in layers.items())
    return MixingStats(label, shares, _mean(epochs, ENTROPY), text, _histogram(epochs))


def _mean(epochs: Epochs, key: str) -> float:
    values = [epoch[key] for epoch in epochs if key in epoch]
    return math.fsum(values) / len(values) if values else math.nan


def _histogram(epochs: Epochs) -> Histogram | None:
    bins = [epoch[COUNTS] for epoch in epochs if COUNTS in epoch]
    bins = [each for each in bins if len(each) == len(bins[0])]  # another version may have other bins
    counts = [sum(column) for column in zip(*bins, strict=True)]
    if not any(counts):
        return None
    law: list[float] = next((epoch[LAW] for epoch in epochs if epoch.get(LAW)), [])
    return Histogram(counts, [count / sum(counts) for count in counts], law)
