"""Folders in the layout of PASCAL VOC: Annotations/*.xml, JPEGImages/*, ImageSets/Main/*.txt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

from vicinal.data.box_files import (
    HINT,
    REFUSE,
    Annotated,
    Parts,
    checked,
    decoded,
    fingerprint_of,
    preview_of,
    told_size,
)
from vicinal.data.contents import once, reads, saved_hashes
from vicinal.data.samples import Source
from vicinal.data.text_files import read_list
from vicinal.errors import first_line
from vicinal.utils.image_size import ImageSize

MOST_BYTES = 2**20  # of one annotation
EXTENSIONS = (".jpg", ".jpeg", ".png")
VAL = "val"
"""List that is used for validation if it is there."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Folder:
    """What is read of a folder: see :func:`voc`."""

    folder: str
    val_size: int | None
    names: tuple[str, ...] = ()
    train: str = "train"
    val: str = VAL
    test: str = "test"
    origin: int = 1
    difficult: bool = False
    bad_boxes: str = REFUSE

    @classmethod
    def of(cls, **arguments: Any) -> Folder:
        """Return it for the arguments of the source."""
        arguments["names"] = tuple(arguments.get("names") or ())
        return cls(**{item.name: arguments[item.name] for item in fields(cls) if item.name in arguments})

    def parts(self) -> tuple[Parts, tuple[str, ...]]:
        """Return the images with their boxes, checked, and the names of the classes."""
        root = Path(self.folder).expanduser().absolute()
        found, images = {}, _images(root / "JPEGImages")
        for part, name in (("train", self.train), ("val", self.val), ("test", self.test)):
            file = root / "ImageSets" / "Main" / f"{name}.txt"
            if part != "val" or (self.val_size is None and (name != VAL or file.is_file())):
                found[part] = [self._annotated(root, image, images.get(image, [])) for image in _ids(file)]
        return checked(found, self.names, self.bad_boxes)

    def _annotated(self, root: Path, name: str, images: Sequence[Path]) -> Annotated:
        if len(images) > 1:
            raise ValueError(
                f"folder: {images[0].parent} must have one image {name}, and has {images[0].name} and {images[1].name}"
            )
        file = root / "Annotations" / f"{name}.xml"
        try:
            with file.open("rb") as stream:
                content = stream.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_NoDoctype()))
            boxes = [self._box(item) for item in tree.findall("object") if self.difficult or not _is_difficult(item)]
            size = tree.find("size")
            told = None if size is None else told_size(_text(size, "width"), _text(size, "height"))
        except Exception as error:  # of the file, of the parser and of numbers
            reason = getattr(error, "strerror", None) or first_line(error)
            raise ValueError(f"folder: {file} cannot be read ({reason})") from error
        from_zero = self.origin and any(-self.origin in box for box in boxes)
        hint = f"dataset.origin=0 takes corners as edges from 0, and {HINT}" if from_zero else HINT
        image = images[0] if images else root / "JPEGImages" / f"{name}{EXTENSIONS[0]}"
        return Annotated("folder", image, file, boxes, told, hint)

    def _box(self, item: ElementTree.Element) -> tuple[str, float, float, float, float]:
        corners = item.find("bndbox")
        if corners is None:
            raise ValueError("an object has no bndbox")
        x1, y1, x2, y2 = (float(_text(corners, corner)) for corner in CORNERS)
        return _text(item, "name"), x1 - self.origin, y1 - self.origin, x2, y2


examined = once(Folder.parts)
"""Folders as they were when this process first read them, before anything is decoded."""


def _preview(image_size: ImageSize, channels: int, **arguments: Any) -> Source:
    return preview_of(*examined(Folder.of(**arguments)), image_size, channels)


def _fingerprint(cache_dir: str, **arguments: Any) -> dict[str, str]:
    folder = Folder.of(**arguments)
    hashes = saved_hashes(Path(cache_dir), str(Path(folder.folder).absolute()))
    return {"folder": fingerprint_of(*examined(folder), hashes)}


def _unused(val_size: int | None, **_: Any) -> set[str]:
    return set() if val_size is None else {"val"}


@reads(preview=_preview, fingerprint=_fingerprint, unused=_unused)
def voc(
    folder: str,
    image_size: ImageSize,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    names: list[str] | None = None,
    train: str = "train",
    val: str = VAL,
    test: str = "test",
    origin: int = 1,
    difficult: bool = False,
    bad_boxes: str = REFUSE,
) -> Source:
    """Load images and boxes in the layout of PASCAL VOC, all in memory; an image keeps its aspect, on black.

    Raises ValueError: a file is missing or cannot be read, or a box is impossible; see
    :func:`vicinal.data.box_files.checked`.

    Args:
        folder: with Annotations, JPEGImages and ImageSets/Main.
        image_size: pixels per side of the frame that an image fits, or its height and width.
        channels: 1 or 3.
        cache_dir: for hashes of the files.
        val_size: None to validate on the list ``val``; with a number, which is cut from train, it is not read.
        names: of the classes; None = those in train, sorted.
        train: name of its list in ImageSets/Main.
        val: the same.
        test: the same.
        origin: number of the first pixel: 1, as in PASCAL VOC, whose corners are pixels that belong to the box; or 0,
            and corners are edges.
        difficult: whether objects that are marked so are taken; else they are left out of all parts.
        bad_boxes: "refuse" or "clip".
    """
    del cache_dir
    return decoded(*Folder.of(**locals()).parts(), image_size, channels)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse document types, since entities are defined in them."""

    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("it has a document type")


def _images(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a folder by their names without ending."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in EXTENSIONS:
            found.setdefault(path.stem, []).append(path)
    return found


def _ids(file: Path) -> list[str]:
    """Return the names of a list, each the first word of a line."""
    ids = [line.split()[0] for line in read_list("folder", file)]
    for name in ids:
        if Path(name).name != name or name.startswith(".") or not name.isprintable():
            raise ValueError(f"folder: {file} must have names of images, not {name[:100]!r}")
    if not ids:
        raise ValueError(f"folder: {file} lists no images")
    return ids


def _is_difficult(item: ElementTree.Element) -> bool:
    return (item.findtext("difficult") or "0").strip() == "1"


def _text(element: ElementTree.Element, name: str) -> str:
    if text := (element.findtext(name) or "").strip():
        return text
    raise ValueError(f"{element.tag} has no {name}")
