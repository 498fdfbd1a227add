"""The files of a data set for segmentation: images, and a mask for each; none is decoded."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vicinal.data.contents import HashCache, warn_of_shared
from vicinal.data.image_tree import EXTENSIONS, VAL_NAMES
from vicinal.data.text_files import read_list

LOSSLESS = (".png", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of masks: JPEG changes the numbers of classes."""
IMAGES, MASKS, INSTANCES = "images", "masks", "instances"


@dataclass(frozen=True)
class MaskFiles:
    """The samples of a folder, each part as rows of files: image, mask, and perhaps instances.

    parts: "train", "test" and perhaps "val".
    """

    root: Path
    parts: dict[str, list[tuple[Path, ...]]]

    @classmethod
    def find(cls, folder: str, kinds: Sequence[str], lists: dict[str, str] | None = None) -> "MaskFiles":
        """Find the samples of a folder; each mask has the name of its image, up to the ending.

        Raises ValueError: there is no such folder, an image has no mask, a part has no images, or a name is listed in
        two parts.

        Args:
            folder: with ``train/images``, ``train/masks``, the same of ``test`` and perhaps of ``val``; or with
                ``images``, ``masks`` and lists of names, one a line: ``train.txt``, ``test.txt``, perhaps ``val.txt``.
            kinds: subfolders that each sample is in, IMAGES first.
            lists: {part: name of its list}; None for the names above.
        """
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise ValueError(f"folder must be a folder with images and masks, and there is none, got {root}")
        listed = lists or {part: f"{part}.txt" for part in ("train", "test", "val")}
        if lists or (root / listed["train"]).is_file():
            return cls(root, _listed(root, kinds, {part: root / name for part, name in listed.items()}))
        folders = {part: root / part for part in ("train", "test")}
        if validation := [root / name for name in VAL_NAMES if (root / name).is_dir()]:
            folders["val"] = validation[0]
        if len(validation) > 1:
            names = " and ".join(place.name for place in validation)
            raise ValueError(f"folder: one folder at most may be for validation, and there are {names}, got {root}")
        parts = {}
        for part, place in folders.items():
            images = _files(place / kinds[0]).values()
            parts[part] = _rows(place, kinds, sorted(path.name for path in images if path.suffix.lower() in EXTENSIONS))
        return cls(root, parts)

    @property
    def files(self) -> list[Path]:
        return [file for rows in self.parts.values() for row in rows for file in row]

    def fingerprint(self, hashes: HashCache) -> str:
        """Return a hash of the relative names and bytes of all files, the same wherever the folder is.

        Images that are in two parts, byte by byte, are counted in a warning.
        """
        digest = hashlib.sha256()
        shown: dict[str, list[str]] = {part: [] for part in self.parts}
        for part, rows in self.parts.items():
            for row in rows:
                try:
                    contents = [(os.path.relpath(file, self.root), hashes.sha256(str(file))) for file in row]
                except OSError as error:
                    raise ValueError(f"folder: {error.filename} cannot be read ({error.strerror or error})") from error
                digest.update(repr((part, contents)).encode())
                shown[part].append(contents[0][1])
        warn_of_shared(self.root, "images", shown)
        return digest.hexdigest()[:16]


def _listed(root: Path, kinds: Sequence[str], lists: dict[str, Path]) -> dict[str, list[tuple[Path, ...]]]:
    seen: dict[str, str] = {}
    parts = {}
    for part, file in lists.items():
        if part == "val" and not file.is_file():
            continue
        names = read_list("folder", file)
        for name in map(_stem, names):
            if other := seen.get(name):
                where = f"twice in {other}" if other == file.name else f"in {other} and in {file.name}"
                raise ValueError(f"folder: each image must be listed once, and {name} is {where}")
            seen[name] = file.name
        parts[part] = _rows(root, kinds, names)
    return parts


def _rows(place: Path, kinds: Sequence[str], names: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the files of each name, (image, mask, ...); names may have an ending."""
    if not names:
        raise ValueError(f"folder: no images in {place / kinds[0]}; images are {' '.join(EXTENSIONS)}")
    found = {kind: _files(place / kind) for kind in kinds}
    rows = []
    for stem in map(_stem, names):
        row = []
        for kind in kinds:
            file = found[kind].get(stem)
            if file is None or file.suffix.lower() not in (EXTENSIONS if kind == IMAGES else LOSSLESS):
                wanted = " ".join(EXTENSIONS if kind == IMAGES else LOSSLESS)
                raise ValueError(f"folder: {place / kind} has no {stem}, which may end in {wanted}")
            row.append(file)
        rows.append(tuple(row))
    return rows


def _stem(name: str) -> str:
    """Return the name of an image without folder and ending, where it is listed with them."""
    return Path(name).stem if Path(name).suffix.lower() in EXTENSIONS else name


def _files(folder: Path) -> dict[str, Path]:
    """Return {name without ending: file}, without hidden files."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"folder: {folder} cannot be read ({error.strerror or error})") from error
    found: dict[str, Path] = {}
    for path in entries:
        if not path.name.startswith(".") and path.is_file():
            other = found.setdefault(path.stem, path)
            if other is not path:
                raise ValueError(f"folder: {folder} must have one file of each name, and has {other.name}, {path.name}")
    return found
