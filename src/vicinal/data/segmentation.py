"""Images with a mask for each: any folder of them, and the nuclei of the 2018 Data Science Bowl."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicinal.data.contents import reads, saved_hashes, stamp
from vicinal.data.decoding import decode, fitted, framed
from vicinal.data.mask_files import IMAGES, INSTANCES, MASKS, MaskFiles
from vicinal.data.samples import Samples, Source
from vicinal.errors import first_line
from vicinal.utils.image_size import ImageSize, sides

IGNORE = 255
"""Class of pixels that count nowhere, in targets."""
DSB2018_LISTS = {"train": "train.txt", "test": "val.txt"}

Rows = tuple[tuple[Path, ...], ...]


def _fingerprint(files: MaskFiles, cache_dir: str) -> dict[str, str]:
    return {"folder": files.fingerprint(saved_hashes(Path(cache_dir), str(files.root)))}


def _names(classes: int | None, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the classes. Raises ValueError: neither is given, or they differ."""
    if names is None:
        if classes is None:
            raise ValueError("classes must be an integer >= 2, or names given, got null")
        return tuple(f"class {label}" for label in range(classes))
    if len(names) < 2 or len(names) > IGNORE or len({*names}) != len(names):
        raise ValueError(f"names must be of 2 to {IGNORE} classes, and different, got {list(names)}")
    if classes is not None and classes != len(names):
        raise ValueError(f"classes must be {len(names)}, as there are names, got {classes}")
    return tuple(map(str, names))


def _preview(files: MaskFiles, class_names: tuple[str, ...], val_size: int | None) -> Source:
    """Return the samples before anything is decoded: images and maps of no pixels."""
    parts = {
        part: Samples(torch.empty(len(rows), 1, 0, 0, dtype=torch.uint8), torch.empty(len(rows), 0, 0))
        for part, rows in files.parts.items()
    }
    return Source(parts["train"], parts["test"], class_names, parts.get("val") if val_size is None else None)


def _load(
    files: MaskFiles,
    image_size: ImageSize,
    channels: int,
    values: Sequence[int] | None,
    ignore: int | None,
    val_size: int | None,
) -> dict[str, Samples]:
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    parts = {part: rows for part, rows in files.parts.items() if part != "val" or val_size is None}
    loaded = {}
    for part, rows in parts.items():
        stamps = tuple(tuple(stamp(file.stat())) for row in rows for file in row)
        loaded[part] = _decoded(tuple(rows), stamps, sides(image_size), channels, values and tuple(values), ignore)
    return loaded


@lru_cache(maxsize=6)
def _decoded(
    rows: Rows,
    stamps: Any,
    size: tuple[int, int],
    channels: int,
    values: tuple[int, ...] | None,
    ignore: int | None,
) -> Samples:
    """Decode a part: images (N, channels, H, W) uint8; maps (N, H, W), or with instances (N, 2, H, W).

    The maps are of classes, by the value of each class, or of the masks' own numbers.
    """

    def read(row: tuple[Path, ...]) -> tuple[Any, NDArray[np.int64]]:
        image_file, mask_file, *instances = row
        try:
            image, _ = decode(image_file, channels)
            pixels = framed(image, size)
        except Exception as error:  # PIL raises a dozen types on damaged files, by format
            raise ValueError(f"folder: {image_file} cannot be decoded ({first_line(error)})") from error
        layers = [_mask(file, image.size, size) for file in (mask_file, *instances)]
        if values is not None:
            layers[0] = _classes(mask_file, layers[0], values, ignore)
        return pixels, np.stack(layers)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images, maps = zip(*pool.map(read, rows), strict=True)
    inputs = torch.from_numpy(np.stack(images)).contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(np.stack(maps))
    if targets.max() <= IGNORE:
        targets = targets.to(torch.uint8)
    return Samples(inputs, targets if targets.shape[1] == 2 else targets[:, 0].contiguous())


def _mask(file: Path, expected: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the numbers of a mask's pixels, (H, W), of this size.

    Raises ValueError: it has none, or is not of the expected width and height, those of its image.
    """
    from PIL import Image

    try:
        with Image.open(file) as mask:
            stored = re.search("L;([24])", str(mask.tile))  # grey of 2 or 4 bits, which PIL scales to 8
            mask.load()
    except Exception as error:
        raise ValueError(f"folder: {file} cannot be decoded ({first_line(error)})") from error
    if mask.mode not in ("1", "L", "P", "I") and not mask.mode.startswith("I;"):
        raise ValueError(f"folder: {file} must have one number per pixel, grey or palette, and is {mask.mode}")
    if mask.size != expected:
        (width, height), (wide, high) = expected, mask.size
        raise ValueError(f"folder: {file} must be of its image's size, {width} x {height}, and is {wide} x {high}")
    numbers = np.asarray(fitted(mask, size, Image.Resampling.NEAREST)).astype(np.int64)
    return numbers // (255 // (2 ** int(stored[1]) - 1)) if stored else numbers


def _classes(file: Path, numbers: NDArray[np.int64], values: Sequence[int], ignore: int | None) -> NDArray[np.int64]:
    """Return the class of each pixel by the value of each class. Raises ValueError: one has another value."""
    labels = dict(zip(values, range(len(values)), strict=True))
    found, places = np.unique(numbers, return_inverse=True)
    classes = np.array([labels.get(value, IGNORE if value == ignore else -1) for value in found.tolist()])
    if (odd := found[classes < 0]).size:
        known = ", ".join(map(str, values)) if len(values) < 9 else f"0 to {len(values) - 1}"
        other = "" if ignore is None else f", or {ignore} for pixels that do not count"
        raise ValueError(f"folder: {file} has a pixel of {odd[0]}, and classes are {known}{other} (values, ignore)")
    return classes[places].reshape(numbers.shape)


def _kinds(instances: bool) -> list[str]:
    return [IMAGES, MASKS, *([INSTANCES] if instances else [])]


def _unused(values: Sequence[int] | None = None, ignore: int | None = IGNORE, **_: Any) -> set[str]:
    return {"ignore"} if IGNORE in (values or ()) and ignore in (None, IGNORE) else set()


@reads(
    preview=lambda folder, classes, val_size, names=None, instances=False, **_: _preview(
        MaskFiles.find(folder, _kinds(instances)), _names(classes, names), val_size
    ),
    fingerprint=lambda folder, cache_dir, instances=False, **_: _fingerprint(
        MaskFiles.find(folder, _kinds(instances)), cache_dir
    ),
    unused=_unused,
)
def masks(
    folder: str,
    image_size: ImageSize,
    channels: int,
    classes: int | None,
    cache_dir: str,
    val_size: int | None,
    names: list[str] | None = None,
    values: list[int] | None = None,
    ignore: int | None = IGNORE,
    instances: bool = False,
) -> Source:
    """Load images and masks whose pixels are the numbers of classes, grey or by a palette.

    For the layout of the folder, see :meth:`MaskFiles.find`. Images are decoded as those of a tree of images:
    scaled until they cover the frame, and the centre cut out, bilinear; masks the same, by the nearest pixel. Raises
    ValueError: a file is missing or cannot be decoded, a mask is of another size than its image, or a pixel is of no
    class.

    Args:
        folder: root of the files.
        image_size: pixels per side, or height and width.
        channels: 1 or 3.
        classes: number of classes; None to count ``names``.
        cache_dir: for hashes of the files.
        val_size: None to validate on the part ``val``, if there is one.
        names: of the classes, the background first.
        values: of the pixels of each class, such as [0, 255]; None for 0, 1, 2, ...
        ignore: value of pixels that count nowhere; None if there are none. No value of a class, but for 255: where a
            class has it, no pixel is ignored.
        instances: whether a folder ``instances`` has maps of the number of each pixel's instance, 0 for none.
    """
    class_names = _names(classes, names)
    given = [*range(len(class_names))] if values is None else list(values)
    if len(given) != len(class_names) or len({*given}) != len(given):
        raise ValueError(f"values must be {len(class_names)} numbers, one for each class, got {given}")
    if ignore in given and ignore != IGNORE:
        raise ValueError(f"ignore must be none of the values of classes, {', '.join(map(str, given))}, got {ignore}")
    files = MaskFiles.find(folder, _kinds(instances))
    parts = _load(files, image_size, channels, given, ignore, val_size)
    targets = parts["train"].targets
    found = torch.unique(targets[:, 0] if instances else targets)
    if len(present := found[found != IGNORE]) < 2:
        one = class_names[int(present[0])] if len(present) else "none"
        raise ValueError(f"values must give the pixels of train two classes or more, and all are {one}, got {given}")
    return Source(parts["train"], parts["test"], class_names, parts.get("val"))


@reads(
    preview=lambda folder, **_: _preview(_dsb2018(folder), ("background", "nucleus"), 0),
    fingerprint=lambda folder, cache_dir, **_: _fingerprint(_dsb2018(folder), cache_dir),
)
def dsb2018(folder: str, image_size: ImageSize, channels: int, cache_dir: str) -> Source:
    """Load nuclei of the 2018 Data Science Bowl (Broad BBBC038): 334 grey images of 128 pixels, halved from 256.

    A folder with ``images``, ``masks`` of the number of each pixel's nucleus, 0 for background, and lists of names. The
    labels of the official test images are not there, so ``val.txt``, every fifth image, is the test part; images of
    one experiment can be in both parts. Targets are (N, 2, H, W): classes, and the nuclei for strategies that paste
    them. Raises ValueError as :func:`masks` does.
    """
    parts = _load(_dsb2018(folder), image_size, channels, None, None, 0)
    for name, part in parts.items():
        nuclei = part.targets
        parts[name] = part._replace(targets=torch.stack([(nuclei > 0).to(nuclei.dtype), nuclei], dim=1))
    return Source(parts["train"], parts["test"], ("background", "nucleus"))


def _dsb2018(folder: str) -> MaskFiles:
    return MaskFiles.find(folder, [IMAGES, MASKS], DSB2018_LISTS)
