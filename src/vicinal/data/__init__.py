"""Data: where they come from, how they are split, augmented and made into batches."""

from collections.abc import Callable, Sequence

from torch import Tensor

from vicinal.data import contents, imagefolder
from vicinal.data.augmentation import CropFlip
from vicinal.data.inputs import INPUTS, Images, Inputs, channel_statistics, checked_statistics
from vicinal.data.loader import Loader, steps_per_epoch
from vicinal.data.pending import Batch, Pending, plain
from vicinal.data.samples import RunData, Samples, Source
from vicinal.data.sources import digits, torchvision_dataset
from vicinal.data.splits import VAL_SIZE, by_target, split
from vicinal.data.store import fits

__all__ = [
    "INPUTS",
    "VAL_SIZE",
    "Batch",
    "CropFlip",
    "Images",
    "Inputs",
    "Loader",
    "Pending",
    "RunData",
    "Samples",
    "Source",
    "channel_statistics",
    "contents",
    "digits",
    "fits",
    "imagefolder",
    "load",
    "plain",
    "split",
    "steps_per_epoch",
    "torchvision_dataset",
]


def load(
    source: Source,
    *,
    val_size: int | None,
    train_size: int | None,
    split_seed: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    imbalance: str = "none",
    imbalance_ratio: float = 1.0,
    inputs: Inputs | None = None,
    strata: Callable[[Tensor], Tensor | None] = by_target,
) -> RunData:
    """Split a source by :func:`split`, and find how its inputs are normalised.

    `mean` and `std` are one number per channel, of pixels scaled to [0, 1]; None = of the training samples left by the
    split. `inputs` is their kind; None = images. Raises ValueError: a cut is impossible, or `mean` or `std` do not fit
    the channels.
    """
    train, val, test = split(
        source,
        val_size=val_size,
        train_size=train_size,
        seed=split_seed,
        imbalance=imbalance,
        imbalance_ratio=imbalance_ratio,
        strata=strata,
    )
    kind = Images(train.inputs.shape[1], train.inputs.shape[2:]) if inputs is None else inputs
    mean, std = checked_statistics(kind, train, mean, std, source.folder) or (None, None)
    return RunData(train, val, test, source.class_names, mean, std, source.skipped, unit=source.unit, given=inputs)
