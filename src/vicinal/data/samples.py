"""Samples with their targets, as a source returns them and as a run uses them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vicinal.data.inputs import Images, Inputs
from vicinal.data.label_noise import LabelNoise


class Samples(NamedTuple):
    """N samples, in a tensor that may contain others too: a split points into it, and nothing is copied.

    Images are (M, C, H, W) uint8 in either memory format, waveforms (M, 1, T) int16, token ids (M, L) int64 and rows of
    a table (M, F) float32. :class:`EncodedImages` may stand for images.
    """

    inputs: Tensor  # (M, ...)
    targets: Tensor  # (N, ...), such as labels, (N,) int64
    rows: Tensor | None = None  # (N,) int64, the place of each sample in `inputs`; None: in their order, and M = N

    def choose(self, indices: Tensor) -> "Samples":
        """Return the samples at `indices`, (K,) int64 in [0, N), as a view."""
        return Samples(self.inputs, self.targets[indices], indices if self.rows is None else self.rows[indices])

    def gathered(self) -> Tensor:
        """Return a copy of these N inputs, (N, ...)."""
        return self.inputs.clone() if self.rows is None else self.inputs[self.rows]


class Source(NamedTuple):
    """A data set before anything is held back for validation."""

    train: Samples
    test: Samples
    class_names: tuple[str, ...]  # of the classes, or of the numbers of a target, in their order
    val: Samples | None = None  # its own validation part
    skipped: tuple[str, ...] = ()  # files that could not be used
    unit: str = ""  # of the numbers of a target
    vocabulary: int | None = None  # number of token ids, where the source counts them
    folder: Path | None = None  # of files about these samples, where numbers that take long are kept
    offset: tuple[float, ...] = ()  # of each number of a target, taken off in float64; () = nothing


@dataclass(frozen=True)
class RunData:
    """The data of a run."""

    train: Samples
    val: Samples | None  # None where there is no validation
    test: Samples
    class_names: tuple[str, ...]  # of the classes, or of the numbers of a target, in their order
    mean: tuple[float, ...] | None  # of each channel or column, of pixels scaled to [0, 1]; None: not normalised
    std: tuple[float, ...] | None  # same as mean
    skipped: tuple[str, ...] = ()  # files that could not be used
    noise: LabelNoise | None = None  # wrong labels of the training part
    contents: Mapping[str, str] = field(default_factory=dict)  # {name: hash} of what was read, from ``contents.py``
    unit: str = ""  # of the numbers of a target
    given: Inputs | None = None  # kind of the inputs; None: images

    @property
    def parts(self) -> dict[str, Samples]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def kind(self) -> Inputs:
        """Kind of the inputs."""
        return Images(self.train.inputs.shape[1], self.train.inputs.shape[2:]) if self.given is None else self.given

    def normalised(self, inputs: Tensor) -> Tensor:
        """Return scaled inputs (n, C, ...) on the CPU as they enter the network."""
        if self.mean is None or self.std is None:
            return inputs
        mean, std = self._statistics(inputs.dim())
        return (inputs - mean) / std

    def _statistics(self, dim: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation in the shape (1, C, 1, ...)."""
        mean, std = (torch.tensor(values).view(1, -1, *[1] * (dim - 2)) for values in (self.mean, self.std))
        return mean, std

    def unnormalised(self, inputs: Tensor) -> Tensor:
        """Return normalised inputs (n, C, ...) on the CPU as they were before."""
        if self.mean is None or self.std is None:
            return inputs
        mean, std = self._statistics(inputs.dim())
        undone: Tensor = inputs * std + mean
        return undone

    @property
    def true_targets(self) -> Tensor:
        """Targets of the training part without noise, (N, ...)."""
        targets = self.train.targets
        return targets if self.noise is None else targets.index_copy(0, self.noise.index, self.noise.true_label)
