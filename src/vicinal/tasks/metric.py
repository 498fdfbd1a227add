"""Metrics: how each is computed from batches, and how it is shown. Torch is not imported: tables read this too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A number that evaluation computes, and how it is shown.

    A subclass computes it: :meth:`sums` of all batches are added up, and :meth:`value` turns the totals into the
    metric. A mean over the samples needs no subclass: see :class:`MeanMetric`.
    """

    key: str  # in ``metrics.jsonl`` and ``result.json``, after the split: ``val/<key>``
    title: str  # for headings, axes and legends
    unit: str  # such as ``nats``; "%" is a share in [0, 1] that is shown in percent
    better: Literal["higher", "lower"]
    short: str = field(default="", kw_only=True)  # for columns and axes; without one, the title

    @property
    def heading(self) -> str:
        """Return the title of a column, such as ``NLL (nats) ↓``: the arrow points to where it is better."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.short or self.title}{unit} {'↑' if self.better == 'higher' else '↓'}"

    def sums(self, outputs: Any, targets: Any, dtype: torch.dtype) -> Tensor:
        """Return what is added up over the batches, always of the same shape.

        Args:
            outputs: of a batch, as :meth:`Task.read` returns them.
            targets: (B, ...).
            dtype: of the result: float64, or float32 on a device that does not have it.
        """
        raise NotImplementedError

    def value(self, totals: Tensor, count: int) -> Tensor:
        """Return the metric, a finite scalar, from the total of :meth:`sums` over ``count`` samples."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether it can be computed: some metrics have to be bound first, which only some trainings do."""
        return True

    def bind(self, counts: Sequence[int]) -> Metric:
        """Return the metric for a training on so many samples of each class."""
        return self

    @property
    def percent(self) -> bool:
        """True for a share in [0, 1], shown in percent, whose interval stays between 0 and 100 %."""
        return self.unit == "%"

    @property
    def limit(self) -> float:
        """The largest possible value, and so the largest difference."""
        return 1.0 if self.percent else math.inf

    def improves(self, new: float, old: float) -> bool:
        """Return whether ``new`` is strictly better than ``old``."""
        return new > old if self.better == "higher" else new < old


@dataclass(frozen=True)
class MeanMetric(Metric):
    """The mean over the samples of ``function(outputs, targets)``, which returns one number per sample, (B,)."""

    function: Callable[[Any, Any], Tensor]

    def sums(self, outputs: Any, targets: Any, dtype: torch.dtype) -> Tensor:
        return self.function(outputs, targets).sum(dtype=dtype)

    def value(self, totals: Tensor, count: int) -> Tensor:
        return totals / count


class Evaluator(Protocol):
    """Computes the metrics of a task over batches.

    A class needs :meth:`update` and :meth:`compute`. Where several processes evaluate, they exchange what
    :meth:`measure` returns, and an own one saves them from sending all outputs.
    """

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Add a batch: outputs as :meth:`Task.read` returns them, and targets (B, ...)."""

    def measure(self, outputs: Any, targets: Tensor) -> Any:
        """Return what :meth:`add` needs to know of a batch, in plain containers and tensors."""
        return outputs, targets

    def add(self, measured: Any) -> None:
        """Add what :meth:`measure` has returned."""
        self.update(*measured)

    def compute(self) -> dict[str, float]:
        """Return {key: value}."""


class Totals(Evaluator):
    """Running totals of some metrics over batches; only :meth:`compute` waits for the device."""

    def __init__(self, metrics: Sequence[Metric], device: torch.device) -> None:
        import torch

        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._metrics = metrics
        self._totals = [torch.zeros((), dtype=self._dtype, device=device)] * len(metrics)
        self._count = 0

    def update(self, outputs: Any, targets: Tensor) -> None:
        self.add(self.measure(outputs, targets))

    def measure(self, outputs: Any, targets: Tensor) -> Any:
        return [metric.sums(outputs, targets, self._dtype) for metric in self._metrics], len(targets)

    def add(self, measured: Any) -> None:
        batch, count = measured
        self._totals = [total + sums for total, sums in zip(self._totals, batch, strict=True)]
        self._count += count

    def compute(self) -> dict[str, float]:
        import torch

        values = [metric.value(total, self._count) for metric, total in zip(self._metrics, self._totals, strict=True)]
        return dict(zip((metric.key for metric in self._metrics), torch.stack(values).tolist(), strict=True))
