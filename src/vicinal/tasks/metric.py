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
        short: of the title, for columns and axes; without one, the title.
    """

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    short: str = ""

    @property
    def heading(self) -> str:
        """Title of a column, such as ``NLL (nats) ↓``: the arrow points to where it is better."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.short or self.title}{unit} {'↑' if self.better == 'higher' else '↓'}"

    @property
    def percent(self) -> bool:
        """Whether it is a share in [0, 1], shown in percent, whose interval stays between 0 and 100 %."""
        return self.unit == "%"

    def improves(self, new: float, old: float) -> bool:
        """Whether ``new`` is strictly better than ``old``."""
        return new > old if self.better == "higher" else new < old
