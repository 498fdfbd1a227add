"""A kind of target, and all that depends on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from vicinal.tasks.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings


class Bounds(NamedTuple):
    """Values that a perfect model would reach on mixed targets, (B,) each: why train scores stay low and losses high.

    same: whether a sample and its partner have the same target.
    entropy: of the mixed target, in nats.
    floor: lowest loss.
    ceiling: highest score.
    """

    same: Tensor
    entropy: Tensor
    floor: Tensor
    ceiling: Tensor


@dataclass(frozen=True)
class Task:
    """A kind of target. A subclass, one file each, has the methods below; B targets are a tensor (B, ...)."""

    name: str  # as ``result.json`` records it
    metrics: tuple[Metric, ...]  # in the order in which they are shown
    selection: str  # key of the metric on validation that chooses epochs, cells and points of a search
    score_key: ClassVar[
        str
    ]  # of the metric that training batches are scored by: ``train/<key>``, ``train_clean/<key>``
    loss_key: ClassVar[str]  # of the metric that is the loss without mixing: it becomes ``train_clean/loss``

    def metric(self, key: str) -> Metric:
        """Return the metric of a key. Raises KeyError."""
        return {metric.key: metric for metric in self.metrics}[key]

    @property
    def computed(self) -> list[Metric]:
        """All metrics that evaluation computes: some wait for :meth:`bind`."""
        return [metric for metric in self.metrics if metric.ready]

    def bind(self, counts: Sequence[int]) -> Self:
        """Return the task of a training on so many images of each class, whose sizes matter."""
        return replace(self, metrics=tuple(metric.bind(counts) for metric in self.metrics))

    def showing(self, keys: Collection[str]) -> Task:
        """Return the task without metrics that wait for :meth:`bind`, but for those with these keys."""
        kept = tuple(metric for metric in self.metrics if metric.ready or metric.key in keys)
        return self if len(kept) == len(self.metrics) else replace(self, metrics=kept)

    @property
    def selected(self) -> Metric:
        """The metric that selects."""
        return self.metric(self.selection)

    @property
    def others(self) -> list[Metric]:
        """All metrics but the one that selects."""
        return [metric for metric in self.metrics if metric.key != self.selection]

    def loss(self, settings: LossSettings, counts: Tensor | None, epoch: int) -> Any:
        """Return the loss of an epoch: ``loss(plan, outputs, targets, weight)`` is the mean of a mixed batch, a scalar.

        Args:
            settings: of the trainer.
            counts: training images per class, (K,) int64; None for a loss that does not depend on them.
            epoch: from 1.
        """
        raise NotImplementedError

    def score(self, plan: MixPlan, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each mixed sample, (B,) float32, for the targets before mixing."""
        raise NotImplementedError

    def bounds(self, plan: MixPlan, targets: Tensor, classes: int, loss: Any) -> Bounds:
        """Return what a loss and :meth:`score` can reach for each mixed sample; NaN where it is not known."""
        raise NotImplementedError

    def clean_floor(self, counts: Tensor, loss: Any) -> float:
        """Return the lowest mean loss of samples that are not mixed, by the training images per class, (K,)."""
        raise NotImplementedError

    def caption(self, members: Sequence[tuple[float, int]], class_names: Sequence[str]) -> str:
        """Describe the target of an example by the weight and the target of each sample in it."""
        raise NotImplementedError

    def read(self, outputs: Tensor) -> Any:
        """Return what metrics are computed from, for the outputs of the model on a batch."""
        return outputs

    def record(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return what is kept of each test sample after the last epoch, {name: (B, ...)}, if anything."""
        return {}
