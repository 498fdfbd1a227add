"""One row of a task's table of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number that evaluation yields, and how it is shown.

    Attributes:
        key: in ``metrics.jsonl`` and ``result.json``, after the split: ``val/<key>``.
        title: for headings, axes and legends.
        unit: such as ``nats``; "%" is a share in [0, 1] that is shown in percent.
        better: which direction is better.
    """

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]

    @property
    def percent(self) -> bool:
        """Whether it is a share in [0, 1], shown in percent, whose interval stays between 0 and 100 %."""
        return self.unit == "%"

    def improves(self, new: float, old: float) -> bool:
        """Whether ``new`` is strictly better than ``old``."""
        return new > old if self.better == "higher" else new < old
