"""A kind of target, and all that depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from vicinal.tasks.metric import Metric


@dataclass(frozen=True)
class Task:
    """A kind of target.

    Attributes:
        name: as ``result.json`` records it.
        metrics: that evaluation yields, in the order in which they are shown.
        selection: key of the metric on validation that chooses epochs, cells and points of a search.
    """

    name: str
    metrics: tuple[Metric, ...]
    selection: str

    def metric(self, key: str) -> Metric:
        """Return the metric of a key. Raises KeyError."""
        return next(each for each in self.metrics if each.key == key)
