"""Kinds of input: their shape, and what a network has to know of them. Their fields are keys of the data set."""

from __future__ import annotations

import hashlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.utils.checked_json import read_checked, write_checked
from vicinal.utils.image_size import ImageSize, shortest, sides

if TYPE_CHECKING:
    from vicinal.data.samples import Samples

log = logging.getLogger(__name__)

CHUNK_VALUES = 2**25  # pixels that are counted at a time: bincount needs eight bytes per pixel of a channel

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel or column."""


@dataclass(frozen=True)
class Inputs(ABC):
    """A kind of input. Its fields are arguments of the networks that take it."""

    noun: ClassVar[str]
    """What several of them are called."""
    dtype: ClassVar[torch.dtype]
    """Of the decoded samples that a source returns."""
    floats: ClassVar[bool] = True
    """Whether what enters the network is floating point, normalised; else it is the numbers themselves, int64."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    def statistics(self, samples: Samples) -> Statistics | None:
        """Return mean and standard deviation of the samples, after integers are scaled to [0, 1] or [-1, 1]."""
        return None

    pictured: ClassVar[bool] = False
    """Whether it can be seen: see :meth:`picture`."""

    def picture(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, ...), after scaling and before normalisation, as uint8 (n, C, H, W)."""
        raise NotImplementedError

    def mask_picture(self, own: Tensor) -> Tensor:
        """Return weights in [0, 1] at each place, white for 1, like :meth:`picture`.

        Args:
            own: float (n, C, ...), of the inputs or of what a block returns.
        """
        if own.shape[1:] == self.shape:
            return self.picture(own)
        return stretched(own, self.picture(torch.zeros(1, *self.shape)))

    audible: ClassVar[bool] = False
    """Whether it can be heard: see :meth:`sound`."""

    def sound(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, ...), after scaling and before normalisation, as int16 (n, T)."""
        raise NotImplementedError

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of a network."""
        return asdict(self)

    def example(self, batch: int, device: str = "meta") -> Tensor:
        """Return a batch as it enters the network, of zeros."""
        return torch.zeros(batch, *self.shape, dtype=torch.float32 if self.floats else torch.int64, device=device)


@dataclass(frozen=True)
class Images(Inputs):
    """Images (N, C, H, W) uint8.

    Attributes:
        image_size: pixels per side of squares, else height and width; of equal ones, one is kept.
    """

    noun = "images"
    pictured = True
    dtype = torch.uint8
    channels: int
    image_size: ImageSize

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", shortest(self.image_size))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *sides(self.image_size))

    def picture(self, inputs: Tensor) -> Tensor:
        return (inputs * 255).round().clamp(0, 255).to(torch.uint8)

    def statistics(self, samples: Samples) -> Statistics:
        return channel_statistics(samples)


@dataclass(frozen=True)
class Waveforms(Inputs):
    """Sound (N, 1, length) int16, with zeros after its end: silence and padding are the same.

    Attributes:
        rate: samples per second.
        length: samples.
    """

    noun = "clips"
    pictured = True
    audible = True
    dtype = torch.int16
    rate: int
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.length)

    def statistics(self, samples: Samples) -> Statistics:
        return (0.0,), (1.0,)

    def picture(self, inputs: Tensor) -> Tensor:
        """Return log-mel spectrograms, the low tones below: black is silence, white a sine of full scale."""
        from vicinal.utils.log_mel import FLOOR, LogMel

        spectrogram = LogMel(self.rate)
        lowest, highest = math.log(FLOOR), 2 * math.log(spectrogram.size / 4)
        shades: Tensor = (spectrogram(inputs) - lowest) / (highest - lowest)
        return (shades.flip(2) * 255).round().clamp(0, 255).to(torch.uint8)

    def mask_picture(self, own: Tensor) -> Tensor:
        return stretched(own.flip(-2) if own.dim() == 4 else own, self.picture(torch.zeros(1, *self.shape)))

    def sound(self, inputs: Tensor) -> Tensor:
        return (inputs[:, 0] * FULL_SCALE[torch.int16]).round().clamp(-32768, 32767).to(torch.int16)


@dataclass(frozen=True)
class Tokens(Inputs):
    """Sentences (N, length) int64: numbers of words in [1, vocabulary), and 0 after the last.

    Attributes:
        tokenizer: folder of the pretrained network whose ids they are; None: the data have their own.
    """

    noun = "sentences"
    dtype = torch.int64
    floats = False
    vocabulary: int
    length: int
    tokenizer: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def arguments(self) -> dict[str, int]:
        return {"vocabulary": self.vocabulary, "length": self.length}


@dataclass(frozen=True)
class Table(Inputs):
    """Rows of a table (N, features) float32."""

    noun = "rows"
    dtype = torch.float32
    features: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features,)

    def statistics(self, samples: Samples) -> Statistics:
        rows = samples.gathered().double()
        constant = rows.amax(dim=0) == rows.amin(dim=0)
        std = rows.std(dim=0, correction=0).masked_fill(constant, 1.0)
        return tuple(rows.mean(dim=0).tolist()), tuple(std.tolist())


INPUTS: dict[str, type[Inputs]] = {"image": Images, "audio": Waveforms, "tokens": Tokens, "table": Table}
"""By the name that ``dataset.inputs`` takes."""


def stretched(own: Tensor, like: Tensor) -> Tensor:
    """Return weights (n, C, ...) as grey pictures as large as ``like``, uint8 (1, C, H, W): the mean over channels."""
    grey = own.mean(dim=1) if own.dim() > 2 else own  # (n, F, T), (n, T), or the weight of each feature
    grey = grey[:, None] if grey.dim() == 3 else grey[:, None, None]
    large = F.interpolate(grey, like.shape[-2:], mode="nearest-exact")
    return (large * 255).round().to(torch.uint8).expand(-1, like.shape[1], -1, -1)


FULL_SCALE = {torch.uint8: 255, torch.int16: 32768}
"""Integers of these types are divided by so much before they are normalised."""


def channel_statistics(images: Samples) -> Statistics:
    """Return mean and population standard deviation per channel, of pixels scaled to [0, 1].

    Exact up to the rounding of float64, since the 256 values are counted and pixels are not summed.
    """
    counts = torch.zeros(images.inputs.shape[1], 256, dtype=torch.int64)
    chunk = max(1, CHUNK_VALUES // math.prod(images.inputs.shape[1:]))
    for indices in torch.split(torch.arange(len(images.targets)), chunk):
        for channel, count in zip(images.choose(indices).gathered().unbind(1), counts, strict=True):
            count += torch.bincount(channel.flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = counts.double() / counts.sum(1, keepdim=True)
    means = weights @ values
    variances = (weights * (values - means[:, None]).square()).sum(1)
    return tuple(means.tolist()), tuple(variances.sqrt().tolist())


def checked_statistics(
    inputs: Inputs,
    samples: Samples,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    folder: Path | None = None,
) -> Statistics | None:
    """Return given numbers, and those of the samples where one is None. Raises ValueError: they do not fit.

    They are kept in the `folder` of the samples, where there is one, since all samples are read for them.
    """
    if mean is None or std is None:
        own = inputs.statistics(samples) if folder is None else _kept_statistics(inputs, samples, folder)
        if own is None:
            return None
        mean, std = (own[0] if mean is None else mean), (own[1] if std is None else std)
    channels = inputs.shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(f"{name} must be null or a list of {channels}, one number per channel, got {list(values)}")
    if not min(std) > 0:
        raise ValueError(f"std must be above 0; a channel of one value needs a std set by hand, got {list(std)}")
    return tuple(mean), tuple(std)


def _kept_statistics(inputs: Inputs, samples: Samples, folder: Path) -> Statistics | None:
    """Return the statistics of a choice of the samples, computed once."""
    rows = torch.arange(len(samples.targets)) if samples.rows is None else samples.rows
    file = folder / f"statistics-{hashlib.sha256(rows.numpy().tobytes()).hexdigest()[:16]}.json"
    try:
        means, deviations = read_checked(file)
        return tuple(means), tuple(deviations)
    except (OSError, ValueError):
        pass  # not there, or damaged
    log.info("reading all %d training images once, for dataset.mean and dataset.std", len(rows))
    own = inputs.statistics(samples)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_checked(file, own)
    return own
