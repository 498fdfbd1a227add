"""Any tree of images, `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`, decoded once into one file."""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vicinal.data.contents import reads, saved_hashes, stamp
from vicinal.data.decoding import decode, square
from vicinal.data.image_tree import FAIL, ImageTree, log_left_out
from vicinal.data.samples import Samples, Source
from vicinal.errors import first_line

log = logging.getLogger(__name__)

CHUNK = 256  # images per task of the thread pool: long enough to hide what a task costs
DECODING = 3  # raised when the same files become other pixels: caches of earlier versions are not used

examined = cache(ImageTree)
"""Trees as they were when this process first read them, for previews, before anything is decoded."""


def preview(folder: str, val_size: int | None, on_error: str = FAIL, **_: Any) -> Source:
    """Return the tree before anything is decoded: its labels, with images of no pixels (N, 1, 0, 0)."""
    tree, parts = examined(folder, val_size, on_error), {}
    for part, samples in tree.samples.items():
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        parts[part] = Samples(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)
    return Source(parts["train"], parts["test"], tree.class_names, parts.get("val"))


def fingerprint(folder: str, val_size: int | None, cache_dir: str, on_error: str = FAIL, **_: Any) -> dict[str, str]:
    """Return the hash of names and contents that replaces the folder's name in the identity of a run."""
    return {"folder": _fingerprint(examined(folder, val_size, on_error), cache_dir)}


@cache
def _fingerprint(tree: ImageTree, cache_dir: str) -> str:
    return tree.fingerprint(saved_hashes(Path(cache_dir), str(tree.root)))


@reads(preview=preview, fingerprint=fingerprint)
def imagefolder(
    folder: str, image_size: int, channels: int, cache_dir: str, val_size: int | None, on_error: str = FAIL
) -> Source:
    """Load a tree of images as uint8 tensors (N, channels, image_size, image_size).

    Images are turned as their EXIF orientation says, laid on black where they are transparent, and converted to grey
    (1 channel) or RGB (3). Grey images of 16 bits are scaled to 8 by their type's range, 65535. Their shorter side is
    resized to `image_size` (bilinear, antialiased) and the centre is cut out: torchvision's `Resize` and `CenterCrop`
    on PIL images.

    The decoded images are kept in `cache_dir` under a hash of all that they depend on, so that a tree with a file
    added, removed or changed is decoded again. Raises ValueError: see :class:`ImageTree`; a file cannot be decoded, or
    all files of a class are skipped. Errors about the tree begin with ``root``.

    Args:
        folder: root of the tree; see :class:`ImageTree` for what is an image and what is left out.
        image_size: pixels per side.
        channels: 1 or 3.
        cache_dir: created if it is missing.
        val_size: None to validate on val/; with a number val/ is not read, and the caller cuts so many from train.
        on_error: of a file that cannot be read or decoded: "fail", or "skip" it, with a line in the log.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    tree = ImageTree(folder, val_size, on_error)
    log_left_out(tree, val_size)
    cache_file = Path(cache_dir).expanduser() / f"imagefolder-{_cache_key(tree, image_size, channels)}.pt"
    unreadable = {*tree.unusable}
    images = _load(cache_file, tree)
    if images is None:
        start = time.perf_counter()
        log.info("decoding the %d images under %s, once", sum(map(len, tree.samples.values())), tree.root)
        images = {part: _decode(tree, part, image_size, channels) for part in tree.parts}
        log.info("decoded in %.1f s", time.perf_counter() - start)
        _save(cache_file, images, {path: why for path, why in tree.unusable.items() if path not in unreadable})
    if tree.unusable:
        log.warning("%s: %s", tree.root, tree.describe_skipped())
    for part, place in tree.parts.items():
        if empty := sorted({*range(len(tree.class_names))} - {*images[part].targets.tolist()}):
            name = tree.class_names[empty[0]]
            raise ValueError(f"root: no image of {place / name} can be used: {tree.describe_skipped()}")
    return Source(images["train"], images["test"], tree.class_names, images.get("val"), tree.skipped())


def _cache_key(tree: ImageTree, image_size: int, channels: int) -> str:
    from PIL import __version__ as pillow  # another version may decode to other pixels

    digest = hashlib.sha256(repr((DECODING, str(tree.root), image_size, channels, pillow)).encode())
    for samples in tree.samples.values():
        for path, label in samples:
            stat = os.stat(path)  # noqa: PTH116 - a Path per file would take longer than all the rest
            digest.update(repr((path, label, *stamp(stat))).encode())
    return digest.hexdigest()[:16]


def _decode(tree: ImageTree, part: str, size: int, channels: int) -> Samples:
    """Decode one part, without the files that are skipped."""
    samples = tree.samples[part]
    images = torch.empty((len(samples), size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    array = images.numpy()
    scaled: list[str] = []

    def fill(start: int) -> None:
        for i, (path, _) in enumerate(samples[start : start + CHUNK], start):
            try:
                image, deep = decode(path, channels)
                array[i] = square(image, size)
            except Exception as error:  # PIL raises a dozen types on damaged files, by format
                tree.skip(path, f"cannot be decoded ({error})")
                continue
            if deep:
                scaled.append(path)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(samples), CHUNK)):
            pass
    if scaled:
        log.info("%d images of 16 bits, such as %s, are scaled to 8: 65535 is white", len(scaled), min(scaled))
    labels = torch.tensor([label for _, label in samples])
    good = torch.tensor([path not in tree.unusable for path, _ in samples])
    if good.all():
        return Samples(images, labels)
    return Samples(images[good].contiguous(memory_format=torch.channels_last), labels[good])


def _load(file: Path, tree: ImageTree) -> dict[str, Samples] | None:
    """Read the parts from a cache file and note the skipped files; return None if it is missing or damaged."""
    if not file.exists():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # torch.load does not compare checksums
                raise ValueError(f"wrong checksum of {damaged}")
        parts, undecoded = torch.load(file, weights_only=True)
        images = {part: Samples(images, labels) for part, (images, labels) in parts.items()}
    except Exception as error:  # torch.load raises a dozen types, by where the damage is
        log.warning("%s is damaged and is made again (%s)", file, first_line(error))
        return None
    for path, reason in undecoded.items():
        tree.skip(path, reason)
    return images


def _save(file: Path, parts: Mapping[str, Samples], undecoded: Mapping[str, str]) -> None:
    """Write a cache file whole or not at all; a run does not need it, so a full disk costs no more than a line."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {name: (part.inputs, part.targets) for name, part in parts.items()}
        torch.save((content, undecoded), temporary)
        temporary.replace(file)
    except (OSError, RuntimeError) as error:
        log.warning("%s cannot be written, so the next run decodes again (%s)", file, first_line(error))
        with suppress(OSError):
            temporary.unlink()
