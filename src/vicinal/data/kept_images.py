"""Encoded images as tensors of one size: decoded once into files that are mapped, or left as they are until a batch."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.contents import DIGITS
from vicinal.data.decoding import DECODERS, PILLOW, TORCHCODEC, decode, framed
from vicinal.data.encoded import Encoded, EncodedImages
from vicinal.data.image_tree import FAIL, SKIP
from vicinal.data.row_files import Make, RowFiles, Stored
from vicinal.data.samples import Samples
from vicinal.data.staging import staged_images, staged_rows
from vicinal.errors import first_line
from vicinal.utils.cores import usable_cores
from vicinal.utils.image_size import ImageSize, shortest, sides
from vicinal.utils.memory import usable_memory

log = logging.getLogger(__name__)

DECODING = 4  # raised when the same files become other pixels, or lie in files of another form
AUTO, DECODED, ENCODED = KEEP = ("auto", "decoded", "encoded")
PADDED, RESIZED = CROPS = ("padded", "resized")


class Listing(Protocol):
    """Where images are from, and which of them cannot be used."""

    root: Any  # a path, for messages
    skips: bool  # images that cannot be used; else they are errors
    unusable: dict[str, str]  # {name: why}

    def skip(self, path: str, reason: str) -> None:
        """Note an image that cannot be used. Raises ValueError if they are not skipped."""


@dataclass(frozen=True)
class Keeping:
    """What becomes of encoded images: see :func:`vicinal.data.imagefolder.imagefolder` for the arguments.

    Raises ValueError: they do not fit.
    """

    image_size: ImageSize
    channels: int
    shorter: int  # pixels of the frame's shorter side before the centre is cut out
    keep: str
    crop: str
    workers: int | str
    skips: bool  # images that cannot be decoded
    stage_to: str | None
    decoder: str

    @classmethod
    def of(
        cls,
        image_size: ImageSize,
        channels: int,
        resize: int | None = None,
        keep: str = AUTO,
        crop: str = PADDED,
        workers: int | str = AUTO,
        on_error: str = FAIL,
        stage_to: str | None = None,
        decoder: str = PILLOW,
        **_: Any,
    ) -> Keeping:
        """Return what becomes of the images by the arguments of a source."""
        shorter = resize or min(sides(image_size))
        return cls(image_size, channels, shorter, keep, crop, workers, on_error == SKIP, stage_to, decoder)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        choices = (("keep", self.keep, KEEP), ("crop", self.crop, CROPS), ("decoder", self.decoder, DECODERS))
        for name, value, allowed in choices:
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value}")
        least = min(sides(self.image_size))
        if self.shorter < least:
            raise ValueError(f"resize must be null or at least image_size, {least}, got {self.shorter}")
        if self.crop == RESIZED and self.keep == DECODED:
            raise ValueError(f"keep must be {AUTO} or {ENCODED} with dataset.crop={RESIZED}, which needs whole images")
        if self.asked == ENCODED:
            self.refuse_skipping()
        if self.decoder == TORCHCODEC:
            try:
                import_module("torchcodec.decoders")
            except (ImportError, OSError, RuntimeError) as error:  # the last two: it is there, but cannot be loaded
                raise ValueError(
                    f"decoder={TORCHCODEC} needs torchcodec, which cannot be imported ({first_line(error)}): "
                    "pip install 'vicinal[images]'"
                ) from error

    def refuse_skipping(self) -> None:
        """Raise ValueError if images that stay encoded are to be skipped."""
        if self.skips:
            raise ValueError(
                f"on_error must be {FAIL} where images stay encoded: no file is looked at before it is needed"
            )

    @property
    def asked(self) -> str:
        """What the keys say, one of :data:`KEEP`."""
        return ENCODED if self.crop == RESIZED else self.keep

    @property
    def threads(self) -> int:
        return usable_cores() if self.workers == AUTO else int(self.workers)

    @property
    def stage(self) -> Path | None:
        return Path(self.stage_to).expanduser() if self.stage_to else None

    def key(self, images: str) -> str:
        """Return a hash of what the pixels depend on: that of the encoded images and their order, and more."""
        from PIL import __version__ as pillow  # another version may decode to other pixels

        parts = (DECODING, images, shortest(self.image_size), self.shorter, self.channels, pillow)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:DIGITS]


def without_effect(image_size: ImageSize, resize: int | None = None, **_: Any) -> set[str]:
    """Return the arguments of a source that say nothing beside the others."""
    return {"resize"} if resize == min(sides(image_size)) else set()


def keep_images(
    keeping: Keeping,
    listing: Listing,
    encoded: Mapping[str, Encoded],
    labels: Mapping[str, Tensor],
    folder: Path,
    pack: str,
) -> dict[str, Samples]:
    """Return the images of each part with their labels, without those that are skipped, which the listing notes.

    Raises ValueError: an image cannot be decoded, keys contradict each other, or there is no place for the pixels.

    Args:
        keeping: what becomes of them.
        listing: where they are from.
        encoded: images of each part.
        labels: of each part, (N,) int64.
        folder: for decoded images; named by a hash of all that they depend on.
        pack: name of a copy of the encoded images: a hash of what they are.
    """
    size, channels = sides(keeping.image_size), keeping.channels
    counts = {part: len(images) for part, images in encoded.items()}
    files = RowFiles(folder, counts, (*size, channels), f"the decoded images of {listing.root}")
    stage, copy = keeping.stage, f"the copy of the images of {listing.root}"
    if _stays_encoded(files, keeping):
        if stage:
            encoded = staged_images(stage / f"{pack}-pack", encoded, copy, keeping.threads)
        lazy = {
            part: EncodedImages(images, channels, size, keeping.shorter, keeping.threads, keeping.decoder)
            for part, images in encoded.items()
        }
        return {part: Samples(cast(Tensor, images), labels[part]) for part, images in lazy.items()}
    decoded = partial(_decoded, files, listing, encoded, keeping)
    local = stage and replace(files, folder=stage / folder.name, what=copy)
    stored = staged_rows(local, decoded, keeping.threads) if local else decoded()
    for path, reason in stored.note.items():
        listing.skip(path, reason)
    rows = stored.rows
    return {
        part: _usable(listing, encoded[part], Samples(rows[part].permute(0, 3, 1, 2), labels[part])) for part in rows
    }


def _stays_encoded(files: RowFiles, keeping: Keeping) -> bool:
    """Decide how the images are kept. Raises ValueError: those that are too large to be decoded are to be skipped."""
    if keeping.asked != AUTO:
        return keeping.asked == ENCODED
    large = files.bytes > usable_memory() // 2 or files.missing() > files.free()
    if not large or files.load() is not None:
        return False
    log.info("decoded, the images would take %.1f GB: they stay encoded (dataset.keep)", files.bytes / 1e9)
    keeping.refuse_skipping()
    return True


def _decoded(files: RowFiles, listing: Listing, encoded: Mapping[str, Encoded], keeping: Keeping) -> Stored:
    """Return the decoded images of each part, (N, H, W, C) uint8, with {name: why} of those that cannot be decoded."""
    stored = files.load()
    if stored is None:
        start, unreadable = time.perf_counter(), {*listing.unusable}
        log.info("decoding the %d images under %s, once", sum(files.counts.values()), listing.root)
        scaled: list[str] = []

        def make(part: str, begin: int, end: int) -> tuple[NDArray[np.uint8], bool]:
            return _decode_some(listing, encoded[part], range(begin, end), keeping, scaled)

        def undecoded() -> dict[str, str]:
            return {path: why for path, why in listing.unusable.items() if path not in unreadable}

        stored = _made(files, make, undecoded, keeping.threads)
        log.info("decoded in %.1f s", time.perf_counter() - start)
        if scaled:
            log.info("%d images of 16 bits, such as %s, are scaled to 8: 65535 is white", len(scaled), min(scaled))
    return stored


def _made(files: RowFiles, make: Make, note: Callable[[], Any], threads: int) -> Stored:
    """Return rows that are made and kept in files; where they cannot be, in memory, if they fit there."""
    try:
        return files.make(make, note, threads)
    except OSError as error:
        if files.bytes > usable_memory() // 2:
            raise ValueError(
                f"cache_dir: the decoded images cannot be written there ({first_line(error)}); "
                f"dataset.keep={ENCODED} needs no place for them"
            ) from error
        log.warning("%s cannot be written, so the next run decodes again (%s)", files.folder, first_line(error))
    rows = {part: torch.from_numpy(make(part, 0, count)[0]) for part, count in files.counts.items()}
    return Stored(rows, note())


def _decode_some(
    listing: Listing, encoded: Encoded, numbers: range, keeping: Keeping, scaled: list[str]
) -> tuple[NDArray[np.uint8], bool]:
    """Decode some images (n, H, W, C); return True if all of them can be used."""
    size, channels = sides(keeping.image_size), keeping.channels
    rows, whole = np.zeros((len(numbers), *size, channels), np.uint8), True
    for row, number in zip(rows, numbers, strict=True):
        try:
            image, deep = decode(encoded.file(number), channels, decoder=keeping.decoder)
            row[...] = framed(image, size, keeping.shorter).transpose(1, 2, 0)
        except Exception as error:  # PIL raises a dozen types on damaged files, by format
            listing.skip(encoded.name(number), f"cannot be decoded ({error})")
            whole = False
            continue
        if deep:
            scaled.append(encoded.name(number))
    return rows, whole


def _usable(listing: Listing, encoded: Encoded, samples: Samples) -> Samples:
    """Return the images of a part that are not skipped."""
    if not listing.unusable:
        return samples
    good = torch.tensor([encoded.name(number) not in listing.unusable for number in range(len(encoded))])
    return samples if good.all() else samples.choose(good.nonzero()[:, 0])
