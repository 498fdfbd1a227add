"""Any tree of images, `train/<class>/*` and `test/<class>/*`, decoded once and kept as one file."""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vicinal.data.images import Images, Source
from vicinal.errors import ConfigError

log = logging.getLogger(__name__)

PARTS = ("train", "test")
CHUNK = 256  # images a task of the thread pool: long enough to hide what a task costs
EXPECTED = "expected train/<class>/*.jpg and test/<class>/*.jpg"

Samples = list[tuple[str, int]]  # (path, label), sorted by class and then by name


def imagefolder(folder: str, image_size: int, channels: int, cache_dir: str) -> Source:
    """A tree of images as uint8 tensors (N, channels, image_size, image_size); labels follow the sorted class folders.

    Images are converted to grey (1 channel) or RGB (3), their shorter side is resized to `image_size` (bilinear,
    antialiased) and the centre is cut out: torchvision's `Resize` and `CenterCrop` on PIL images.

    The decoded images are kept in `cache_dir` under a hash of all that they depend on, so that a tree with a file
    added, removed or changed is decoded again.

    Raises:
        ConfigError: a folder is missing or empty, train and test have different classes, or a file cannot be decoded.
    """
    if channels not in (1, 3):
        raise ConfigError("dataset.channels", channels, "must be 1 (grey) or 3 (RGB)")
    names = class_names(folder)
    tree = Path(folder).expanduser().absolute()
    samples = [_list(folder, tree / part, names) for part in PARTS]
    cache = Path(cache_dir).expanduser() / f"imagefolder-{_fingerprint(tree, samples, image_size, channels)}.pt"

    parts = _load(cache)
    if parts is None:
        start = time.perf_counter()
        log.info("decoding the %d images under %s, once", sum(map(len, samples)), tree)
        parts = [_decode(folder, part, image_size, channels) for part in samples]
        log.info("decoded in %.1f s", time.perf_counter() - start)
        _save(cache, parts)
    train, test = parts
    return Source(train, test, names)


def class_names(root: str) -> tuple[str, ...]:
    """The sorted class folders of `root`, the same in train and test; nothing is decoded.

    Raises:
        ConfigError: a folder is missing or has no class folders, or train and test have different ones.
    """
    from torchvision.datasets.folder import find_classes

    found: list[list[str]] = []
    for part in PARTS:
        folder = Path(root).expanduser() / part
        if not folder.is_dir():
            raise ConfigError("dataset.root", root, f"no folder {folder}; {EXPECTED}")
        try:
            found.append(find_classes(folder)[0])
        except FileNotFoundError:
            raise ConfigError("dataset.root", root, f"no class folders in {folder}; {EXPECTED}") from None
    train, test = found
    if odd := sorted(set(train) ^ set(test)):
        where = "test" if odd[0] in train else "train"
        allowed = f"train and test must have the same class folders, and {where} has no {odd[0]}"
        raise ConfigError("dataset.root", root, allowed)
    return tuple(train)


@cache
def fingerprint(root: str) -> str:
    """Which images a tree holds, wherever it lies and however it is called: a hash of relative names and bytes.

    60,000 small files take some seconds, once a process.
    """
    folder = Path(root).expanduser().absolute()
    digest = hashlib.sha256()
    for part in PARTS:
        for path, label in _list(root, folder / part, class_names(root)):
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            digest.update(repr((os.path.relpath(path, folder), label, content)).encode())
    return digest.hexdigest()[:16]


def _list(root: str, folder: Path, names: Sequence[str]) -> Samples:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    labels = {name: label for label, name in enumerate(names)}
    samples: Samples = make_dataset(folder, labels, extensions=IMG_EXTENSIONS, allow_empty=True)
    if empty := sorted(set(range(len(names))) - {label for _, label in samples}):
        raise ConfigError("dataset.root", root, f"no images in {folder / names[empty[0]]}; {EXPECTED}")
    return samples


def _fingerprint(folder: Path, samples: Sequence[Samples], image_size: int, channels: int) -> str:
    from PIL import __version__ as pillow  # another version may decode to other pixels

    digest = hashlib.sha256(repr((str(folder), image_size, channels, pillow)).encode())
    for part in samples:
        for path, label in part:
            stat = os.stat(path)  # noqa: PTH116 - a Path a file would take longer than all the rest
            digest.update(repr((path, label, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _decode(root: str, samples: Samples, size: int, channels: int) -> Images:
    images = torch.empty((len(samples), size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    pixels = images.numpy()

    def fill(start: int) -> None:
        for i, (path, _) in enumerate(samples[start : start + CHUNK], start):
            try:
                pixels[i] = _pixels(path, size, channels)
            except (OSError, ValueError, SyntaxError) as error:  # what PIL raises on damaged files, by format
                raise ConfigError("dataset.root", root, f"{path} cannot be decoded ({error})") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(samples), CHUNK)):
            pass
    return Images(images, torch.tensor([label for _, label in samples]))


def _pixels(path: str, size: int, channels: int) -> Any:
    """One image as a uint8 array (channels, size, size)."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as file:
        image = file.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        short = min(image.size)
        width, height = (int(size * side / short) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _load(cache: Path) -> list[Images] | None:
    """The parts in a cache file; None where there is no such file or it is damaged."""
    if not cache.exists():
        return None
    try:
        with zipfile.ZipFile(cache) as archive:
            if damaged := archive.testzip():  # torch.load does not compare checksums
                raise ValueError(f"wrong checksum of {damaged}")
        return [Images(images, labels) for images, labels in torch.load(cache, weights_only=True)]
    except Exception as error:  # torch.load raises a dozen types, by where the damage is
        log.warning("%s is damaged and is made anew (%s)", cache, str(error).partition("\n")[0])
        return None


def _save(cache: Path, parts: Sequence[Images]) -> None:
    """Write a cache file whole or not at all; a run does not need it, so a full disk costs no more than a line."""
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save([(part.images, part.labels) for part in parts], temporary)
        temporary.replace(cache)
    except (OSError, RuntimeError) as error:
        log.warning("%s cannot be written, so the next run decodes again (%s)", cache, str(error).partition("\n")[0])
        with suppress(OSError):
            temporary.unlink()
