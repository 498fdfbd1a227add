"""Any tree of images, `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`, decoded once or by the batch."""

import logging
from pathlib import Path
from typing import Any

import torch

from vicinal.data.contents import DIGITS, forget, once, reads
from vicinal.data.decoding import PILLOW
from vicinal.data.encoded import Paths
from vicinal.data.image_tree import FAIL, ImageTree, log_left_out
from vicinal.data.kept_images import AUTO, PADDED, Keeping, keep_images, without_effect
from vicinal.data.samples import Samples, Source
from vicinal.utils.image_size import ImageSize

log = logging.getLogger(__name__)

examined = once(ImageTree)
"""Trees as this process last looked at them."""


def preview(folder: str, val_size: int | None, on_error: str = FAIL, **more: Any) -> Source:
    """Return the tree before anything is decoded: its labels, with images of no pixels (N, 1, 0, 0)."""
    Keeping.of(on_error=on_error, **more)
    tree, parts = examined(folder, val_size, on_error), {}
    for part, samples in tree.samples.items():
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        parts[part] = Samples(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)
    return Source(parts["train"], parts["test"], tree.class_names, parts.get("val"))


def fingerprint(folder: str, val_size: int | None, cache_dir: str, on_error: str = FAIL, **_: Any) -> dict[str, str]:
    """Return the hash of names and contents that replaces the folder's name in the identity of a run."""
    return {"folder": examined(folder, val_size, on_error).fingerprint(Path(cache_dir))}


@reads(preview=preview, fingerprint=fingerprint, unused=without_effect)
def imagefolder(
    folder: str,
    image_size: ImageSize,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    on_error: str = FAIL,
    resize: int | None = None,
    keep: str = AUTO,
    crop: str = PADDED,
    workers: int | str = AUTO,
    stage_to: str | None = None,
    decoder: str = PILLOW,
) -> Source:
    """Load a tree of images as uint8 (N, channels, height, width), decoded or encoded.

    The files are those that :func:`preview` or :func:`fingerprint` has seen, if one was called before and no file had
    to be hashed: a look at 100,000 files takes 0.7 core-seconds. The next call of any of the three looks again.

    Images are turned as their EXIF orientation says, laid on black where they are transparent, and converted to grey
    (1 channel) or RGB (3). Grey images of 16 bits are scaled to 8 by their type's range, 65535. They are scaled
    (bilinear, antialiased) until they cover the frame, and the centre is cut out: torchvision's `Resize` and
    `CenterCrop` on PIL images.

    Decoded images are kept in `cache_dir`, in a folder named by a hash of all that they depend on, so that a tree with
    a file added, removed or changed is decoded again: see :class:`RowFiles`. Encoded ones stay in their files and are
    decoded when a batch needs them; the pixels are the same. Raises ValueError: see :class:`ImageTree`; a file cannot
    be decoded, all files of a class are skipped, or keys contradict each other. Errors about the tree begin with
    ``root``.

    Args:
        folder: root of the tree; see :class:`ImageTree` for what is an image and what is left out.
        image_size: pixels per side, or height and width.
        channels: 1 or 3.
        cache_dir: created if it is missing.
        val_size: None to validate on val/; with a number val/ is not read, and the caller cuts so many from train.
        on_error: of a file that cannot be read or decoded: "fail", or "skip" it, with a line in the log.
        resize: pixels of the frame's shorter side before the centre is cut out; None: `image_size`.
        keep: "decoded", "encoded", or "auto": decoded if that takes at most half of the memory, and fits on the disk.
        crop: "resized" if the caller takes random parts of the images, which are then encoded.
        workers: threads that decode; "auto" = the cores that this process may use.
        stage_to: folder on a disk of this machine, to which the images are copied, decoded or encoded, once.
        decoder: of JPEGs, "pillow" or "torchcodec"; the pixels are the same.
    """
    keeping = Keeping.of(image_size, channels, resize, keep, crop, workers, on_error, stage_to, decoder)
    tree = examined(folder, val_size, on_error)
    forget()
    if tree.hashed:
        tree = ImageTree(folder, val_size, on_error)
    log_left_out(tree, val_size)
    files = tree.state[:DIGITS]
    cached = Path(cache_dir).expanduser() / f"imagefolder-{keeping.key(files)}"
    encoded = {part: Paths([path for path, _ in samples]) for part, samples in tree.samples.items()}
    labels = {part: torch.tensor([label for _, label in samples]) for part, samples in tree.samples.items()}
    parts = keep_images(keeping, tree, encoded, labels, cached, f"imagefolder-{files}")
    if tree.unusable:
        log.warning("%s: %s", tree.root, tree.describe_skipped())
    for part, place in tree.parts.items():
        if empty := sorted({*range(len(tree.class_names))} - {*parts[part].targets.tolist()}):
            name = tree.class_names[empty[0]]
            raise ValueError(f"root: no image of {place / name} can be used: {tree.describe_skipped()}")
    return Source(parts["train"], parts["test"], tree.class_names, parts.get("val"), tree.skipped(), folder=cached)
