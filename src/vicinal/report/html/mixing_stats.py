"""Statistics of what was really mixed, one row per cell, with the histogram of lambda against the law asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

SHARES = {
    "mixing/lam_mean_partner": "partner's weight",
    "mixing/empty_boxes": "partner without weight",
    "mixing/same_class": "same class",
    "mixing/unmixed": "unmixed",
}
"""{key of an epoch that is a fraction: heading}."""
ENTROPY, LAYER, COUNTS, LAW = "mixing/target_entropy", "mixing/layer/", "mixing/lam", "mixing/lam_law"
Epochs = Sequence[Mapping[str, Any]]


def collect(curves: Mapping[str, Sequence[Epochs]]) -> list[dict[str, Any]]:
    """Return means over the epochs and runs of the cells that mixed, from {label: epochs of each run}.

    Each has its ``label``, the ``shares``, the ``entropy`` and the ``layers`` with their batches as text; of lambda,
    the ``counts`` in equal bins of [0, 1], their fractions as ``bins``, and those of the ``law``, if known. A mean is
    NaN where no epoch has the number.
    """
    mixed = {
        label: [epoch for epochs in runs for epoch in epochs if "mixing/lam_mean_partner" in epoch]
        for label, runs in curves.items()
    }
    return [_row(label, epochs) for label, epochs in mixed.items() if epochs]


def _row(label: str, epochs: Epochs) -> dict[str, Any]:
    layers: Counter[str] = Counter()
    for epoch in epochs:
        layers.update({key.removeprefix(LAYER): count for key, count in epoch.items() if key.startswith(LAYER)})
    bins = [epoch[COUNTS] for epoch in epochs if COUNTS in epoch]
    counts = [sum(column) for column in zip(*(row for row in bins if len(row) == len(bins[0])), strict=True)]
    return {
        "label": label,
        "shares": {key: _mean(epochs, key) for key in SHARES},
        "entropy": _mean(epochs, ENTROPY),
        "layers": ", ".join(f"{name} {count}" for name, count in layers.items()),
        "counts": counts,
        "bins": [count / sum(counts) for count in counts] if any(counts) else [],
        "law": _mean_of([epoch[LAW] for epoch in epochs if epoch.get(LAW)]),
    }


def _mean_of(laws: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of the laws of all epochs, which differ under a schedule; [] if there are none."""
    alike = [law for law in laws if len(law) == len(laws[0])]  # a file may be forged
    return [math.fsum(column) / len(alike) for column in zip(*alike, strict=True)]


def _mean(epochs: Epochs, key: str) -> float:
    values = [epoch[key] for epoch in epochs if key in epoch]
    return math.fsum(values) / len(values) if values else math.nan
