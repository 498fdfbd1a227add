"""Images: where they come from, how they are split, augmented and made into batches."""

from collections.abc import Sequence

import torch

from vicinal.data import contents, imagefolder
from vicinal.data.augmentation import CropFlip
from vicinal.data.images import ImageData, Images, Source
from vicinal.data.loader import Loader, steps_per_epoch
from vicinal.data.sources import digits, torchvision_dataset
from vicinal.data.splits import VAL_SIZE, split
from vicinal.data.store import fits

__all__ = [
    "VAL_SIZE",
    "CropFlip",
    "ImageData",
    "Images",
    "Loader",
    "Source",
    "channel_statistics",
    "contents",
    "digits",
    "fits",
    "imagefolder",
    "load",
    "split",
    "steps_per_epoch",
    "torchvision_dataset",
]

CHUNK = 10_000  # images that are counted at a time: bincount needs eight bytes per pixel


def load(
    source: Source,
    *,
    val_size: int | None,
    train_size: int | None,
    split_seed: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    imbalance: str = "none",
    imbalance_ratio: float = 1.0,
) -> ImageData:
    """Split a source by :func:`split`, and find how its pixels are normalised.

    `mean` and `std` are one number per channel, of pixels scaled to [0, 1]; None = of the training images left by the
    split. Raises ValueError: a cut is impossible, or `mean` or `std` do not fit the channels.
    """
    train, val, test = split(
        source,
        val_size=val_size,
        train_size=train_size,
        seed=split_seed,
        imbalance=imbalance,
        imbalance_ratio=imbalance_ratio,
    )
    if mean is None or std is None:
        own_mean, own_std = channel_statistics(train)
        mean, std = (own_mean if mean is None else mean), (own_std if std is None else std)
    channels = train.images.shape[1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(f"{name} must be null or a list of {channels}, one number per channel, got {list(values)}")
    if not min(std) > 0:
        raise ValueError(f"std must be above 0; a channel of one value needs a std set by hand, got {list(std)}")
    return ImageData(train, val, test, source.class_names, tuple(mean), tuple(std), source.skipped)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation per channel, of pixels scaled to [0, 1].

    Exact up to the rounding of float64, since the 256 values are counted and pixels are not summed.
    """
    counts = torch.zeros(images.images.shape[1], 256, dtype=torch.int64)
    for indices in torch.split(torch.arange(len(images.labels)), CHUNK):
        for channel, count in zip(images.choose(indices).pixels().unbind(1), counts, strict=True):
            count += torch.bincount(channel.flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = counts.double() / counts.sum(1, keepdim=True)
    means = weights @ values
    variances = (weights * (values - means[:, None]).square()).sum(1)
    return tuple(means.tolist()), tuple(variances.sqrt().tolist())
