"""Object detection: a set of boxes per image. The network brings its own loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from vicinal.tasks.average_precision import METRICS, AveragePrecision, check_installed, class_metrics
from vicinal.tasks.task import Task
from vicinal.utils.image_size import ImageSize, shortest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.augmentation import CropFlip, Draws
    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings

COLORS = ("red", "lime", "blue", "orange", "cyan", "magenta", "yellow", "white")
METHODS = ("losses", "decode")


class DetectionLoss(NamedTuple):
    """The mean over the images of the network's own loss on the mixed boxes, each term times the weight of its box.

    weighted: whether boxes of blended images have the weights of their images, or 1.
    """

    model: Any
    size: ImageSize
    weighted: bool

    def __call__(self, plan: MixPlan, outputs: Any, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        from vicinal.tasks.boxes import mixed_boxes

        losses: Tensor = self.model.losses(outputs, mixed_boxes(plan, targets, self.size, self.weighted))
        return losses.mean() if weight is None else (weight * losses).mean()


@dataclass(frozen=True)
class Detection(Task):
    """Boxes, (N, M, 6) float32: see :mod:`vicinal.tasks.boxes`. A network for it has two methods.

    - ``losses(outputs, boxes)``: the loss of each image, (B,), by boxes (B, M, 6) with any weights.
    - ``decode(outputs)``: what it has found, (B, D, 6), with scores in place of weights; 0 for padding.

    Attributes:
        size: of the images, in pixels; 0 before :meth:`bind`.
        class_names: empty before :meth:`bind`.
    """

    losses = ("weighted", "unweighted")
    moves = True
    size: ImageSize = field(default=0, kw_only=True)
    class_names: tuple[str, ...] = field(default=(), kw_only=True)

    def bind(self, data: RunData, uneven: bool) -> Self:
        """Take the size of the images, and the metrics of each class."""
        metrics = (*self.metrics, *class_metrics(data.class_names))
        return replace(self, metrics=metrics, size=shortest(data.kind.shape[-2:]), class_names=data.class_names)

    def check(self, network: nn.Module) -> None:
        check_installed()
        if not all(callable(getattr(network, name, None)) for name in METHODS):
            raise ValueError(f"model must have the methods {' and '.join(METHODS)} for dataset.task=detection")

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        if len(inputs) != 3:
            raise ValueError("task must fit the inputs: detection needs images")
        for name, boxes in ((name, part.targets) for name, part in data.parts.items()):
            if not (boxes.is_floating_point() and boxes.dim() == 3 and boxes.shape[2] == 6):
                raise ValueError(
                    f"task must fit the targets: detection needs (N, M, 6), got {tuple(boxes.shape)} {name}"
                )
            boxes = boxes[boxes[..., 5] != 0]
            label, corners, weight = boxes[:, 0], boxes[:, 1:5], boxes[:, 5]
            classes = (label >= 0) & (label < len(data.class_names)) & (label == label.round())
            inside = (
                (corners >= 0).all(1) & (corners[:, ::2] <= inputs[2]).all(1) & (corners[:, 1::2] <= inputs[1]).all(1)
            )
            if not (classes & inside & (corners[:, :2] < corners[:, 2:]).all(1) & (weight == 1)).all():
                wanted = "boxes of a known class inside their image, with x1 < x2, y1 < y2 and weight 0 or 1"
                raise ValueError(f"task must fit the targets: detection needs {wanted}, got others in {name}")
            if not len(boxes):
                raise ValueError(f"task must fit the targets: detection needs boxes in {name}, got none")

    def output_shape(self, classes: int, inputs: Sequence[int]) -> None:
        return None

    def example_targets(self, batch: int, classes: int, inputs: Sequence[int]) -> Tensor:
        import torch

        return torch.tensor([0.0, 0.0, 0.0, *inputs[-2:], 1.0]).expand(batch, 1, -1)

    def loss(
        self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None
    ) -> DetectionLoss:
        return DetectionLoss(model, self.size, weighted=settings.loss != "unweighted")

    def caption(self, members: Sequence[tuple[float, Any]], class_names: Sequence[str]) -> str:
        """Return such as ``0.73 (2 cat, 1 dog) + 0.27 (1 cat)``."""
        sets = []
        for _, boxes in members:
            counts = Counter(class_names[int(box[0])] for box in boxes if box[5])
            sets.append(", ".join(f"{counts[name]} {name}" for name in class_names if counts[name]) or "nothing")
        if len(sets) == 1:
            return sets[0]
        return " + ".join(f"{weight:.2f} ({names})" for (weight, _), names in zip(members, sets, strict=True))

    def tiles(self, shown: Tensor, plan: MixPlan, targets: Tensor) -> Tensor:
        """Draw the boxes of each image, of its partner and of what they become, there with weights below 1."""
        from vicinal.tasks.boxes import mixed_boxes

        if shown.shape[2] not in (1, 3):
            return shown
        shown = shown.expand(-1, -1, 3, -1, -1).clone()
        few = len(shown)
        mixed = mixed_boxes(plan, targets, shown.shape[-2:])
        for tile, boxes in ((0, targets), (1, targets[plan.partner]), (3, mixed)):
            for picture, rows in zip(shown, boxes[:few].cpu(), strict=True):
                picture[tile] = drawn(picture[tile], rows)
        return shown

    def read(self, outputs: Any, model: nn.Module | None = None) -> Tensor:
        found: Tensor = model.decode(outputs)  # type: ignore[union-attr, operator]
        return found

    def evaluator(self, device: torch.device) -> AveragePrecision:
        return AveragePrecision(self.class_names, self.metrics)

    def moved(self, targets: Tensor, augmentation: CropFlip, draws: Draws) -> Tensor:
        from vicinal.tasks.boxes import moved_boxes

        return moved_boxes(targets, augmentation, draws, self.size)


def drawn(picture: Tensor, boxes: Tensor) -> Tensor:
    """Return a picture, uint8 (3, H, W), with its boxes (M, 6) in the colours of their classes, and weights below 1."""
    from torchvision.utils import draw_bounding_boxes

    boxes = boxes[boxes[:, 5] > 0]
    if not len(boxes):
        return picture
    colors = [COLORS[int(label) % len(COLORS)] for label in boxes[:, 0]]
    labels = ["" if weight == 1 else f"{weight:.2f}" for weight in boxes[:, 5].tolist()]
    found: Tensor = draw_bounding_boxes(picture, boxes[:, 1:5], labels=labels, colors=colors)
    return found


DETECTION = Detection(name="detection", metrics=METRICS, selection="map")
