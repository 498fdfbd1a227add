"""A kind of target, and all that depends on it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from vicinal.tasks.metric import Evaluator, Metric, Totals

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.augmentation import CropFlip, Draws
    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings


class Bounds(NamedTuple):
    """Values that a perfect model would reach on mixed targets, (B,) each: why train scores stay low and losses high.

    same: whether all members of a sample have its target.
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
    """A kind of target. A subclass, one file each, has the methods below; B targets are a tensor (B, ...).

    Only the loss has to be there. This class itself is a table of metrics, as a result records it.
    """

    name: str  # as ``result.json`` records it
    metrics: tuple[Metric, ...]  # in the order in which they are shown
    selection: str  # key of the metric on validation that chooses epochs, cells and points of a search
    score_key: str | None = field(default=None, kw_only=True)
    """Metric that training batches are scored by: ``train/<key>``, ``train_clean/<key>``; None for none."""
    loss_key: str | None = field(default=None, kw_only=True)
    """Metric that is the loss without mixing: it becomes ``train_clean/loss``; None for none."""
    has_classes: ClassVar[bool] = False
    """Whether a target is one class: cuts are stratified then, and there can be imbalance and wrong labels."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Names that ``trainer.loss`` takes; ``auto`` is the first."""
    moves: ClassVar[bool] = False
    """Whether targets have places in the image, and move with it: see :meth:`moved`."""

    def metric(self, key: str) -> Metric:
        """Return the metric of a key. Raises KeyError."""
        return {metric.key: metric for metric in self.metrics}[key]

    @property
    def computed(self) -> list[Metric]:
        """All metrics that evaluation computes: some wait for :meth:`bind`."""
        return [metric for metric in self.metrics if metric.ready]

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

    def described(self) -> dict[str, Any]:
        """Return the table of metrics in plain containers, for records that are read without the task's own code."""
        names = [item.name for item in fields(Metric)]
        metrics = [{name: asdict(metric)[name] for name in names} for metric in self.metrics]
        return {"name": self.name, "selection": self.selection, "score": self.score_key, "metrics": metrics}

    @classmethod
    def of_description(cls, described: Mapping[str, Any]) -> Task:
        """Return the table of metrics that :meth:`described` has given."""
        names = [item.name for item in fields(Metric)]
        metrics = tuple(Metric(**{name: metric[name] for name in names}) for metric in described["metrics"])
        return Task(described["name"], metrics, described["selection"], score_key=described["score"])

    def trained_with(self, loss: str) -> Self:
        """Return the task that reads outputs as a training with this loss, a name of ``trainer.loss``, makes them."""
        return self

    def bind(self, data: RunData, uneven: bool) -> Self:
        """Return the task of a training on these data; `uneven` if its classes were made of different size."""
        return self

    def baseline(self, data: RunData) -> dict[str, Any] | None:
        """Return {"name": of a simple model, "test": its scores} to compare trainings on these data with, if any."""
        return None

    def check(self, network: nn.Module) -> None:
        """Refuse a network whose outputs the task cannot use, before any data are read. Raises ValueError."""

    def check_classes(self, classes: int) -> None:
        """Refuse a number of classes that targets cannot have. Raises ValueError that begins with ``classes``."""

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        """Refuse targets that do not fit the task or the inputs, each of this shape. Raises ValueError."""

    def strata(self, targets: Tensor) -> Tensor | None:
        """Return the class of each sample, (N,) int64, whose share all cuts keep; None for random cuts."""
        return targets if self.has_classes else None

    def counts(self, targets: Tensor, classes: int) -> Tensor:
        """Return the number of samples per class, (K,) int64; (0,) where a sample has not one class."""
        import torch

        return torch.bincount(targets, minlength=classes) if self.has_classes else torch.zeros(0, dtype=torch.int64)

    def output_shape(self, classes: int, inputs: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape of the network's output for one sample of this shape; None if any will do."""
        return (classes,)

    def example_targets(self, batch: int, classes: int, inputs: Sequence[int]) -> Tensor:
        """Return targets (batch, ...) of inputs of this shape, to try a strategy with, as :meth:`compared` has them."""
        import torch

        if self.has_classes:
            return torch.arange(batch) % classes
        return torch.arange(batch * classes).view(batch, classes).float()

    def loss(self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None) -> Any:
        """Return the loss of an epoch: ``loss(plan, outputs, targets, weight)`` is the mean of a mixed batch, a scalar.

        Args:
            settings: of the trainer.
            counts: training samples per class, (K,) int64; None for a loss that does not depend on them.
            epoch: from 1.
            model: whose outputs they are; for a network that brings its own loss.
        """
        raise NotImplementedError

    def compared(self, targets: Tensor) -> Tensor:
        """Return targets (B, ...) in the form in which strategies compare them: floats (B, D) are numbers."""
        return targets

    def score(self, plan: MixPlan, outputs: Any, targets: Tensor) -> Tensor | None:
        """Return the score of each mixed sample, (B,) float32, for the targets before mixing; None without a score."""
        return None

    def bounds(self, plan: MixPlan, targets: Tensor, classes: int, loss: Any) -> Bounds | None:
        """Return what a loss and :meth:`score` can reach for each mixed sample; NaN, or None, where it is not known."""
        return None

    def clean_floor(self, counts: Tensor, loss: Any) -> float:
        """Return the lowest mean loss of samples that are not mixed, by the training samples per class, (K,).

        NaN where it is not known, as in a task without :meth:`bounds`.
        """
        return math.nan if type(self).bounds is Task.bounds else 0.0

    def caption(self, members: Sequence[tuple[float, Any]], class_names: Sequence[str]) -> str:
        """Describe the target of an example by the weight and the target of each sample in it."""
        return " + ".join(f"{weight:.2f}" for weight, _ in members)

    def tiles(self, shown: Tensor, plan: MixPlan, targets: Tensor) -> Tensor:
        """Return the pictures of a few mixed samples, uint8 (n, T, C, H, W), with what can be shown of their targets.

        Args:
            shown: uint8 (n, 4, C, H, W): the first n samples of the batch, their partners, masks, and what they become.
            plan: of the batch.
            targets: (B, ...), before mixing.
        """
        return shown

    def read(self, outputs: Any, model: nn.Module | None = None) -> Any:
        """Return what metrics are computed from, for the outputs of the model on a batch."""
        return outputs

    def evaluator(self, device: torch.device) -> Evaluator:
        """Return what computes the metrics over batches."""
        return Totals(self.computed, device)

    def moved(self, targets: Tensor, augmentation: CropFlip, draws: Draws) -> Tensor:
        """Return the targets (B, ...) of images that are cropped and flipped so."""
        raise NotImplementedError

    def record(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return what is kept of each test sample after the last epoch, {name: (B, ...)}, if anything."""
        return {}
