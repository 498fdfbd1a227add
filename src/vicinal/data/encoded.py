"""Images that stay in their files and are decoded batch by batch, whole or by a random part of each."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.decoding import PILLOW, as_array, decode, framed
from vicinal.errors import UserError, first_line
from vicinal.utils.image_size import ImageSize, sides

TRIES = 10  # to find a part of the image, as torchvision has it
TOGETHER = 8  # images that a thread decodes before it takes the next: long enough to hide what a task costs


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of each image, resized to the frame: Szegedy et al. 2015 (arXiv 1409.4842, section 6).

    The part has an area of `scale` times the image's, uniform, and a ratio of width to height in `ratio`,
    log-uniform. The first of ten draws that lies inside the image is taken, else the centre, cut to the next allowed
    ratio: the rule of torchvision's ``RandomResizedCrop``, with random numbers of our own.

    Args:
        scale: least and largest share of the area, in (0, 1].
        ratio: least and largest width / height, above 0.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def sample(self, batch: int, seed: int) -> Tensor:
        """Draw for `batch` images, (batch, 22): ten areas and ratios each, and two numbers for the place."""
        return torch.rand(batch, 2 * TRIES + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def window(self, size: tuple[int, int], numbers: Sequence[float]) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the part, in pixels, of an image of (width, height).

        Args:
            size: of the image.
            numbers: 22 of them, uniform in [0, 1): see :meth:`sample`.
        """
        width, height = size
        least, largest = map(math.log, self.ratio)
        for area, ratio in zip(numbers[:TRIES], numbers[TRIES : 2 * TRIES], strict=True):
            target = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * area)
            aspect = math.exp(least + (largest - least) * ratio)
            w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(numbers[-1] * (width - w + 1)), int(numbers[-2] * (height - h + 1))
                return left, top, left + w, top + h
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


class Encoded(Protocol):
    """N images as bytes of a format such as JPEG; several threads read them at once."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """Return what an image is called in messages."""

    def size(self, number: int) -> int:
        """Return the bytes of an image."""

    def file(self, number: int) -> str | io.BytesIO:
        """Return the path of an image, or its bytes."""


class Paths(list[str]):
    """Encoded images that are a file each."""

    def size(self, number: int) -> int:
        return os.stat(self[number]).st_size  # noqa: PTH116 - a Path per file would take longer than the rest

    def name(self, number: int) -> str:
        return self[number]

    file = name


class EncodedImages:
    """N images (C, H, W) uint8 that stay encoded; an index decodes, and gives the pixels of a decoded data set.

    It stands where a tensor (N, C, H, W) does: `shape`, `dtype`, `device`, an index by (n,) int64, and `clone`.

    Args:
        encoded: the images.
        channels: 1 or 3.
        size: pixels per side, or height and width.
        resize: pixels of the frame's shorter side, before the centre is cut out.
        threads: that decode.
        decoder: see :func:`vicinal.data.decoding.decode`.
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(
        self, encoded: Encoded, channels: int, size: ImageSize, resize: int, threads: int, decoder: str = PILLOW
    ) -> None:
        self._encoded, self._decoder = encoded, decoder
        self.shape = (len(encoded), channels, *sides(size))
        self._resize, self._threads = resize, threads

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads)  # Pillow decodes and resizes without the interpreter's lock

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, rows: Tensor) -> Tensor:
        images = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype, memory_format=torch.channels_last)
        return self.read(rows, images)

    def clone(self) -> Tensor:
        """Decode all images, (N, C, H, W)."""
        return self[torch.arange(len(self))]

    def read(self, rows: Tensor, batch: Tensor, crop: RandomResizedCrop | None = None, seed: int = 0) -> Tensor:
        """Decode the images at `rows`, (n,) int64, into `batch`, (n, C, H, W) uint8 on the CPU, and return it.

        With a `crop`, a random part of each, by `seed`; else the centre. Raises UserError: one cannot be decoded.
        """
        array, places = batch.numpy(), rows.tolist()
        numbers = crop.sample(len(places), seed) if crop else None

        def some(start: int) -> None:
            for place in range(start, min(start + TOGETHER, len(places))):
                array[place] = self._decoded(places[place], crop, None if numbers is None else numbers[place])

        for _ in self._pool.map(some, range(0, len(places), TOGETHER)):
            pass
        return batch

    def _decoded(self, number: int, crop: RandomResizedCrop | None, numbers: Tensor | None) -> NDArray[np.uint8]:
        from PIL import Image

        height, width = self.shape[2:]
        try:
            image, _ = decode(self._encoded.file(number), self.shape[1], decoder=self._decoder)
            if crop is None or numbers is None:
                return framed(image, (height, width), self._resize)
            part = image.crop(crop.window(image.size, numbers.tolist()))
            return as_array(part.resize((width, height), Image.Resampling.BILINEAR))
        except Exception as error:  # PIL raises a dozen types on damaged files, by format
            raise UserError(f"{self._encoded.name(number)} cannot be decoded ({first_line(error)})") from error
