"""Segmentation: one class per pixel. Torch is imported inside the functions: tables read this module too."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vicinal.tasks.metric import MeanMetric, Metric, Totals
from vicinal.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vicinal.data.augmentation import CropFlip, Draws
    from vicinal.data.samples import RunData
    from vicinal.mixing import MixPlan
    from vicinal.tasks.losses import LossSettings
    from vicinal.tasks.pixel_losses import PixelLoss

IGNORE = 255
"""Class of pixels that count nowhere."""
MOST_NAMED = 3  # classes in a caption
GOLDEN = 0.618034  # of a circle


def class_maps(targets: Tensor) -> Tensor:
    """Return the class of each pixel, (B, H, W), of targets with or without instances."""
    return targets if targets.dim() == 3 else targets[:, 0]


class Areas(NamedTuple):
    """What metrics are computed from: pixels of each class in each image of a batch, (B, K) int64, counted alone.

    both: predicted as the class that they are.
    predicted: predicted as the class.
    true: of the class.
    nll: (B,), the negative log-likelihood in nats, the mean over the pixels.
    """

    both: Tensor
    predicted: Tensor
    true: Tensor
    nll: Tensor

    @property
    def either(self) -> Tensor:
        return self.predicted + self.true - self.both

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> Areas:
        """Count for logits (B, K, H, W) float32 and targets (B, H, W) or (B, 2, H, W)."""
        import torch

        from vicinal.tasks.pixel_losses import cross_entropies

        (batch, classes), maps = logits.shape[:2], class_maps(targets).long()
        counted = maps != IGNORE
        first = torch.arange(batch, device=maps.device)[:, None, None] * classes  # place of each image's first class
        predicted = logits.argmax(dim=1)

        def areas(of: Tensor, where: Tensor) -> Tensor:
            return torch.bincount((of + first)[where], minlength=batch * classes).view(batch, classes)

        both = areas(maps, counted & (predicted == maps))
        nll = cross_entropies(logits)(maps)
        return cls(both, areas(predicted, counted), areas(maps, counted), nll)


@dataclass(frozen=True)
class Overlap(Metric):
    """The mean over the classes of a ratio of areas that are summed over all images; classes without any are left out.

    ratio: "iou", both / either, or "dice", 2 both / (predicted + true).
    first: class from which the mean is taken: 1 leaves out the background.
    """

    ratio: str
    first: int = 0

    def sums(self, outputs: Areas, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return both and either, or twice both and predicted + true, of each class, (2, K)."""
        import torch

        both, either = outputs.both.sum(dim=0), outputs.either.sum(dim=0)
        parts = (both, either) if self.ratio == "iou" else (2 * both, both + either)
        return torch.stack(parts)[:, self.first :].to(dtype)

    def value(self, totals: Tensor, count: int) -> Tensor:
        """Return the mean; 0 where there is no pixel."""
        return _mean_ratio(*totals)


class PixelAccuracy(Metric):
    """Share of the counted pixels of all images that are right."""

    def sums(self, outputs: Areas, targets: Tensor, dtype: torch.dtype) -> Tensor:
        import torch

        return torch.stack([outputs.both.sum(), outputs.true.sum()]).to(dtype)

    def value(self, totals: Tensor, count: int) -> Tensor:
        right, counted = totals
        share: Tensor = right / counted.clamp(min=1)
        return share


def image_iou(outputs: Areas, targets: Tensor) -> Tensor:
    """Return the mean IoU of the classes of each image, (B,): of those that it has, or is said to have."""
    return _mean_ratio(outputs.both.double(), outputs.either.double())


def nll(outputs: Areas, targets: Tensor) -> Tensor:
    return outputs.nll


def _mean_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return the mean over the last dimension of part / whole, where whole is above 0."""
    ratio = part / whole.clamp(min=1)
    mean: Tensor = ratio.sum(dim=-1) / (whole > 0).sum(dim=-1).clamp(min=1)
    return mean


class ImageMean(MeanMetric):
    """The mean over the images that have a counted pixel."""

    def sums(self, outputs: Areas, targets: Tensor, dtype: torch.dtype) -> Tensor:
        import torch

        counted = outputs.true.sum(dim=1) > 0
        return torch.stack([(self.function(outputs, targets) * counted).sum(dtype=dtype), counted.sum(dtype=dtype)])

    def value(self, totals: Tensor, count: int) -> Tensor:
        total, counted = totals
        mean: Tensor = total / counted.clamp(min=1)
        return mean


class AreaTotals(Totals):
    """Counts pixels once for all metrics."""

    def measure(self, outputs: Any, targets: Tensor) -> Any:
        return super().measure(Areas.of(outputs, targets), targets)


class Segmentation(Task):
    """One class of K per pixel, (N, H, W) uint8 or int64, :data:`IGNORE` for pixels that count nowhere.

    Targets (N, 2, H, W) have a second map with the number of the instance of each pixel, 0 for none. It is no target:
    strategies that paste instances look at it. The network returns logits (B, K, H, W).
    """

    losses = ("ce", "dice", "ce_dice")
    moves = True

    def check_classes(self, classes: int) -> None:
        if classes > IGNORE:
            raise ValueError(
                f"classes must be at most {IGNORE}: {IGNORE} marks pixels that do not count, got {classes}"
            )

    def refuse(self, data: RunData, inputs: Sequence[int]) -> None:
        import torch

        size, classes = tuple(inputs[-2:]), len(data.class_names)
        self.check_classes(classes)
        for name, part in data.parts.items():
            targets = part.targets
            shapes = (size, (2, *size))
            if targets.dtype not in (torch.uint8, torch.int64) or tuple(targets.shape[1:]) not in shapes:
                found = f"{tuple(targets.shape)} {targets.dtype}"
                wanted = f"maps (N, {size[0]}, {size[1]}) of the images' size, uint8 or int64"
                raise ValueError(f"task must fit the targets: segmentation needs {wanted}, got {found} in {name}")
            maps = class_maps(targets)
            if (odd := maps[((maps >= classes) & (maps != IGNORE)) | (maps < 0)]).numel():
                wanted = f"classes from 0 to {classes - 1}, or {IGNORE} for pixels that do not count"
                raise ValueError(f"task must fit the targets: maps have {wanted}, got {int(odd[0])} in {name}")
            if not (maps != IGNORE).any():
                raise ValueError(f"task must fit the targets: maps need pixels that count, and {name} has none")

    def strata(self, targets: Tensor) -> None:
        """Return None: an image has not one class, so cuts are random."""

    def output_shape(self, classes: int, inputs: Sequence[int]) -> tuple[int, ...]:
        return (classes, *inputs[-2:])

    def example_targets(self, batch: int, classes: int, inputs: Sequence[int]) -> Tensor:
        import torch

        pixels = torch.arange(batch * inputs[-2] * inputs[-1]) // 7 % classes  # stripes
        return pixels.view(batch, *inputs[-2:]).to(torch.uint8)

    def loss(
        self, settings: LossSettings, counts: Tensor | None, epoch: int, model: nn.Module | None = None
    ) -> PixelLoss:
        from vicinal.tasks.pixel_losses import PixelLoss

        return PixelLoss(self.losses[0] if settings.loss == "auto" else settings.loss)

    def score(self, plan: MixPlan, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the share of the pixels that are right, (B,), in the cut map or weighted by lambda."""
        from vicinal.tasks.pixel_losses import counted_mean, cut

        predicted = outputs.argmax(dim=1)

        def share(maps: Tensor) -> Tensor:
            return counted_mean((predicted == maps).float(), maps)

        maps = class_maps(targets)
        return share(cut(plan, maps, outputs.shape[1])) if plan.cuts else plan.pair_loss(share, maps)

    def caption(self, members: Sequence[tuple[float, Any]], class_names: Sequence[str]) -> str:
        """Return such as ``0.73 (nucleus 12 %) + 0.27 (nucleus 8 %)``: the largest classes but the first."""
        import torch

        parts = []
        for _, target in members:
            maps = class_maps(torch.tensor(target)[None]).flatten()
            areas = torch.bincount(maps[maps != IGNORE], minlength=len(class_names))[1:]
            shares = (areas / max(len(maps), 1)).sort(descending=True)
            named = list(zip(shares.values.tolist(), shares.indices.tolist(), strict=True))[:MOST_NAMED]
            parts.append(", ".join(f"{class_names[1 + label]} {share:.0%}" for share, label in named if share))
        if len(parts) == 1:
            return parts[0] or class_names[0]
        weighted = zip(members, parts, strict=True)
        return " + ".join(f"{weight:.2f} ({part or class_names[0]})" for (weight, _), part in weighted)

    def tiles(self, shown: Tensor, plan: MixPlan, targets: Tensor) -> Tensor:
        """Return the pictures in colours, with two more: the sample's own map, and what the maps are mixed to.

        The first class is black, and pixels that do not count are grey.
        """
        import torch

        colours = torch.tensor([*_colours(IGNORE), (0.5, 0.5, 0.5)], device=targets.device)
        own = colours[class_maps(targets).long()].movedim(-1, 1).contiguous()  # (B, 3, H, W)
        mixed = plan.mix_targets(own)
        few, rgb = len(shown), shown if shown.shape[2] == 3 else shown[:, :, :1].expand(-1, -1, 3, -1, -1)
        maps = torch.stack([own[:few], mixed[:few]], dim=1).cpu()
        return torch.cat([rgb, (maps * 255).round().clamp(0, 255).to(torch.uint8)], dim=1)

    def read(self, outputs: Tensor, model: nn.Module | None = None) -> Tensor:
        return outputs.float()

    def evaluator(self, device: torch.device) -> AreaTotals:
        return AreaTotals(self.computed, device)

    def moved(self, targets: Tensor, augmentation: CropFlip, draws: Draws) -> Tensor:
        """Return the maps as the images are cropped, flipped and turned; what comes from outside does not count."""
        import torch

        layers = targets.reshape(len(targets), -1, *targets.shape[-2:]).clone()
        layers[:, 0] ^= IGNORE  # outside is 0, which is then IGNORE
        layers = augmentation.gather(layers, torch.arange(len(layers), device=layers.device), draws)
        layers[:, 0] ^= IGNORE
        return layers.view_as(targets)


def _colours(count: int) -> list[tuple[float, float, float]]:
    """Return colours in [0, 1]: black, then hues a golden section of the circle apart."""
    hues = [(0.1 + GOLDEN * label) % 1 for label in range(1, count)]
    return [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(hue, 0.75, 0.95) for hue in hues)]


SEGMENTATION = Segmentation(
    name="segmentation",
    metrics=(
        Overlap("miou", "mean IoU of the classes", "%", "higher", "iou", short="mIoU"),
        Overlap("iou", "IoU without the background", "%", "higher", "iou", 1, short="IoU"),
        Overlap("dice", "mean Dice of the classes", "%", "higher", "dice", short="Dice"),
        ImageMean("image_iou", "mean IoU image by image", "%", "higher", image_iou, short="IoU per image"),
        PixelAccuracy("pixel_acc", "pixel accuracy", "%", "higher", short="pixels"),
        ImageMean("nll", "negative log-likelihood of a pixel", "nats", "lower", nll, short="NLL"),
    ),
    selection="miou",
    score_key="pixel_acc",
    loss_key="nll",
)
