"""Originals, partners, masks, mixed images and targets of the first batches that a run would train on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from vicinal.build import load_data, make_loaders
from vicinal.data import RunData
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment
from vicinal.launch.grid import ABSENT, Job, swept_keys, value
from vicinal.mixing import MixPlan
from vicinal.mixing.transforms import Blank
from vicinal.training.batch_context import BatchFacts
from vicinal.training.rng_streams import RngStreams
from vicinal.visualize.canvas import INK, OWN, PALE, PARTNER, STRATEGY_COLORS, write
from vicinal.visualize.jobs import images_of, jobs
from vicinal.visualize.lambdas import ALPHAS, law_figure, laws

IMAGES = 4
BLOCKS = ("originals", "partners", "masks m", "mixed", "targets")
BARS = 2  # classes of a target
SIDE = 0.72  # width of an image in inches
FEATURES = STRATEGY_COLORS["manifold"]
MASK_COLORS = LinearSegmentedColormap.from_list("m", [PARTNER, OWN])
CAPTION = """\
Image k is the first of the k-th batch that a run with this config trains on. Blue is the image's own part, vermilion \
its partner's."""
FEATURES_CAPTION = """
Green frame: the output of the named block is mixed, not the image; the picture shows the same weights on the pixels."""


OF_NETWORKS = {"saliency": "how much each pixel matters", "shapes": "the shape at the block of mixup.depth"}
"""Facts of the context that no data set has."""
ATTENTION = "the attention that targets follow"


class Sample(NamedTuple):
    """The first sample of a batch; images are (C, H, W) and normalised, as they enter the network."""

    plan: MixPlan
    label: int
    partner_label: int
    original: Tensor
    partner: Tensor
    mixed: Tensor  # what the plan makes of the image, also where it mixes the output of a block instead
    mask: Tensor  # (1, H, W), the weight of the sample's own pixels
    target: Tensor  # (K,)

    @property
    def layer(self) -> str | None:
        """The block whose output is mixed; None is the input."""
        return self.plan.layer if self.plan.active else None


class Row(NamedTuple):
    """The first samples of one job, and lines that name it."""

    label: tuple[str, ...]
    data: RunData
    samples: list[Sample]

    def pixels(self, image: Tensor) -> Tensor:
        """Return a normalised image (C, H, W) as (H, W, C) in [0, 1]; mixing cannot leave it, rounding can."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.data.mean, self.data.std))
        return (image * std + mean).clamp(0, 1).permute(1, 2, 0)


def show(overrides: Sequence[str], out: Path, images: int = IMAGES, alphas: Sequence[float] = ALPHAS) -> list[Path]:
    """Draw the grid to ``out``, and the laws of lambda, if a strategy has one, to ``<out>-lambda.png``."""
    grid_jobs = jobs(overrides)
    for job in grid_jobs:
        check(job.experiment)
    files = [write(out, partial(grid, rows(grid_jobs, images)))]
    by_alpha = laws(grid_jobs, alphas)
    if any(by_alpha.values()):
        size = images_of(grid_jobs[0].experiment).image_size
        files.append(write(out.with_name(f"{out.stem}-lambda{out.suffix}"), partial(law_figure, by_alpha, size)))
    return files


def check(experiment: Experiment) -> None:
    """Refuse a strategy that can only be drawn with a network, and there is none. Raises ConfigError."""
    strategy = experiment.strategy
    told = [fact for name, fact in OF_NETWORKS.items() if name in strategy.needs]
    if told or strategy.reads:
        what = told[0] if told else ATTENTION
        raise ConfigError("mixup", experiment.choices["mixup"], f"cannot be drawn: only a network tells {what}")


def rows(jobs: Sequence[Job], images: int) -> list[Row]:
    """Return one row per job with its first samples. Jobs with the same images load them once."""
    loaded: dict[str, RunData] = {}
    shown = []
    for job, label in zip(jobs, labels(jobs), strict=True):
        key = repr(job.experiment.dataset.identity())
        data = loaded[key] = loaded.get(key) or load_data(job.experiment)
        shown.append(Row(label, data, first_samples(job.experiment, data, images)))
    return shown


def labels(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """Return the strategy, its alpha and what else the command line sweeps, one line each, per job."""
    keys = [key for key in dict.fromkeys(["mixup.alpha", *swept_keys(jobs)]) if key != "mixup"]
    shown = []
    for experiment in (job.experiment for job in jobs):
        values = {key.rpartition(".")[2]: value(experiment, key) for key in keys}
        lines = [f"{name} {text}" for name, text in values.items() if text != ABSENT]
        shown.append((experiment.choices["mixup"], *lines))
    return shown


def first_samples(experiment: Experiment, data: RunData, number: int) -> list[Sample]:
    """Return the first sample of each of the first batches, ordered, augmented and mixed as a training does it.

    Raises ConfigError: the strategy is for features, and cannot mix such images.
    """
    loader, streams = make_loaders(experiment, data).train, RngStreams(experiment.seed)
    counts, epochs = experiment.task.counts(data.train.targets, experiment.sizes.classes), experiment.trainer.epochs
    facts = BatchFacts(experiment.strategy.needs, experiment.task, counts, epochs, len(loader))
    batches = (
        (min(epoch, epochs), step, *batch)  # more images than the training has batches are of its last epoch
        for epoch in count(1)
        for step, batch in enumerate(loader.epoch(streams.order, streams.augmentation, number=epoch))
    )
    samples = []
    for epoch, step, images, own in islice(batches, number):
        plan = experiment.strategy.sample(images.shape, streams.mixing, facts(images, own, epoch, step))
        partner = int(plan.partner[0])
        try:
            mixed = plan.mix(images)[0]
        except ValueError as error:  # what is for features does not fit pixels
            raise ConfigError("mixup", experiment.choices["mixup"], f"cannot be drawn: {error}") from None
        # Clones, since the next batch overwrites the loader's memory.
        pictures = images[0].clone(), images[partner].clone(), mixed.clone()
        target = plan.settled().targets(own, experiment.sizes.classes)[0]
        samples.append(Sample(plan, int(own[0]), int(own[partner]), *pictures, mask(plan, images)[0], target))
    return samples


def mask(plan: MixPlan, images: Tensor) -> Tensor:
    """Return the m of ``m * x + (1 - m) * x[partner]``, (B, 1, H, W): 1 where all is the image's own."""
    return plan.own_part(images[:, :1].contiguous())


def grid(shown: Sequence[Row]) -> Figure:
    """Draw one row per strategy: originals, partners, masks, mixed images and targets of its samples."""
    number = len(shown[0].samples)
    width, height = 5.6 * number * SIDE + 1.6, len(shown) * (SIDE + 0.42) + 1
    figure = Figure(figsize=(width, height))
    widths = [*[1.0] * number, 0.15] * len(BLOCKS)  # a gap after each block
    # Margins in inches, since a constrained layout of so many axes takes as long as drawing them.
    margins = {"left": 0.95 / width, "right": 1 - 0.02 / width, "bottom": 0.75 / height, "top": 1 - 0.3 / height}
    places = figure.add_gridspec(
        len(shown), len(widths), width_ratios=widths, wspace=0.1, hspace=0.42 / SIDE, **margins
    )
    for index, row in enumerate(shown):
        for block, name in enumerate(BLOCKS):
            first = block * (number + 1)
            drawn = [figure.add_subplot(places[index, first + offset]) for offset in range(number)]
            for axes, sample in zip(drawn, row.samples, strict=True):
                _cell(axes, row, name, sample)
            if index == 0:
                drawn[0].set_title(name, loc="left", weight="bold", size=10)
            if block == 0:
                drawn[0].set_ylabel("\n".join(row.label), rotation=0, ha="right", va="center", size=10)
    figure.supxlabel(caption(shown), x=0.01, ha="left", size=8.5, color=INK)
    return figure


def caption(shown: Sequence[Row]) -> str:
    """Return what a reader has to know about the grid."""
    features = any(sample.layer is not None for row in shown for sample in row.samples)
    return CAPTION + FEATURES_CAPTION * features


def _cell(axes: Axes, row: Row, block: str, sample: Sample) -> None:
    """Draw one image or target; a partner only where there is one."""
    own, partner = (_short(row.data.class_names[label]) for label in (sample.label, sample.partner_label))
    active, others = sample.plan.active, sample.plan.members.shape[1] - 1
    height, width = sample.original.shape[1:]
    axes.set(xticks=[], yticks=[], box_aspect=1 if block == "targets" else height / width)
    if block == "targets":
        _bars(axes, sample, row.data.class_names)
        return
    if others > 1:
        partner = f"1 of {others}: {partner}"
    blank = isinstance(sample.plan.transform, Blank)
    mixed_at = f"at {sample.layer or 'input'}" if active else "not mixed"
    image, note, color = {
        "originals": (row.pixels(sample.original), own, OWN),
        "partners": (row.pixels(sample.partner), partner, PARTNER)
        if active and not blank
        else (None, "no partner", PALE),
        "masks m": (sample.mask[0], f"mean {sample.mask.mean():.2f}", PALE),
        "mixed": (row.pixels(sample.mixed), _short(mixed_at), INK if sample.layer is None else FEATURES),
    }[block]
    if image is not None:
        colors = MASK_COLORS if block == "masks m" else "gray"
        axes.imshow(image.numpy(), cmap=colors, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel(note, size=8, labelpad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth={FEATURES: 2.0, PALE: 0.8}.get(color, 1.4))


def _bars(axes: Axes, sample: Sample, class_names: Sequence[str]) -> None:
    """Draw the classes of a target with their weights, as bars from 0 to 1: BARS of them, and the rest as one."""
    plan, weights = sample.plan, sample.target
    classes = [sample.label]
    if plan.active and plan.pairs:
        classes += [sample.partner_label] * (sample.partner_label != sample.label)
    elif plan.active:
        by_weight = weights.argsort(descending=True, stable=True).tolist()
        classes += [label for label in by_weight if label != sample.label and weights[label] > 0]
    alone = not plan.active or not plan.pairs or isinstance(plan.transform, Blank)
    both = "" if alone or len(classes) > 1 else " (both)"
    bars = [(_short(class_names[label]) + "  ", weights[label].item(), both) for label in classes[:BARS]]
    if rest := classes[BARS:]:
        bars.append((f"{len(rest)} more  ", weights[rest].sum().item(), ""))
    for place, (name, weight, note) in enumerate(bars):
        axes.barh(place, weight, height=0.42, color=PARTNER if place else OWN)
        axes.text(0.02, place - 0.27, f"{name}{weight:.2f}{note}", va="bottom", size=7.5)
    axes.set(xlim=(0, 1), ylim=(max(2, len(bars)) - 0.5, -0.75))
    for name, spine in axes.spines.items():
        spine.set(visible=name in ("left", "right"), color="#cccccc")


def _short(text: str, length: int = 10) -> str:
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")
