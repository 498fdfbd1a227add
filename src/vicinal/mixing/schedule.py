"""When to mix: a window of the training, or a taper at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vicinal.mixing.context import Context, need

TAPER = (0.6, 0.9)
"""Shares of the training at which "mixup without hesitation" begins to skip every other epoch, and to fade out."""


@dataclass(frozen=True)
class Schedule:
    """The share of the batches that may be mixed, over a training.

    Attributes:
        window: [start, stop]: mixing from the start to before the stop. Both in [0, 1] are shares of the training;
            larger numbers are epochs that are done.
        taper: "mixup without hesitation" (Yu et al., arXiv 2101.04342, section 3.2): always in the first 0.6 of the
            training, in every other epoch up to 0.9, then with a probability that falls to 0 at the end.

    Raises:
        ValueError: the window is empty, or none.
    """

    window: Sequence[float] = (0.0, 1.0)
    taper: bool = False

    def __post_init__(self) -> None:
        if len(self.window) != 2 or not 0 <= self.window[0] < self.window[1]:
            raise ValueError(f"window must be [start, stop] with 0 <= start < stop, got {[*self.window]}")

    @cached_property
    def needs(self) -> frozenset[str]:
        always = tuple(self.window) == (0, 1) and not self.taper
        return frozenset() if always else frozenset({"progress"})

    def share(self, context: Context) -> float:
        """Return the probability that a batch may be mixed."""
        if not self.needs:
            return 1.0
        progress = need(context.progress, "progress")
        start, stop = self.window
        if stop > 1:
            epochs = need(context.epochs, "epochs")
            start, stop = start / epochs, stop / epochs
        if not start <= progress < stop:
            return 0.0
        if not self.taper or progress < TAPER[0]:
            return 1.0
        if progress < TAPER[1]:
            return float(need(context.epoch, "epoch") % 2)
        return (1 - progress) / (1 - TAPER[1])
