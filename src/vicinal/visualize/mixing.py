"""What a strategy does to images: the tensors of the first batches that a run would train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from vicinal.build import load_data, make_loaders
from vicinal.data import ImageData, Loader
from vicinal.experiment import Experiment
from vicinal.launch.grid import Job, swept_keys, value
from vicinal.mixing import MixPlan
from vicinal.training.rng_streams import RngStreams


@dataclass(frozen=True)
class Row:
    """One strategy's first batches, of each the first sample: N in all.

    Attributes:
        label: what the row is, in lines.
        data: whose normalisation the images have.
        plans: of the N batches.
        labels: (N,) int64, the samples' own.
        partner_labels: (N,) int64.
        originals, partners, mixed: (N, C, H, W) normalised, as they enter the network. Where a plan mixes the output
            of a block, ``mixed`` is what it makes of the images: the same weights, for the eye.
        masks: (N, 1, H, W), the weight of a sample's own pixels.
        targets: (N, K).
    """

    label: tuple[str, ...]
    data: ImageData
    plans: tuple[MixPlan, ...]
    labels: Tensor
    partner_labels: Tensor
    originals: Tensor
    partners: Tensor
    mixed: Tensor
    masks: Tensor
    targets: Tensor

    @property
    def lam(self) -> list[float]:
        return [plan.lam[0].item() for plan in self.plans]

    @property
    def layers(self) -> list[str | None]:
        """The block whose output each batch mixes; None is the input."""
        return [plan.layer if plan.active else None for plan in self.plans]

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) as (N, H, W, C) in [0, 1]; mixing cannot leave it, rounding can."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.data.mean, self.data.std))
        return (images * std + mean).clamp(0, 1).permute(0, 2, 3, 1)


def rows(jobs: Sequence[Job], count: int) -> list[Row]:
    """Return one row per job, each of ``count`` batches. Jobs with the same images load them once."""
    loaded: dict[str, ImageData] = {}
    found = []
    for job, label in zip(jobs, labels(jobs), strict=True):
        key = repr(job.experiment.dataset.identity())
        if key not in loaded:
            loaded[key] = load_data(job.experiment)
        found.append(row(job.experiment, loaded[key], count, label))
    return found


def labels(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """The strategy, its alpha and what else the command line sweeps, a line each."""
    keys = [key for key in swept_keys(jobs) if key not in ("mixup", "mixup.alpha")]
    found = []
    for job in jobs:
        experiment = job.experiment
        alpha = experiment.mixup.arguments.get("alpha")
        lines = [experiment.choices["mixup"], *([] if alpha is None else [f"alpha {alpha:g}"])]
        found.append((*lines, *(f"{key.rpartition('.')[2]} {value(experiment, key)}" for key in keys)))
    return found


def row(experiment: Experiment, data: ImageData, count: int, label: tuple[str, ...]) -> Row:
    """The first sample of each of the first ``count`` batches of a run: same order, augmentation and plans."""
    batches = islice(first_batches(experiment, data), count)
    samples = [_sample(plan, images, own, len(data.class_names)) for plan, images, own in batches]
    plans, *tensors = zip(*samples, strict=True)
    return Row(label, data, plans, *(torch.cat(parts) for parts in tensors))


def first_batches(experiment: Experiment, data: ImageData) -> Iterator[tuple[MixPlan, Tensor, Tensor]]:
    """Plans, normalised images (B, C, H, W) and labels (B,) as a training with this config sees them, without end.

    The images are the loader's own memory, which the next batch overwrites.
    """
    loader: Loader = make_loaders(experiment, data).train
    streams = RngStreams(experiment.seed)
    while True:
        for images, own in loader.epoch(streams.order, streams.augmentation):
            yield experiment.strategy.sample(images.shape, streams.mixing), images, own


def _sample(plan: MixPlan, images: Tensor, own: Tensor, classes: int) -> tuple[MixPlan, *tuple[Tensor, ...]]:
    one, other = slice(1), plan.partner[:1]
    return (
        plan,
        own[one].clone(),
        own[other],
        images[one].clone(),
        images[other],
        plan.mix(images)[one].clone(),
        mask(plan, images)[one],
        plan.targets(own, classes)[one],
    )


def mask(plan: MixPlan, images: Tensor) -> Tensor:
    """The m of ``m * x + (1 - m) * x[partner]``, (B, 1, H, W): what is left if x is white and the partner black."""
    white = torch.ones_like(images[:, :1], memory_format=torch.contiguous_format)
    return plan.applied_mask.mix(white, torch.zeros_like(white)) if plan.active else white
