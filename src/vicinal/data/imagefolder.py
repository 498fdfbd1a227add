"""Any tree of images, `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`, decoded once or by the batch."""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vicinal.data.contents import reads, saved_hashes, stamp
from vicinal.data.decoding import decode, square
from vicinal.data.encoded import EncodedImages
from vicinal.data.image_tree import FAIL, SKIP, ImageTree, log_left_out
from vicinal.data.row_files import Make, RowFiles, Stored
from vicinal.data.samples import Samples, Source
from vicinal.errors import first_line
from vicinal.utils.cores import usable_cores
from vicinal.utils.memory import usable_memory

log = logging.getLogger(__name__)

DECODING = 4  # raised when the same files become other pixels, or lie in files of another form
AUTO, DECODED, ENCODED = KEEP = ("auto", "decoded", "encoded")
RESIZED = "resized"  # of `crop`

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
    folder: str,
    image_size: int,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    on_error: str = FAIL,
    resize: int | None = None,
    keep: str = AUTO,
    crop: str = "padded",
    workers: int | str = AUTO,
) -> Source:
    """Load a tree of images as uint8 (N, channels, image_size, image_size), decoded or encoded.

    Images are turned as their EXIF orientation says, laid on black where they are transparent, and converted to grey
    (1 channel) or RGB (3). Grey images of 16 bits are scaled to 8 by their type's range, 65535. Their shorter side is
    resized (bilinear, antialiased) and the centre is cut out: torchvision's `Resize` and `CenterCrop` on PIL images.

    Decoded images are kept in `cache_dir`, in a folder named by a hash of all that they depend on, so that a tree with
    a file added, removed or changed is decoded again: see :class:`RowFiles`. Encoded ones stay in their files and are
    decoded when a batch needs them; the pixels are the same. Raises ValueError: see :class:`ImageTree`; a file cannot
    be decoded, all files of a class are skipped, or keys contradict each other. Errors about the tree begin with
    ``root``.

    Args:
        folder: root of the tree; see :class:`ImageTree` for what is an image and what is left out.
        image_size: pixels per side.
        channels: 1 or 3.
        cache_dir: created if it is missing.
        val_size: None to validate on val/; with a number val/ is not read, and the caller cuts so many from train.
        on_error: of a file that cannot be read or decoded: "fail", or "skip" it, with a line in the log.
        resize: pixels of the shorter side before the centre is cut out; None: `image_size`.
        keep: "decoded", "encoded", or "auto": decoded if that takes at most half of the memory, and fits on the disk.
        crop: "resized" if the caller takes random parts of the images, which are then encoded.
        workers: threads that decode; "auto" = the cores that this process may use.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    if resize is not None and resize < image_size:
        raise ValueError(f"resize must be null or at least image_size, {image_size}, got {resize}")
    tree = ImageTree(folder, val_size, on_error)
    log_left_out(tree, val_size)
    counts = {part: len(samples) for part, samples in tree.samples.items()}
    threads, shorter = usable_cores() if workers == AUTO else int(workers), resize or image_size
    cached = Path(cache_dir).expanduser() / f"imagefolder-{_cache_key(tree, image_size, channels, shorter)}"
    files = RowFiles(cached, counts, (image_size, image_size, channels), f"the decoded images of {tree.root}")
    labels = {part: torch.tensor([label for _, label in samples]) for part, samples in tree.samples.items()}
    if _stays_encoded(files, keep, crop, on_error):
        paths = {part: [path for path, _ in samples] for part, samples in tree.samples.items()}
        images = {part: EncodedImages(paths[part], channels, image_size, shorter, threads) for part in paths}
        parts = {part: Samples(cast(torch.Tensor, images[part]), labels[part]) for part in paths}
    else:
        rows = _decoded(files, tree, threads, shorter)
        parts = {part: _usable(tree, part, rows[part].permute(0, 3, 1, 2), labels[part]) for part in rows}
    if tree.unusable:
        log.warning("%s: %s", tree.root, tree.describe_skipped())
    for part, place in tree.parts.items():
        if empty := sorted({*range(len(tree.class_names))} - {*parts[part].targets.tolist()}):
            name = tree.class_names[empty[0]]
            raise ValueError(f"root: no image of {place / name} can be used: {tree.describe_skipped()}")
    return Source(parts["train"], parts["test"], tree.class_names, parts.get("val"), tree.skipped(), folder=cached)


def _cache_key(tree: ImageTree, image_size: int, channels: int, shorter: int) -> str:
    from PIL import __version__ as pillow  # another version may decode to other pixels

    digest = hashlib.sha256(repr((DECODING, str(tree.root), image_size, shorter, channels, pillow)).encode())
    for samples in tree.samples.values():
        for path, label in samples:
            stat = os.stat(path)  # noqa: PTH116 - a Path per file would take longer than all the rest
            digest.update(repr((path, label, *stamp(stat))).encode())
    return digest.hexdigest()[:16]


def _stays_encoded(files: RowFiles, keep: str, crop: str, on_error: str) -> bool:
    """Decide how the images are kept. Raises ValueError: the keys contradict each other."""
    if crop == RESIZED:
        if keep == DECODED:
            raise ValueError(f"keep must be {AUTO} or {ENCODED} with dataset.crop={RESIZED}, which needs whole images")
        chosen = ENCODED
    elif keep == AUTO:
        large = files.bytes > usable_memory() // 2 or files.bytes > _free(files.folder)
        chosen = ENCODED if large and files.load() is None else DECODED
        if chosen == ENCODED:
            log.info("decoded, the images would take %.1f GB: they stay encoded (dataset.keep)", files.bytes / 1e9)
    else:
        chosen = keep
    if chosen == ENCODED and on_error == SKIP:
        raise ValueError(f"on_error must be {FAIL} where images stay encoded: no file is looked at before it is needed")
    return chosen == ENCODED


def _free(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is, or will be, on."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free


def _decoded(files: RowFiles, tree: ImageTree, threads: int, shorter: int) -> dict[str, torch.Tensor]:
    """Return the decoded images of each part, (N, H, W, C) uint8, and note the skipped files."""
    stored = files.load()
    if stored is None:
        start, unreadable = time.perf_counter(), {*tree.unusable}
        log.info("decoding the %d images under %s, once", sum(files.counts.values()), tree.root)
        scaled: list[str] = []

        def make(part: str, begin: int, end: int) -> tuple[NDArray[np.uint8], bool]:
            return _decode_some(files, tree, tree.samples[part][begin:end], shorter, scaled)

        def undecoded() -> dict[str, str]:
            return {path: why for path, why in tree.unusable.items() if path not in unreadable}

        stored = _made(files, make, undecoded, threads)
        log.info("decoded in %.1f s", time.perf_counter() - start)
        if scaled:
            log.info("%d images of 16 bits, such as %s, are scaled to 8: 65535 is white", len(scaled), min(scaled))
    for path, reason in stored.note.items():
        tree.skip(path, reason)
    return stored.rows


def _made(files: RowFiles, make: Make, note: Callable[[], Any], threads: int) -> Stored:
    """Return rows that are made and kept in files; where they cannot be, in memory, if they fit there."""
    try:
        if (free := _free(files.folder)) < files.bytes:
            raise OSError(f"{files.bytes / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free")
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
    files: RowFiles, tree: ImageTree, samples: list[tuple[str, int]], shorter: int, scaled: list[str]
) -> tuple[NDArray[np.uint8], bool]:
    """Decode some images (n, H, W, C); return True if all of them can be used."""
    size, _, channels = files.shape
    rows, whole = np.zeros((len(samples), *files.shape), np.uint8), True
    for row, (path, _) in zip(rows, samples, strict=True):
        try:
            image, deep = decode(path, channels)
            row[...] = square(image, size, shorter).transpose(1, 2, 0)
        except Exception as error:  # PIL raises a dozen types on damaged files, by format
            tree.skip(path, f"cannot be decoded ({error})")
            whole = False
            continue
        if deep:
            scaled.append(path)
    return rows, whole


def _usable(tree: ImageTree, part: str, images: torch.Tensor, labels: torch.Tensor) -> Samples:
    """Return the images of a part that are not skipped."""
    everything = Samples(images, labels)
    good = torch.tensor([path not in tree.unusable for path, _ in tree.samples[part]])
    return everything if good.all() else everything.choose(good.nonzero()[:, 0])
