"""Any tree of images, `train/<class>/*` and `test/<class>/*`, decoded once and kept as one file."""

import hashlib
import logging
import os
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

import torch

from vicinal.data.images import Images, Source
from vicinal.errors import ConfigError

log = logging.getLogger(__name__)

PARTS = ("train", "test")
CHUNK = 256  # images a task of the thread pool: long enough to hide what a task costs
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of files that are images, as torchvision's ``ImageFolder`` has them."""
DECODING = 2
"""Raised when the same files become other pixels: caches of earlier versions are not used."""
EXPECTED = "expected train/<class>/*.jpg and test/<class>/*.jpg"

Samples = list[tuple[str, int]]  # (path, label), sorted by class and then by name


def imagefolder(folder: str, image_size: int, channels: int, cache_dir: str) -> Source:
    """A tree of images as uint8 tensors (N, channels, image_size, image_size); labels follow the sorted class folders.

    Images are turned as their EXIF orientation says, laid on black where they are transparent, and converted to grey
    (1 channel) or RGB (3). Grey images of 16 bits are scaled to 8 by their type's range, 65535. Their shorter side is
    resized to `image_size` (bilinear, antialiased) and the centre is cut out: torchvision's `Resize` and `CenterCrop`
    on PIL images.

    Hidden files and folders, files that are not images by their name, and second names of a file of the same class
    (links, loops of links) are left out; one line of the log counts them.

    The decoded images are kept in `cache_dir` under a hash of all that they depend on, so that a tree with a file
    added, removed or changed is decoded again.

    Raises:
        ConfigError: a folder is missing or empty, there is one class only, train and test have different classes, or a
            file cannot be decoded.
    """
    if channels not in (1, 3):
        raise ConfigError("dataset.channels", channels, "must be 1 (grey) or 3 (RGB)")
    names = class_names(folder)
    tree = Path(folder).expanduser().absolute()
    samples = []
    for part in PARTS:
        found, left_out = _list(folder, tree / part, names)
        samples.append(found)
        if left_out:
            counts = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
            log.info("%s: left out: %s; images are %s", tree / part, counts, " ".join(EXTENSIONS))
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
        ConfigError: a folder is missing or has no class folders, there is one only, or train and test differ.
    """
    found: list[list[str]] = []
    for part in PARTS:
        folder = Path(root).expanduser() / part
        if not folder.is_dir():
            raise ConfigError("dataset.root", root, f"no folder {folder}; {EXPECTED}")
        with _readable(root, folder), os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name))
        if not names:
            raise ConfigError("dataset.root", root, f"no class folders in {folder}; {EXPECTED}")
        found.append(names)
    train, test = found
    if odd := sorted(set(train) ^ set(test)):
        where = "test" if odd[0] in train else "train"
        allowed = f"train and test must have the same class folders, and {where} has no {odd[0]}"
        raise ConfigError("dataset.root", root, allowed)
    if len(train) == 1:
        raise ConfigError(
            "dataset.root", root, f"there must be two class folders or more, and {train[0]} is the only one"
        )
    return tuple(train)


@cache
def fingerprint(root: str) -> str:
    """Which images a tree holds, wherever it lies and however it is called: a hash of relative names and bytes.

    60,000 small files take some seconds, once a process. Images of train that are in test too, byte by byte, are
    counted in a warning.
    """
    folder = Path(root).expanduser().absolute()
    digest = hashlib.sha256()
    contents: list[list[str]] = []
    for part in PARTS:
        contents.append([])
        for path, label in _list(root, folder / part, class_names(root))[0]:
            with _readable(root, Path(path)):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            contents[-1].append(content)
            digest.update(repr((os.path.relpath(path, folder), label, content)).encode())
    train, test = contents
    known = set(train)
    if shared := sum(content in known for content in test):
        log.warning("%s: images of test that are in train too, byte by byte: %d of %d", root, shared, len(test))
    return digest.hexdigest()[:16]


def _list(root: str, folder: Path, names: Sequence[str]) -> tuple[Samples, Counter[str]]:
    """The images of one part, and what was left out: each file counts once in its class, whatever links lead to it."""
    samples: Samples = []
    left_out: Counter[str] = Counter()
    for label, name in enumerate(names):
        before = len(samples)
        seen: set[tuple[int, int]] = set()
        for path in _walk(root, folder / name, left_out, set()):
            suffix = Path(path).suffix.lower()
            if suffix not in EXTENSIONS:
                left_out[suffix or "without an extension"] += 1
                continue
            with _readable(root, Path(path)):
                stat = os.stat(path)  # noqa: PTH116 - a Path a file would take longer than all the rest
            if not S_ISREG(stat.st_mode):
                left_out["no file"] += 1
                continue
            if (stat.st_dev, stat.st_ino) in seen:
                left_out["another name of the same file"] += 1
                continue
            seen.add((stat.st_dev, stat.st_ino))
            samples.append((path, label))
        if len(samples) == before:
            raise ConfigError("dataset.root", root, f"no images in {folder / name}; {EXPECTED}")
    return samples, left_out


def _walk(root: str, folder: Path, left_out: Counter[str], seen: set[tuple[int, int]]) -> Iterator[str]:
    """Paths of the files in a folder and then its folders, sorted; hidden and repeated ones are left out."""
    with _readable(root, folder):
        stat = folder.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            left_out["another name of the same folder"] += 1
            return
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: (entry.is_dir(), entry.name))
    for entry in found:
        if _hidden(entry.name):
            left_out["hidden"] += 1
        elif entry.is_dir():
            yield from _walk(root, Path(entry.path), left_out, seen)
        else:
            yield entry.path


def _hidden(name: str) -> bool:
    """Such as ``.ipynb_checkpoints``, and ``._3.png`` of macOS."""
    return name.startswith(".")


@contextmanager
def _readable(root: str, path: Path) -> Iterator[None]:
    """Name the file or folder that cannot be read: not allowed, a link to nothing, a loop of links."""
    try:
        yield
    except OSError as error:
        raise ConfigError("dataset.root", root, f"{path} cannot be read ({error.strerror or error})") from error


def _fingerprint(folder: Path, samples: Sequence[Samples], image_size: int, channels: int) -> str:
    from PIL import __version__ as pillow  # another version may decode to other pixels

    digest = hashlib.sha256(repr((DECODING, str(folder), image_size, channels, pillow)).encode())
    for part in samples:
        for path, label in part:
            stat = os.stat(path)  # noqa: PTH116 - a Path a file would take longer than all the rest
            digest.update(repr((path, label, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _decode(root: str, samples: Samples, size: int, channels: int) -> Images:
    images = torch.empty((len(samples), size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    pixels = images.numpy()
    scaled: list[str] = []

    def fill(start: int) -> None:
        for i, (path, _) in enumerate(samples[start : start + CHUNK], start):
            try:
                pixels[i], deep = _pixels(path, size, channels)
                if deep:
                    scaled.append(path)
            except Exception as error:  # PIL raises a dozen types on damaged files, by format
                raise ConfigError("dataset.root", root, f"{path} cannot be decoded ({error})") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(samples), CHUNK)):
            pass
    if scaled:
        log.info("%d images of 16 bits, such as %s, are scaled to 8: 65535 is white", len(scaled), min(scaled))
    return Images(images, torch.tensor([label for _, label in samples]))


def _pixels(path: str, size: int, channels: int) -> tuple[Any, bool]:
    """One image as a uint8 array (channels, size, size), and whether it had 16 bits."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image, deep = _eight_bits(ImageOps.exif_transpose(file))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        short = min(image.size)
        width, height = (int(size * side / short) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1), deep


def _eight_bits(image: Any) -> tuple[Any, bool]:
    """A PIL image with 8 bits per channel, and whether it had 16; PIL's own conversion cuts off at 255 what has more.

    Raises:
        ValueError: its numbers have no range that the type tells.
    """
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no range; save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image, False
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("signed or 32-bit pixels have no range of their own; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)), True


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
