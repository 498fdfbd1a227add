"""Any tree of images, `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`, decoded once into one file."""

import hashlib
import logging
import os
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from stat import S_ISREG

import torch

from vicinal.data.contents import Kept, stamp
from vicinal.data.faults import FAIL, Faults
from vicinal.data.images import Images, Source
from vicinal.data.pixels import pixels
from vicinal.errors import ConfigError

log = logging.getLogger(__name__)

VAL_NAMES = ("val", "valid", "validation")
"""Of the folder that is used for validation."""
VAL_SIZE = 1000
"""Images cut from train by default, where a tree has no folder for validation."""
CHUNK = 256  # images a task of the thread pool: long enough to hide what a task costs
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of files that are images, as torchvision's ``ImageFolder`` has them."""
DECODING = 3
"""Raised when the same files become other pixels: caches of earlier versions are not used."""
EXPECTED = "expected train/<class>/*.jpg and test/<class>/*.jpg"

Samples = list[tuple[str, int]]  # (path, label), sorted by class and then by name


def imagefolder(
    folder: str, image_size: int, channels: int, cache_dir: str, val_size: int | None, on_error: str = FAIL
) -> Source:
    """A tree of images as uint8 tensors (N, channels, image_size, image_size); labels follow the sorted class folders.

    Images are turned as their EXIF orientation says, laid on black where they are transparent, and converted to grey
    (1 channel) or RGB (3). Grey images of 16 bits are scaled to 8 by their type's range, 65535. Their shorter side is
    resized to `image_size` (bilinear, antialiased) and the centre is cut out: torchvision's `Resize` and `CenterCrop`
    on PIL images.

    Hidden files and folders, files that are not images by their name, and second names of a file of the same class
    (links, loops of links) are left out; one line of the log counts them.

    The decoded images are kept in `cache_dir` under a hash of all that they depend on, so that a tree with a file
    added, removed or changed is decoded again.

    Args:
        folder: the one with train/ and test/, and perhaps val/ (or valid/, validation/).
        image_size: pixels a side.
        channels: 1 or 3.
        cache_dir: created if it is missing.
        val_size: None to validate on val/; with a number val/ is not read, and the caller cuts so many from train.
        on_error: of a file that cannot be read or decoded: "fail", or "skip" it, with a line in the log.

    Raises:
        ConfigError: a folder is missing or empty, there is one class only, the parts have different classes, a file
            cannot be decoded, or all files of a class are skipped.
    """
    if channels not in (1, 3):
        raise ConfigError("dataset.channels", channels, "must be 1 (grey) or 3 (RGB)")
    names, parts = class_names(folder, val_size), _parts(folder, val_size)
    tree, faults = Path(folder).expanduser().absolute(), Faults(folder, on_error)
    _say_validation(folder, val_size)
    samples = {}
    for part, place in parts.items():
        samples[part], left_out = _list(faults, place, names)
        if left_out:
            counts = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
            log.info("%s: left out: %s; images are %s", place, counts, " ".join(EXTENSIONS))
    cache = Path(cache_dir).expanduser() / f"imagefolder-{_fingerprint(tree, samples, image_size, channels)}.pt"

    unreadable = {*faults.reasons}
    images = _load(cache, faults)
    if images is None:
        start = time.perf_counter()
        log.info("decoding the %d images under %s, once", sum(map(len, samples.values())), tree)
        images = {part: _decode(faults, files, image_size, channels) for part, files in samples.items()}
        log.info("decoded in %.1f s", time.perf_counter() - start)
        _save(cache, images, {path: faults.reasons[path] for path in faults.reasons if path not in unreadable})
    if faults.reasons:
        log.warning("%s: %s", tree, faults)
    for part, place in parts.items():
        if empty := sorted({*range(len(names))} - {*images[part].labels.tolist()}):
            raise ConfigError("dataset.root", folder, f"no image of {place / names[empty[0]]} can be used: {faults}")
    return Source(images["train"], images["test"], names, images.get("val"), faults.names(tree))


def undecoded(root: str, val_size: int | None, on_error: str = FAIL) -> Source:
    """The same tree before anything is decoded: its labels, with images of no pixels (N, 1, 0, 0).

    Raises:
        ConfigError: as :func:`imagefolder`, but for files that cannot be decoded.
    """
    names, faults = class_names(root, val_size), Faults(root, on_error)
    parts = {}
    for part, place in _parts(str(Path(root).expanduser().absolute()), val_size).items():
        samples, _ = _list(faults, place, names)
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        parts[part] = Images(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)
    return Source(parts["train"], parts["test"], names, parts.get("val"))


def class_names(root: str, val_size: int | None = 0) -> tuple[str, ...]:
    """The sorted class folders of `root`, the same in all parts; nothing is decoded.

    Args:
        root: the tree.
        val_size: as for `imagefolder`.

    Raises:
        ConfigError: a folder is missing or has no class folders, there is one only, or the parts differ.
    """
    found: dict[str, list[str]] = {}
    for folder in _parts(root, val_size).values():
        if not folder.is_dir():
            raise ConfigError("dataset.root", root, f"no folder {folder}; {EXPECTED}")
        with _readable(root, folder), os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name))
        if not names:
            raise ConfigError("dataset.root", root, f"no class folders in {folder}; {EXPECTED}")
        found[folder.name] = names
    train = found["train"]
    for part, names in found.items():
        if odd := sorted(set(train) ^ set(names)):
            where = part if odd[0] in train else "train"
            allowed = f"train and {part} must have the same class folders, and {where} has no {odd[0]}"
            raise ConfigError("dataset.root", root, allowed)
    if len(train) == 1:
        raise ConfigError(
            "dataset.root", root, f"there must be two class folders or more, and {train[0]} is the only one"
        )
    return tuple(train)


def contents(root: str, cache_dir: str) -> Kept:
    """Hashes of the files of a tree, as far as they are known."""
    return Kept.of(Path(cache_dir), str(Path(root).expanduser().absolute()))


def validation_folder(root: str) -> Path | None:
    """The folder of a tree whose images are for validation; None if it has none.

    Raises:
        ConfigError: it has several.
    """
    found = [folder for name in VAL_NAMES if (folder := Path(root).expanduser() / name).is_dir()]
    if len(found) > 1:
        names = " and ".join(folder.name for folder in found)
        raise ConfigError("dataset.root", root, f"one folder at most may be for validation, and there are {names}")
    return found[0] if found else None


def _parts(root: str, val_size: int | None) -> dict[str, Path]:
    """The folders whose images are used: train, test, and val where that is not cut from train."""
    folder = Path(root).expanduser()
    val = validation_folder(root) if val_size is None else None
    return {"train": folder / "train", "test": folder / "test", **({"val": val} if val else {})}


def _say_validation(root: str, val_size: int | None) -> None:
    folder = validation_folder(root) if val_size is None else None
    if folder:
        log.info("%s: its images are for validation, and none are cut from train", folder)
    for name in VAL_NAMES if val_size is not None else ():
        if (unused := Path(root).expanduser() / name).is_dir():
            log.warning("%s is not used, since dataset.val_size=%d; dataset.val_size=null uses it", unused, val_size)


@cache
def fingerprint(root: str, val_size: int | None = 0, on_error: str = FAIL, kept: Kept | None = None) -> str:
    """Which images a tree holds, wherever it lies and however it is called: a hash of relative names and bytes.

    60,000 small files take some seconds, once; later processes take a stat of each if their hashes are kept. Images
    that are in two parts, byte by byte, are counted in a warning.

    Args:
        root: the tree.
        val_size: as for `imagefolder`.
        on_error: as for `imagefolder`.
        kept: hashes of its files that are known already.
    """
    sha256 = kept.sha256 if kept else Kept().sha256
    folder, faults = Path(root).expanduser().absolute(), Faults(root, on_error)
    digest = hashlib.sha256()
    contents: dict[str, list[str]] = {}
    names = class_names(root, val_size)
    for part, place in _parts(str(folder), val_size).items():
        contents[part] = []
        for path, label in _list(faults, place, names)[0]:
            try:
                content = sha256(path)
            except OSError as error:
                faults.note(path, _unreadable(error))
                continue
            contents[part].append(content)
            digest.update(repr((os.path.relpath(path, folder), label, content)).encode())
    if faults.reasons:
        digest.update(repr(faults.names(folder)).encode())
    for part, other in (("val", "train"), ("test", "train"), ("test", "val")):
        known, images = {*contents.get(other, ())}, contents.get(part, [])
        if shared := sum(content in known for content in images):
            line = "%s: images of %s that are in %s too, byte by byte: %d of %d"
            log.warning(line, root, part, other, shared, len(images))
    return digest.hexdigest()[:16]


def _list(faults: Faults, folder: Path, names: Sequence[str]) -> tuple[Samples, Counter[str]]:
    """The images of one part, and what was left out: each file counts once in its class, whatever links lead to it."""
    samples: Samples = []
    left_out: Counter[str] = Counter()
    for label, name in enumerate(names):
        before = len(samples)
        seen: set[tuple[int, int]] = set()
        for path in _walk(faults.root, folder / name, left_out, set()):
            suffix = Path(path).suffix.lower()
            if suffix not in EXTENSIONS:
                left_out[suffix or "without an extension"] += 1
                continue
            try:
                stat = os.stat(path)  # noqa: PTH116 - a Path a file would take longer than all the rest
            except OSError as error:
                faults.note(path, _unreadable(error))
                continue
            if not S_ISREG(stat.st_mode):
                left_out["no file"] += 1
                continue
            if (stat.st_dev, stat.st_ino) in seen:
                left_out["another name of the same file"] += 1
                continue
            seen.add((stat.st_dev, stat.st_ino))
            samples.append((path, label))
        if len(samples) == before:
            why = f": {faults}" if faults.reasons else ""
            raise ConfigError("dataset.root", faults.root, f"no images in {folder / name}; {EXPECTED}{why}")
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
        raise ConfigError("dataset.root", root, f"{path} {_unreadable(error)}") from error


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


def _fingerprint(folder: Path, samples: Mapping[str, Samples], image_size: int, channels: int) -> str:
    from PIL import __version__ as pillow  # another version may decode to other pixels

    digest = hashlib.sha256(repr((DECODING, str(folder), image_size, channels, pillow)).encode())
    for part in samples.values():
        for path, label in part:
            stat = os.stat(path)  # noqa: PTH116 - a Path a file would take longer than all the rest
            digest.update(repr((path, label, *stamp(stat))).encode())
    return digest.hexdigest()[:16]


def _decode(faults: Faults, samples: Samples, size: int, channels: int) -> Images:
    """One part, without the files that are skipped."""
    images = torch.empty((len(samples), size, size, channels), dtype=torch.uint8).permute(0, 3, 1, 2)
    array = images.numpy()
    scaled: list[str] = []

    def fill(start: int) -> None:
        for i, (path, _) in enumerate(samples[start : start + CHUNK], start):
            try:
                array[i], deep = pixels(path, size, channels)
            except Exception as error:  # PIL raises a dozen types on damaged files, by format
                faults.note(path, f"cannot be decoded ({error})")
                continue
            if deep:
                scaled.append(path)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(samples), CHUNK)):
            pass
    if scaled:
        log.info("%d images of 16 bits, such as %s, are scaled to 8: 65535 is white", len(scaled), min(scaled))
    labels = torch.tensor([label for _, label in samples])
    good = torch.tensor([path not in faults.reasons for path, _ in samples])
    if good.all():
        return Images(images, labels)
    return Images(images[good].contiguous(memory_format=torch.channels_last), labels[good])


def _load(cache: Path, faults: Faults) -> dict[str, Images] | None:
    """The parts in a cache file, noting files without pixels; None where there is no such file or it is damaged."""
    if not cache.exists():
        return None
    try:
        with zipfile.ZipFile(cache) as archive:
            if damaged := archive.testzip():  # torch.load does not compare checksums
                raise ValueError(f"wrong checksum of {damaged}")
        parts, reasons = torch.load(cache, weights_only=True)
        images = {part: Images(images, labels) for part, (images, labels) in parts.items()}
    except Exception as error:  # torch.load raises a dozen types, by where the damage is
        log.warning("%s is damaged and is made anew (%s)", cache, str(error).partition("\n")[0])
        return None
    faults.extend(reasons)
    return images


def _save(cache: Path, parts: Mapping[str, Images], undecoded: Mapping[str, str]) -> None:
    """Write a cache file whole or not at all; a run does not need it, so a full disk costs no more than a line."""
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        content = {name: (part.images, part.labels) for name, part in parts.items()}
        torch.save((content, undecoded), temporary)
        temporary.replace(cache)
    except (OSError, RuntimeError) as error:
        log.warning("%s cannot be written, so the next run decodes again (%s)", cache, str(error).partition("\n")[0])
        with suppress(OSError):
            temporary.unlink()
