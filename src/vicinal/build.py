"""Make the data, the loaders and the network of a checked request."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vicinal import dry_build
from vicinal.config.components import Component
from vicinal.data import (
    CropFlip,
    Images,
    Loader,
    RunData,
    Samples,
    Source,
    contents,
    fits,
    load,
    split,
    steps_per_epoch,
)
from vicinal.data.encoded import RandomResizedCrop
from vicinal.data.kept_images import RESIZED
from vicinal.data.label_noise import asymmetric, symmetric
from vicinal.data.policies import Policy
from vicinal.data.sampling import SAMPLERS
from vicinal.data.source_check import checked_source
from vicinal.errors import ConfigError, UserError, written
from vicinal.experiment import Experiment
from vicinal.training.loop import Loaders
from vicinal.training.rng_streams import derive

log = logging.getLogger(__name__)

STATISTICS_DIFFER = 0.005  # in mean or standard deviation of pixels in [0, 1]
SEEN, SEEN_AT_ONCE = 5000, 50  # training inputs that a network may set weights by, and how many of them at a time
CUTS = ("val_size", "train_size", "imbalance", "imbalance_ratio")  # keys that say which images are trained on


def make_model(experiment: Experiment) -> nn.Module:
    """Return a new network, with weights from torch's default generator. Raises ConfigError: a file has changed."""
    model: nn.Module = experiment.model(**experiment.sizes.arguments)
    _refuse_changed(experiment, experiment.model)
    return model


def initialise(model: nn.Module, experiment: Experiment, data: RunData) -> None:
    """Show some training inputs to a network that sets weights by them before training: one with ``initialise``.

    They are those of the data's split, on the CPU, normalised and not augmented, so that all seeds and processes of a
    run get the same.
    """
    if (see := getattr(model, "initialise", None)) is None:
        return
    chooser = torch.Generator().manual_seed(derive(experiment.dataset.values["split_seed"], "initialise"))
    chosen = torch.randperm(len(data.train.targets), generator=chooser)[:SEEN].sort().values
    shown = Loader(data.train.choose(chosen), SEEN_AT_ONCE, data.mean, data.std, device=torch.device("cpu"))
    see(inputs for inputs, _ in shown.batches())


def warn_of_statistics(model: nn.Module, data: RunData) -> None:
    """Warn if pretrained weights, whose network names ``normalised_by``, know images of another mean or deviation."""
    expected = getattr(model, "normalised_by", None)
    if expected is None or data.mean is None or data.std is None or len(data.mean) != len(expected[0]):
        return  # such as grey images
    own = data.mean, data.std
    if any(abs(a - b) > STATISTICS_DIFFER for a, b in zip(chain(*expected), chain(*own), strict=True)):
        there, here = (
            "dataset.mean={} dataset.std={}".format(*(written([round(x, 3) for x in part]) for part in pair))
            for pair in (expected, own)
        )
        log.warning("the pretrained weights are of images with %s; here it is %s", there, here)


def check_cuts(experiment: Experiment) -> None:
    """Refuse an impossible cut, where the source can tell its targets without loading inputs. Raises UserError."""
    dataset = experiment.dataset
    cuts = {name: dataset.values[name] for name in CUTS}
    if preview := dataset.tell("preview"):
        with dataset.refusals():
            split(preview, **cuts, seed=dataset.values["split_seed"], strata=experiment.task.strata)


def check_steps(experiment: Experiment, data: RunData) -> None:
    """Refuse a schedule that does not fit the number of steps, which only the data can show. Raises ConfigError."""
    shards, samples = experiment.shards.count, len(data.train.targets)
    if samples < 2:
        value = experiment.dataset.values["train_size"]
        raise ConfigError(
            "dataset.train_size", value, f"must leave at least 2 samples to train on, and leaves {samples}"
        )
    if samples < 2 * shards:
        raise ConfigError("trainer.shards", shards, f"must be at most {samples // 2}, half of the training images")
    steps = steps_per_epoch(samples, experiment.trainer.batch_size, shards)
    dry_build.check_schedule(experiment.optimizer, experiment.scheduler, experiment.trainer.epochs, steps)


def load_data(experiment: Experiment) -> RunData:
    """Return the data with hashes of their sources, once the schedule fits. Raises as :func:`load_samples`."""
    source, data = load_samples(experiment)
    check_steps(experiment, data)
    hashes = _file_hashes(experiment)
    return replace(data, contents=contents.of_samples(source) if hashes is None else hashes)


def load_samples(experiment: Experiment) -> tuple[Source, RunData]:
    """Return the source, and its data, split and with label noise. UserError: out of reach, or a key does not fit."""
    check_cuts(experiment)
    values, task, sizes = experiment.dataset.values, experiment.task, experiment.sizes
    try:
        source = checked_source(_unchanged(experiment), sizes.inputs, task.has_classes)
    except ValueError as error:
        raise ConfigError("dataset._target_", experiment.dataset.target, str(error)) from None
    shape = source.train.inputs.shape[1:]
    if isinstance(sizes.inputs, Images) and len(shape) == 3:
        for name, real in Images(shape[0], shape[1:]).arguments.items():
            if sizes.inputs.arguments[name] != real:
                raise ConfigError(f"dataset.{name}", values[name], f"must be {written(real)}, as in the data")
    elif tuple(shape) != sizes.inputs.shape:
        allowed = f"must return inputs of {list(sizes.inputs.shape)} each, not of {list(shape)}"
        raise ConfigError("dataset._target_", experiment.dataset.target, allowed)
    if sizes.classes != len(source.class_names):
        raise ConfigError("dataset.classes", sizes.classes, f"must be {len(source.class_names)}, as in the data")
    keys = (*CUTS, "split_seed", "mean", "std")
    given = {name: values[name] for name in keys if name in values}
    with experiment.dataset.refusals():
        data = load(source, **given, inputs=sizes.inputs, strata=task.strata)
        task.refuse(data, sizes.inputs.shape)
    if share := values["label_noise"]:
        seed = derive(values["split_seed"], "label_noise")
        if values["label_noise_kind"] == "asymmetric":
            labels, noise = asymmetric(data.train.targets, share, data.class_names, seed)
        else:
            labels, noise = symmetric(data.train.targets, share, experiment.sizes.classes, seed)
        data = replace(data, train=data.train._replace(targets=labels), noise=noise)
    return source, data


def _unchanged(experiment: Experiment) -> Source:
    """Return the source; raise ConfigError if its files are others than the run's identity says, once it is loaded.

    The look comes after loading, since files may change while they are read; then it sees what one before would have
    seen, too. It also comes where loading has failed: that files have changed since then is the reason to name.
    """

    def look() -> None:
        contents.forget()
        _refuse_changed(experiment, experiment.dataset)

    try:
        source: Source = experiment.dataset()
    except UserError:
        look()
        raise
    look()
    return source


def _refuse_changed(experiment: Experiment, component: Component) -> None:
    """Raise ConfigError if files are not those of the run's identity, which may have been found hours ago."""
    group, changed = component.group, "its files have changed since this command began; run it again"
    for name, content in (component.tell("fingerprint") or {}).items():
        if content != experiment.effective[group][name]:
            raise ConfigError(f"{group}.{name}", component.values.get(name), changed)


def data_contents(experiment: Experiment) -> dict[str, str]:
    """Return {name: hash} of a run's data now, without those in its identity; may load the samples to hash them."""
    hashes = _file_hashes(experiment)
    return sample_hashes(experiment.dataset) if hashes is None else hashes


@cache
def sample_hashes(dataset: Component) -> dict[str, str]:
    return contents.of_samples(dataset())


def _file_hashes(experiment: Experiment) -> dict[str, str] | None:
    """Return :func:`data_contents` by the files that the source declares; None if it declares none."""
    dataset = experiment.dataset
    contents.save_hashes()
    if (files := dataset.tell("files")) is not None:
        return contents.of_files(files, Path(dataset.values["cache_dir"]))
    return {} if hasattr(dataset.called, "fingerprint") else None


def make_loaders(experiment: Experiment, data: RunData) -> Loaders:
    """Return the parts, on the device where they fit; only what is trained on is sampled and augmented."""
    values, settings, hardware = experiment.dataset.values, experiment.trainer, experiment.hardware
    augment = values.get("augment", False)
    crop = augmentation = mirrored = None
    if augment:
        if values.get("crop") == RESIZED:
            crop = RandomResizedCrop(tuple(values["crop_scale"]), tuple(values["crop_ratio"]))
        padding, reflect = (0, False) if crop else (values["crop_padding"], values["crop_fill"] == "reflect")
        augmentation = CropFlip(padding, bool(values["flip"]), values["rotate"], reflect)
        if values["flip"] == "alternating":
            coin = torch.Generator().manual_seed(derive(experiment.seed, "flip"))
            mirrored = torch.randint(2, (len(data.train.targets),), generator=coin).bool()
    policy = Policy(augment) if isinstance(augment, str) else None
    moved = experiment.task.bind(data, uneven=False).moved if experiment.task.moves else None
    trained: dict[str, Any] = {
        "sampler": SAMPLERS[values["sampler"]],
        "crop": crop,
        "augmentation": augmentation,
        "mirrored": mirrored,
        "policy": policy,
        "moved": moved,
    }
    trained |= {"shards": experiment.shards.count, "own": experiment.shards.own}

    def make(samples: Samples, batch_size: int, **training: Any) -> Loader:
        return Loader(
            samples,
            batch_size,
            data.mean,
            data.std,
            device=hardware.device,
            channels_last=settings.channels_last,
            stream=not fits(samples, hardware.device) if settings.stream == "auto" else bool(settings.stream),
            compile=hardware.compile,
            **training,
        )

    chooser = torch.Generator().manual_seed(derive(values["split_seed"], "clean"))
    chosen = torch.randperm(len(data.train.targets), generator=chooser)[: settings.clean_subset].sort().values
    return Loaders(
        train=make(data.train, settings.batch_size, **trained),
        val=None if data.val is None else make(data.val, settings.eval_batch_size),
        test=make(data.test, settings.eval_batch_size),
        clean=make(data.train.choose(chosen), settings.eval_batch_size) if settings.clean_subset else None,
        class_names=data.class_names,
    )
