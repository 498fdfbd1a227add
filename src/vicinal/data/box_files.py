"""Images with boxes, as files list them: checked before anything is decoded, then brought to one size."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.data.contents import DIGITS, HashCache, warn_of_shared
from vicinal.data.decoding import as_array, decode
from vicinal.data.samples import Samples, Source
from vicinal.errors import first_line
from vicinal.utils.image_size import ImageSize, sides

log = logging.getLogger(__name__)

REFUSE, CLIP = BAD_BOXES = ("refuse", "clip")
MOST_PIXELS = 2**26  # of one image
HINT = "dataset.bad_boxes=clip cuts, leaves out or keeps it"


class Annotated(NamedTuple):
    """An image and its boxes: class name, x1, y1, x2, y2 in pixels of the file, from 0 at the left and top edge."""

    argument: str  # of the source, that complaints are about
    image: Path
    written: Path  # file with the boxes
    boxes: Sequence[tuple[str, float, float, float, float]]
    size: tuple[int, int] | None = None  # width and height, as that file has them; None: those of the image
    hint: str = HINT  # what to do about a box that is not inside


def told_size(width: object, height: object) -> tuple[int, int] | None:
    """Return width and height as a file has them; None where one is 0, which says nothing. Raises ValueError."""
    sides = float(str(width)), float(str(height))
    if not all(side.is_integer() for side in sides):
        raise ValueError(f"a size must be of integers, not {width} x {height}")
    return (int(sides[0]), int(sides[1])) if all(sides) else None


Parts = Mapping[str, Sequence[Annotated]]
"""By part: train, test and perhaps val."""


def checked(parts: Parts, names: Sequence[str], bad_boxes: str) -> tuple[Parts, tuple[str, ...]]:
    """Return the images whose boxes are all inside, and the names of the classes.

    Only the headers of the images are read. Raises ValueError, which begins with an argument and names the file; of
    an image that is listed twice, in one part or in two, too.

    Args:
        parts: as listed.
        names: of the classes; none = those of the boxes of train, sorted.
        bad_boxes: of a box that is not inside its image, or of no area, and of an image without boxes: "refuse" it, or
            "clip" boxes to the image, leave out those of no area, and keep images without boxes.
    """
    if bad_boxes not in BAD_BOXES:
        raise ValueError(f"bad_boxes must be one of {', '.join(BAD_BOXES)}, got {bad_boxes}")
    if len({*names}) != len(names):
        raise ValueError(f"names must be different, got {list(names)}")
    names = tuple(names) or tuple(sorted({box[0] for item in parts["train"] for box in item.boxes}))
    good, changed = {}, 0
    listed: dict[str, str] = {}
    for part, items in parts.items():
        for item in items:
            image = os.path.abspath(item.image)  # noqa: PTH100 - a link is another name, which `fingerprint_of` counts
            if other := listed.get(image):
                where = f"twice in {part}" if other == part else f"in {other} and in {part}"
                raise ValueError(f"{item.argument}: {item.image.name} is listed {where}")
            listed[image] = part
        good[part] = [_checked(item, names, bad_boxes == CLIP) for item in items]
        changed += sum(new.boxes != old.boxes for new, old in zip(good[part], items, strict=True))
        if not any(item.boxes for item in good[part]):
            raise ValueError(f"{items[0].argument}: no boxes in {part}, whose images are {len(items)}")
    if changed:
        log.warning("boxes were clipped or left out in %d images (dataset.bad_boxes)", changed)
    if len(names) < 2:
        argument = parts["train"][0].argument
        raise ValueError(f"{argument}: there must be two classes or more, and there is only {''.join(names) or 'none'}")
    return good, names


def _checked(item: Annotated, names: Sequence[str], clip: bool) -> Annotated:
    width, height = _size(item)
    kept = []
    for number, (name, x1, y1, x2, y2) in enumerate(item.boxes, start=1):
        where = f"{item.argument}: {item.written.name}: box {number} of {item.image.name}"
        if name not in names:
            raise ValueError(f"{where} is of the class {name}, which is none of {', '.join(names)}")
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            raise ValueError(f"{where} must have finite corners, not {x1:g} {y1:g} {x2:g} {y2:g}")
        if not (x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height) and not clip:
            raise ValueError(
                f"{where} is not inside {width} x {height} pixels: {x1:g} {y1:g} to {x2:g} {y2:g}; {item.hint}"
            )
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if x1 < x2 and y1 < y2:
            kept.append((name, x1, y1, x2, y2))
        elif not clip:
            raise ValueError(f"{where} has no area: {x1:g} {y1:g} to {x2:g} {y2:g}; {HINT}")
    if not kept and not clip:
        raise ValueError(f"{item.argument}: {item.written.name} has no boxes of {item.image.name}; {HINT}")
    return item._replace(boxes=kept, size=(width, height))


def _size(item: Annotated) -> tuple[int, int]:
    """Return width and height by the header of the image."""
    from PIL import Image

    try:
        with Image.open(item.image) as image:
            size: tuple[int, int] = image.size
    except FileNotFoundError:
        raise ValueError(f"{item.argument}: {item.written.name}: no image {item.image}") from None
    except Exception as error:  # PIL raises a dozen types on damaged files, by format
        raise ValueError(f"{item.argument}: {item.image} is no image that can be read ({first_line(error)})") from error
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"{item.argument}: {item.image} has {size[0]:,} x {size[1]:,} pixels, and at most {MOST_PIXELS:,} fit"
        )
    if item.size is not None and item.size != size:
        told, real = (" x ".join(map(str, each)) for each in (item.size, size))
        raise ValueError(
            f"{item.argument}: {item.written.name} tells of {told} pixels, and {item.image.name} has {real}"
        )
    return size


def preview_of(parts: Parts, names: tuple[str, ...], image_size: ImageSize, channels: int) -> Source:
    """Return the boxes of checked parts, with images of no pixels (N, 1, 0, 0)."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    made = {
        part: Samples(torch.empty(len(items), 1, 0, 0, dtype=torch.uint8), boxes_of(items, names, image_size))
        for part, items in parts.items()
    }
    return Source(made["train"], made["test"], names, made.get("val"))


def decoded(parts: Parts, names: tuple[str, ...], image_size: ImageSize, channels: int) -> Source:
    """Return checked parts with their images, (N, channels, height, width) uint8.

    An image keeps its aspect: it becomes as large as fits the frame (bilinear, antialiased), and black is added below
    or to the right. EXIF orientation is not applied, since boxes are of the pixels as they are stored.
    """
    made = {}
    for part, items in parts.items():
        images = torch.zeros((len(items), *sides(image_size), channels), dtype=torch.uint8).permute(0, 3, 1, 2)

        def fill(
            place: int, items: Sequence[Annotated] = items, images: Tensor = images
        ) -> None:  # bound now, for the threads
            try:
                pixels = _pixels(items[place].image, _scaled(items[place], image_size), channels)
            except Exception as error:  # as above
                reason = f"cannot be decoded ({first_line(error)})"
                raise ValueError(f"{items[place].argument}: {items[place].image} {reason}") from error
            images[place, :, : pixels.shape[1], : pixels.shape[2]] = torch.tensor(pixels)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(items))))
        made[part] = Samples(images, boxes_of(items, names, image_size))
    return Source(made["train"], made["test"], names, made.get("val"))


def _pixels(file: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return an image of this width and height, (channels, H, W)."""
    from PIL import Image

    image, _ = decode(file, channels, turn=False)
    return as_array(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))


def boxes_of(items: Sequence[Annotated], names: Sequence[str], image_size: ImageSize) -> Tensor:
    """Return the boxes of checked images of this size, (N, M, 6) float32: class, x1, y1, x2, y2, and 1; then zeros."""
    boxes = torch.zeros(len(items), max(len(item.boxes) for item in items), 6)
    for rows, item in zip(boxes, items, strict=True):
        assert item.size is not None
        across, down = (new / old for new, old in zip(_scaled(item, image_size), item.size, strict=True))
        for row, (name, x1, y1, x2, y2) in zip(rows, item.boxes, strict=False):
            row[:] = torch.tensor([names.index(name), x1 * across, y1 * down, x2 * across, y2 * down, 1])
    return boxes


def _scaled(item: Annotated, image_size: ImageSize) -> tuple[int, int]:
    """Return the width and height of an image that is as large as fits the frame."""
    assert item.size is not None
    (height, width), (w, h) = sides(image_size), item.size
    if w * height >= h * width:  # wider than the frame
        return width, max(1, round(h * width / w))
    return max(1, round(w * height / h)), height


def fingerprint_of(parts: Parts, names: Sequence[str], hashes: HashCache) -> str:
    """Return a hash of the images' bytes, of their boxes and of the classes, the same wherever the files are.

    Images that are in two parts, byte by byte, are counted in a warning.
    """
    digest = hashlib.sha256(repr(tuple(names)).encode())
    contents = {part: [hashes.sha256(str(item.image)) for item in items] for part, items in parts.items()}
    for part, items in parts.items():
        for item, content in zip(items, contents[part], strict=True):
            digest.update(repr((part, item.image.name, list(item.boxes), content)).encode())
    warn_of_shared(parts["train"][0].image.parent, "images", contents)
    return digest.hexdigest()[:DIGITS]
