"""Define the keys of data sets, each with its unit and its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from vicinal.config.keys import BILLION, MANY, key


@dataclass
class DatasetConfig:
    """Data, its split and its augmentation; all but the first three keys work the same for every source."""

    _target_: str = key(MISSING, "function that loads the official train and test parts as tensors")
    inputs: str = key("image", "kind of the inputs", choices=("image", "audio", "tokens", "table"), since="0.2")
    task: Any = key("classification", "kind of the targets: its name, or a task's _target_", since="0.2")
    root: str = key(MISSING, "folder of the data on this machine; a download makes it", neutral=True, path=True)
    cache_dir: str = key(MISSING, "folder for decoded images and hashes of files", neutral=True, path=True)
    channels: int = key(MISSING, "channels of an image", low=1, high=1024, needs="inputs=image")
    image_size: int | list[int] = key(
        MISSING, "pixels per side, or [height, width]", low=1, high=65536, length=2, needs="inputs=image"
    )
    resize: int | None = key(
        None, "pixels of the shorter side before the centre is cut out", low=1, high=65536, own=True, since="0.2"
    )
    keep: str = key(
        "auto", "decoded once, or by the batch", choices=("auto", "decoded", "encoded"), neutral=True, own=True
    )
    workers: int | str = key("auto", "threads that decode", choices=("auto",), low=1, high=1024, neutral=True, own=True)
    decoder: str = key("pillow", "decoder of JPEGs", choices=("pillow", "torchcodec"), neutral=True, own=True)
    stage_to: str | None = key(
        None, "folder on this machine's own disk for a copy of the images", neutral=True, path=True, own=True
    )
    rate: int = key(MISSING, "samples of sound per second", low=2000, high=MANY, needs="inputs=audio")
    length: int = key(
        MISSING, "samples of a clip, or words of a sentence", low=1, high=BILLION, needs="inputs=audio,tokens"
    )
    vocabulary: int = key(
        MISSING, "different words, with 0 for none and 1 for any other", low=3, high=MANY, needs="inputs=tokens"
    )
    features: int | None = key(
        None, "columns of a table; null = counted by the source", low=1, high=MANY, needs="inputs=table"
    )
    classes: int | None = key(None, "number of classes; null = counted by the source", low=2, high=MANY)
    mean: list[float] | None = key(
        None, "per channel, in [0, 1]; null = of the training images", low=-MANY, high=MANY, needs="inputs=image"
    )
    std: list[float] | None = key(
        None, "per channel, in [0, 1]; null = of the training images", above=0, high=MANY, needs="inputs=image"
    )
    val_size: int | None = key(0, "images cut from train; null = the data's own part, or 1000", low=0, high=BILLION)
    train_size: int | None = key(None, "images kept of the rest for training; null = all", low=1, high=BILLION)
    split_seed: int = key(0, "seed of the validation and training cuts; not of the run", low=0, high=2**32 - 1)
    imbalance: str = key(
        "none", "how class sizes fall; training part only", choices=("none", "exponential", "step"), since="0.2"
    )
    imbalance_ratio: float = key(
        10.0, "largest class size / smallest", low=1, high=BILLION, needs="imbalance", since="0.2"
    )
    label_noise: float = key(0.0, "share of wrong training labels; by split_seed", low=0, high=1, since="0.2")
    label_noise_kind: str = key(
        "symmetric",
        "the wrong class: any other, or one that it is taken for",
        choices=("symmetric", "asymmetric"),
        needs="label_noise",
        since="0.2",
    )
    sampler: str = key(
        "shuffle",
        "which images an epoch has: each once, or each class as often",
        choices=("shuffle", "class_balanced"),
        since="0.2",
    )
    augment: bool | str = key(
        False,
        "random crop and flip of the training images, and a policy of torchvision",
        choices=("augmix", "randaugment", "trivialaugment"),
        needs="inputs=image",
    )
    crop: str = key(
        "padded",
        "window of the padded image, or a random part of the whole one, resized",
        choices=("padded", "resized"),
        needs="augment",
        own=True,
        since="0.2",
    )
    crop_padding: int = key(
        4, "pixels around an image before it is cropped", low=0, high=65536, needs="augment crop=padded"
    )
    crop_fill: str = key(
        "black",
        "what these pixels are: black, or the image mirrored at its border",
        choices=("black", "reflect"),
        needs="augment crop=padded crop_padding",
        since="0.2",
    )
    crop_scale: list[float] = key(
        [0.08, 1.0],
        "area of the part / area of the image",
        above=0,
        high=1,
        length=2,
        needs="crop=resized",
        since="0.2",
    )
    crop_ratio: list[float] = key(
        [0.75, 4 / 3], "width / height of the part", above=0, high=MANY, length=2, needs="crop=resized", since="0.2"
    )
    flip: bool | str = key(
        True,
        "mirror half of the images, left to right, at random or by turns",
        choices=("alternating",),
        needs="augment",
    )
    rotate: bool = key(False, "turn images by right angles", needs="augment", since="0.2")
