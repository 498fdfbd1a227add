"""Make the data, the loaders and the network of a checked request."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vicinal import dry_build
from vicinal.config.components import Component
from vicinal.data import CropFlip, ImageData, Images, Loader, Source, contents, fits, load, split, steps_per_epoch
from vicinal.data.label_noise import asymmetric, symmetric
from vicinal.data.policies import Policy
from vicinal.data.sampling import SAMPLERS
from vicinal.errors import ConfigError
from vicinal.experiment import Experiment
from vicinal.training.loop import Loaders
from vicinal.training.rng_streams import derive

CUTS = ("val_size", "train_size", "imbalance", "imbalance_ratio")  # keys that say which images are trained on


def make_model(experiment: Experiment) -> nn.Module:
    """Return a new network, with weights from torch's default generator."""
    model: nn.Module = experiment.model(**experiment.sizes._asdict())
    return model


def check_cuts(experiment: Experiment) -> None:
    """Refuse an impossible cut, where the source can tell its labels without loading images. Raises UserError."""
    dataset = experiment.dataset
    cuts = {name: dataset.values[name] for name in CUTS}
    if preview := dataset.tell("preview"):
        with dataset.refusals():
            split(preview, **cuts, seed=dataset.values["split_seed"])


def check_steps(experiment: Experiment, data: ImageData) -> None:
    """Refuse a schedule that does not fit the number of steps, which only the data can show. Raises ConfigError."""
    steps = steps_per_epoch(len(data.train.labels), experiment.trainer.batch_size)
    dry_build.check_schedule(experiment.optimizer, experiment.scheduler, experiment.trainer.epochs, steps)


def load_data(experiment: Experiment) -> ImageData:
    """Return the data with hashes of their sources, once the schedule fits. Raises as :func:`load_images`."""
    source, data = load_images(experiment)
    check_steps(experiment, data)
    hashes = _file_hashes(experiment)
    return replace(data, contents=contents.of_images(source) if hashes is None else hashes)


def load_images(experiment: Experiment) -> tuple[Source, ImageData]:
    """Return the source, and its images, split and with label noise. UserError: out of reach, or a key does not fit."""
    check_cuts(experiment)
    values = experiment.dataset.values
    source = experiment.dataset()
    keys = (*CUTS, "split_seed", "mean", "std")
    with experiment.dataset.refusals():
        data = load(source, **{name: values[name] for name in keys})
    sizes = (*data.train.images.shape[1:3], len(data.class_names))
    for (name, expected), real in zip(experiment.sizes._asdict().items(), sizes, strict=True):
        if expected != real:
            raise ConfigError(f"dataset.{name}", expected, f"must be {real}, as in the data")
    if share := values["label_noise"]:
        seed = derive(values["split_seed"], "label_noise")
        if values["label_noise_kind"] == "asymmetric":
            labels, noise = asymmetric(data.train.labels, share, data.class_names, seed)
        else:
            labels, noise = symmetric(data.train.labels, share, experiment.sizes.classes, seed)
        data = replace(data, train=data.train._replace(labels=labels), noise=noise)
    return source, data


def data_contents(experiment: Experiment) -> dict[str, str]:
    """Return {name: hash} of a run's data now, without those in its identity; may load the images to hash them."""
    hashes = _file_hashes(experiment)
    return image_hashes(experiment.dataset) if hashes is None else hashes


@cache
def image_hashes(dataset: Component) -> dict[str, str]:
    return contents.of_images(dataset())


def _file_hashes(experiment: Experiment) -> dict[str, str] | None:
    """Return :func:`data_contents` by the files that the source declares; None if it declares none."""
    dataset = experiment.dataset
    contents.save_hashes()
    if (files := dataset.tell("files")) is not None:
        return contents.of_files(files, Path(dataset.values["cache_dir"]))
    return {} if hasattr(dataset.called, "fingerprint") else None


def make_loaders(experiment: Experiment, data: ImageData) -> Loaders:
    """Return the parts, on the device where they fit; only what is trained on is sampled and augmented."""
    values, settings, hardware = experiment.dataset.values, experiment.trainer, experiment.hardware
    augmentation = CropFlip(padding=values["crop_padding"], flip=values["flip"]) if values["augment"] else None
    policy = Policy(values["augment"]) if isinstance(values["augment"], str) else None
    trained = {"sampler": SAMPLERS[values["sampler"]], "augmentation": augmentation, "policy": policy}

    def make(images: Images, batch_size: int, **training: Any) -> Loader:
        return Loader(
            images,
            batch_size,
            data.mean,
            data.std,
            device=hardware.device,
            channels_last=settings.channels_last,
            stream=not fits(images, hardware.device) if settings.stream == "auto" else bool(settings.stream),
            compile=hardware.compile,
            **training,
        )

    chooser = torch.Generator().manual_seed(derive(values["split_seed"], "clean"))
    chosen = torch.randperm(len(data.train.labels), generator=chooser)[: settings.clean_subset].sort().values
    return Loaders(
        train=make(data.train, settings.batch_size, **trained),
        val=None if data.val is None else make(data.val, settings.eval_batch_size),
        test=make(data.test, settings.eval_batch_size),
        clean=make(data.train.choose(chosen), settings.eval_batch_size) if settings.clean_subset else None,
        class_names=data.class_names,
    )
