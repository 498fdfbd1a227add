"""Data sets in the form of COCO: a JSON file of instances and a folder of images for each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from vicinal.data.box_files import REFUSE, Annotated, Parts, checked, decoded, fingerprint_of, preview_of, told_size
from vicinal.data.contents import once, reads, saved_hashes
from vicinal.data.samples import Source
from vicinal.errors import first_line
from vicinal.utils.image_size import ImageSize


@dataclass(frozen=True)
class Instances:
    """What is read: see :func:`coco`."""

    train_file: str
    train_images: str
    test_file: str
    test_images: str
    val_size: int | None
    val_file: str | None = None
    val_images: str | None = None
    bad_boxes: str = REFUSE

    @classmethod
    def of(cls, **arguments: Any) -> Instances:
        """Return it for the arguments of the source."""
        return cls(**{item.name: arguments[item.name] for item in fields(cls) if item.name in arguments})

    def parts(self) -> tuple[Parts, tuple[str, ...]]:
        """Return the images with their boxes, checked, and the names of the classes, by their numbers in train."""
        given = {"train": (self.train_file, self.train_images), "test": (self.test_file, self.test_images)}
        if self.val_size is None and self.val_file is not None:
            if self.val_images is None:
                raise ValueError("val_images must be a folder beside val_file, got None")
            given["val"] = self.val_file, self.val_images
        found: dict[str, list[Annotated]] = {}
        names: tuple[str, ...] = ()
        for part, (file, images) in given.items():
            found[part], own = _part(f"{part}_file", Path(file).expanduser(), Path(images).expanduser())
            names = names or own
        return checked(found, names, self.bad_boxes)


def _part(argument: str, file: Path, folder: Path) -> tuple[list[Annotated], tuple[str, ...]]:
    """Return the images of a file in the order of their numbers, and the names of the classes in that of theirs."""
    if not folder.is_dir():
        raise ValueError(f"{argument.replace('file', 'images')} must be a folder, and there is none, got {folder}")
    try:
        content = json.loads(file.read_bytes())
        categories = {number: str(item["name"]) for number, item in _numbered(content, "categories").items()}
        images = _numbered(content, "images")
        if len({*categories.values()}) != len(categories):
            raise ValueError(f"categories must have different names, not {sorted(categories.values())}")
        boxes: dict[int, list[tuple[str, float, float, float, float]]] = {number: [] for number in images}
        for item in content["annotations"]:
            if item.get("iscrowd"):
                continue
            x, y, width, height = map(float, item["bbox"])
            category = categories[_number(item["category_id"])]
            boxes[_number(item["image_id"])].append((category, x, y, x + width, y + height))
        found = []
        for number, item in sorted(images.items()):
            name = PurePosixPath(str(item["file_name"]))
            if name.is_absolute() or ".." in name.parts or not str(name).isprintable():
                raise ValueError(f"an image must be in the folder, not {str(name)[:100]!r}")
            size = told_size(item["width"], item["height"])
            found.append(Annotated(argument, folder / name, file, boxes[number], size))
    except OSError as error:
        raise ValueError(f"{argument} cannot be read ({error.strerror}), got {file}") from error
    except KeyError as error:
        raise ValueError(f"{argument} must have the form of COCO's instances: no {error}, got {file}") from error
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = first_line(error)
        raise ValueError(f"{argument} must have the form of COCO's instances ({reason}), got {file}") from error
    if not found:
        raise ValueError(f"{argument} must have images, got {file}")
    return found, tuple(name for _, name in sorted(categories.items()))


def _number(value: Any) -> int:
    """Return an id. Raises ValueError: it is a fraction, or no number."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"an id must be an integer, not {value}")
    return int(value)


def _numbered(content: Mapping[str, Any], kind: str) -> dict[int, Any]:
    """Return {id: item} of the images or categories of a file. Raises ValueError: two have one id."""
    found: dict[int, Any] = {}
    for item in content[kind]:
        number = _number(item["id"])
        if number in found:
            raise ValueError(f"{kind} must have different ids, and there are several of {number}")
        found[number] = item
    return found


examined = once(Instances.parts)
"""Files as they were when this process first read them, before anything is decoded."""


def _preview(image_size: ImageSize, channels: int, **arguments: Any) -> Source:
    return preview_of(*examined(Instances.of(**arguments)), image_size, channels)


def _fingerprint(cache_dir: str, **arguments: Any) -> dict[str, str]:
    instances = Instances.of(**arguments)
    hashes = saved_hashes(Path(cache_dir), str(Path(instances.train_images).absolute()))
    parts, names = examined(instances)
    # One hash for all keys that name a file or a folder.
    content = fingerprint_of(parts, names, hashes)
    named = [item.name for item in fields(Instances) if item.name.endswith(("_file", "_images"))]
    return {name: content for name in named if getattr(instances, name) is not None}


def _unused(val_size: int | None, **_: Any) -> set[str]:
    return set() if val_size is None else {"val_file", "val_images"}


@reads(preview=_preview, fingerprint=_fingerprint, unused=_unused)
def coco(
    train_file: str,
    train_images: str,
    test_file: str,
    test_images: str,
    image_size: ImageSize,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    val_file: str | None = None,
    val_images: str | None = None,
    bad_boxes: str = REFUSE,
) -> Source:
    """Load images and boxes in the form of COCO, all in memory; an image keeps its aspect, on black.

    Regions of crowds are left out. Raises ValueError: a file is missing or cannot be read, or a box is impossible; see
    :func:`vicinal.data.box_files.checked`.

    Args:
        train_file: JSON file of instances, with ``images``, ``annotations`` and ``categories``: the classes.
        train_images: folder of its images.
        test_file: the same for the test.
        test_images: folder of its images.
        image_size: pixels per side of the frame that an image fits, or its height and width.
        channels: 1 or 3.
        cache_dir: for hashes of the files.
        val_size: None to validate on ``val_file``; with a number, which is cut from train, it is not read.
        val_file: the same for validation; None if there is none.
        val_images: folder of its images.
        bad_boxes: "refuse" or "clip".
    """
    del cache_dir
    return decoded(*Instances.of(**locals()).parts(), image_size, channels)
