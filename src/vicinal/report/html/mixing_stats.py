"""What was really mixed, a row a cell, with the histogram of lambda against the law that was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vicinal.report.html import layout
from vicinal.report.html.markup import Markup, element
from vicinal.report.html.tables import NOTHING, number, percent, table

SHARES = {
    "mixing/lam_mean_partner": "partner's weight",
    "mixing/empty_boxes": "empty boxes",
    "mixing/same_class": "same class",
    "mixing/unmixed": "unmixed",
}
"""Keys of an epoch's row that are fractions, and what the table calls them."""
ENTROPY, LAYER, COUNTS, LAW = "mixing/target_entropy", "mixing/layer/", "mixing/lam", "mixing/lam_law"
BAR, TALL = 7, 48
"""Units of the histogram: the width of a bar, and its height at the most."""
Rows = Sequence[Mapping[str, Any]]


def section(curves: Mapping[str, Sequence[Rows]]) -> Markup | None:
    """The ledger of {cell: epochs of each of its runs}; None if nothing was mixed."""
    rows = [_row(label, epochs) for label, runs in curves.items() if (epochs := _mixed(runs))]
    if not rows:
        return None
    caption = (
        "Means over epochs and runs, in %: the partner's weight 1 - lambda over all samples; of the mixed ones, those "
        "whose box is empty and those whose partner is of their class; batches left unmixed. Entropy of the targets in "
        "nats. Bars: how often lambda was in each twentieth of [0, 1]; line: the law that was asked for."
    )
    head = ["cell", *SHARES.values(), "entropy", "batches mixed at", "lambda, 0 to 1"]
    return layout.section("What was mixed", table("ledger", caption, head, rows), identity="mixing")


def _mixed(runs: Sequence[Rows]) -> list[Mapping[str, Any]]:
    return [row for rows in runs for row in rows if "mixing/lam_mean_partner" in row]


def _row(label: str, epochs: Rows) -> Markup:
    layers: dict[str, int] = {}
    for row in epochs:
        for key in (key for key in row if key.startswith(LAYER)):
            layers[key.removeprefix(LAYER)] = layers.get(key.removeprefix(LAYER), 0) + row[key]
    where = ", ".join(f"{name} {count}" for name, count in layers.items())
    return element(
        "tr",
        element("th", label, scope="row"),
        *(element("td", number(key, _mean(epochs, key), percent)) for key in SHARES),
        element("td", number(ENTROPY, _mean(epochs, ENTROPY), "{:.3f}".format)),
        element("td", where or NOTHING),
        element("td", _histogram(label, epochs) or NOTHING),
        data_cell=label,
    )


def _mean(epochs: Rows, key: str) -> float:
    values = [row[key] for row in epochs if key in row]
    return math.fsum(values) / len(values) if values else math.nan


def _histogram(label: str, epochs: Rows) -> Markup | None:
    every = [row[COUNTS] for row in epochs if COUNTS in row]
    every = [bins for bins in every if len(bins) == len(every[0])]  # another version may count in others
    counts = [sum(bins) for bins in zip(*every, strict=True)]
    if not any(counts):
        return None
    shares: list[float] = [count / sum(counts) for count in counts]
    law: list[float] = next((row[LAW] for row in epochs if row.get(LAW)), [])
    top = max([*shares, *law])

    def height(share: float) -> float:
        return TALL * (1 - share / top)

    bars = "".join(
        f"M{BAR * place} {TALL}V{height(share):.1f}h{BAR - 1}V{TALL}Z" for place, share in enumerate(shares) if share
    )
    steps = "".join(f"{'L' if place else 'M'}{BAR * place} {height(s):.1f}h{BAR}" for place, s in enumerate(law))
    return element(
        "svg",
        element("path", d=bars, class_="bars"),
        element("path", d=steps, class_="law") if law else None,
        element("path", d=f"M0 {TALL}H{BAR * len(shares)}", class_="grid"),
        viewBox=f"0 0 {BAR * len(shares)} {TALL + 1}",
        role="img",
        aria_label=f"lambda of {label} in {len(shares)} bins, in %: " + " ".join(map(percent, shares)),
        data_counts=" ".join(map(str, counts)),
        class_="histogram",
    )
