"""Data sets of images of the Hugging Face Hub, or in its formats on this machine: parquet, arrow, ``save_to_disk``."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.data.arrow_images import Table, TableImages
from vicinal.data.contents import BYTES, DIGITS, once, reads, saved_hashes, say_shared, shared_samples, stamp
from vicinal.data.decoding import PILLOW
from vicinal.data.hub import REPOSITORY, fetched, files_of_splits
from vicinal.data.image_tree import FAIL, ON_ERROR, SKIP, describe
from vicinal.data.kept_images import AUTO, PADDED, Keeping, keep_images, without_effect
from vicinal.data.samples import Samples, Source
from vicinal.errors import UserError
from vicinal.utils.image_size import ImageSize

log = logging.getLogger(__name__)

PARTS = ("train", "test", "val")


class HubData:
    """The tables of a data set's parts, their classes and labels; no image is read.

    Raises ValueError, with the name of the argument first, and UserError: see :func:`hf`.
    """

    def __init__(
        self,
        path: str,
        revision: str | None,
        config: str | None,
        splits: tuple[tuple[str, str], ...],
        image: str,
        label: str,
        classes: int | None,
        on_error: str,
    ) -> None:
        if find_spec("pyarrow") is None:
            raise UserError("dataset=hf needs pyarrow, which is not installed: pip install 'vicinal[hf]'")
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error}")
        names = dict(splits)
        self.root, self.commit = _folder(path, revision, config, tuple(names.values()))
        files = files_of_splits(self.root, config, tuple(names.values()))
        self.tables = {part: Table(files[name], image, label) for part, name in names.items()}
        every = [(part, str(file), *stamp(file.stat())) for part, name in names.items() for file in files[name]]
        self.stamps = repr(every)  # what changes with the files, of before labels and images are read
        self.skips, self.unusable, self._names = on_error == SKIP, dict[str, str](), names
        self.class_names = self._class_names(classes)
        self.labels = {part: self._labels(part) for part in names}

    def skip(self, path: str, reason: str) -> None:
        """Note a row that cannot be used. Raises ValueError if rows are not skipped."""
        if not self.skips:
            raise ValueError(f"path: {path} {reason}")
        self.unusable[path] = reason

    def fingerprint(self, cache_dir: str) -> str:
        """Return a hash of the classes' names, and of labels and images in their order.

        Images that are in two parts, byte by byte, are counted in a warning.
        """
        hashes, digest = saved_hashes(Path(cache_dir), str(self.root)), hashlib.sha256(repr(self.class_names).encode())
        everything: dict[str, list[str]] = {}
        for part, table in self.tables.items():
            everything[part] = paths = [str(file) for file in table.files]
            content = hashes.of(f"{paths} {table.image} {table.label}", paths, table.sha256)
            digest.update(f"{part} {content} ".encode())
        image, paths = self.tables["train"].image, [path for own in everything.values() for path in own]
        say_shared(self.root, "images", json.loads(hashes.of(f"{everything} {image}", paths, self._shared)), BYTES)
        return digest.hexdigest()[:DIGITS]

    def _shared(self) -> str:
        return json.dumps(shared_samples({part: table.contents for part, table in self.tables.items()}))

    def _class_names(self, classes: int | None) -> tuple[str, ...]:
        """Return the names that the files declare, or the sorted texts of train, or the numbers of ``classes``."""
        declared = {part: table.class_names for part, table in self.tables.items()}
        train = self.tables["train"]
        if train.labels.dtype.kind == "U":
            names = tuple(sorted({*train.labels.tolist()}))
        elif declared["train"] is not None:
            names = declared["train"]
            for part, own in declared.items():
                if own not in (names, None):
                    raise ValueError(f"label: the classes of {part} are not those of train: {', '.join(own or ())}")
        elif classes is None:
            raise ValueError(
                f"label: {train.files[0].name} has no names of classes; say how many there are by dataset.classes"
            )
        else:
            names = tuple(map(str, range(classes)))
        if len(names) < 2:
            raise ValueError(f"label: there must be two classes or more, and {', '.join(names)} is the only one")
        return names

    def _labels(self, part: str) -> Tensor:
        """Return the labels of a part, (N,) int64 in [0, classes)."""
        table, count = self.tables[part], len(self.class_names)
        if not len(table.labels):
            raise ValueError(f"splits: {self._names[part]} has no rows")
        if table.labels.dtype.kind == "U":
            numbers = {name: number for number, name in enumerate(self.class_names)}
            labels = np.array([numbers.get(name, -1) for name in table.labels.tolist()])
        else:
            labels = table.labels
        if (bad := (labels < 0) | (labels >= count)).any():
            row = int(bad.argmax())
            shown, why = table.labels[row], f"and the {count} classes are numbered from 0"
            if table.labels.dtype.kind == "U":
                why = "which is no class of train"
            elif shown == -1:
                why = f"which stands for none; name a split with labels, such as dataset.splits.{part}=validation"
            raise ValueError(f"label: {table.name(row)} has {shown}, {why}")
        return torch.from_numpy(np.asarray(labels, np.int64))


def _folder(path: str, revision: str | None, config: str | None, splits: tuple[str, ...]) -> tuple[Path, str | None]:
    """Return the folder with the files, and of those of the Hub, which are fetched, the commit."""
    local = Path(path).expanduser().absolute()
    if local.is_dir():
        if revision:
            raise ValueError(f"revision must be null for a folder on this machine, {local}, got {revision}")
        return local, None
    if local.is_file():
        raise ValueError(
            f"path must be a folder, and {local.name} is a file; dataset.path={local.parent} with "
            "dataset.splits={train: a.parquet, test: b.parquet} names files"
        )
    if not REPOSITORY.fullmatch(path):
        raise ValueError(f"path: there is no folder {local}; a data set of the Hub is called owner/name")
    folder = fetched(path, revision, config, splits)
    return folder, folder.name


examined = once(HubData)
"""Data sets as they were when this process first read them, for previews, before anything is decoded."""


def _examined(
    path: str,
    splits: Mapping[str, str | None],
    val_size: int | None,
    revision: str | None = None,
    config: str | None = None,
    image: str = "image",
    label: str = "label",
    classes: int | None = None,
    on_error: str = FAIL,
    **_: Any,
) -> HubData:
    names = {part: name for part in PARTS if (name := splits.get(part))}
    if odd := [name for name in splits if name not in PARTS]:
        raise ValueError(f"splits: no part {odd[0]}; allowed: {', '.join(PARTS)}")
    if missing := [part for part in ("train", "test") if part not in names]:
        raise ValueError(f"splits must name the split of {missing[0]}")
    if val_size is not None:
        names.pop("val", None)
    return examined(path, revision, config, tuple(names.items()), image, label, classes, on_error)


def _preview(**arguments: Any) -> Source:
    """Return the data set before anything is decoded: its labels, with images of no pixels (N, 1, 0, 0)."""
    Keeping.of(**arguments)
    data = _examined(**arguments)
    parts = {
        part: Samples(torch.empty(len(labels), 1, 0, 0, dtype=torch.uint8), labels)
        for part, labels in data.labels.items()
    }
    return Source(parts["train"], parts["test"], data.class_names, parts.get("val"))


def _fingerprint(cache_dir: str, **arguments: Any) -> dict[str, str]:
    """Return the hash of the content that replaces, in the identity of a run, all that says where it is."""
    where = dict.fromkeys(("revision", "config", "splits", "image", "label"), "")
    return {**where, "path": _examined(**arguments).fingerprint(cache_dir)}


def _resolved(**arguments: Any) -> dict[str, str]:
    """Return the commit that a branch at the Hub is now, which a run's config has then."""
    commit = _examined(**arguments).commit
    return {} if commit is None else {"revision": commit}


@reads(preview=_preview, fingerprint=_fingerprint, resolved=_resolved, unused=without_effect)
def hf(
    path: str,
    splits: dict[str, str | None],
    image_size: ImageSize,
    channels: int,
    cache_dir: str,
    val_size: int | None,
    revision: str | None = None,
    config: str | None = None,
    image: str = "image",
    label: str = "label",
    classes: int | None = None,
    on_error: str = FAIL,
    resize: int | None = None,
    keep: str = AUTO,
    crop: str = PADDED,
    workers: int | str = AUTO,
    stage_to: str | None = None,
    decoder: str = PILLOW,
) -> Source:
    """Load a data set of the Hub, or a folder in one of its formats, as uint8 (N, channels, height, width).

    Images are decoded, resized and kept as by :func:`vicinal.data.imagefolder.imagefolder`. Those of parquet files
    are copied once into an arrow file in ``cache_dir``; arrow files, as ``save_to_disk`` writes them, stay where they
    are. Nothing in a data set is executed.

    Classes are those of a ``ClassLabel``, else the sorted texts of the labels of train, else the numbers below
    ``classes``. Rows of a file are counted from 0. Raises ValueError: a column, split or config is not there; images
    are paths without bytes; a label is no class, such as the -1 of test sets whose labels are kept secret; an image
    cannot be decoded; keys contradict each other. Raises UserError: a package is not installed, or the Hub does not
    give the data set.

    Args:
        path: a folder on this machine, else ``owner/name`` at the Hub, whose files are kept where ``HF_HOME`` says.
        splits: names of the splits, or patterns of files, of ``train``, ``test`` and perhaps ``val``; see
            :func:`vicinal.data.hub.files_of_splits`.
        image_size: pixels per side, or height and width.
        channels: 1 or 3.
        cache_dir: created if it is missing.
        val_size: None to validate on ``splits["val"]``; with a number it is not read, and the caller cuts so many.
        revision: branch or commit at the Hub; None: the main branch.
        config: of a data set that has several, the name of a folder.
        image: column of images, their bytes or a struct with them.
        label: column of labels, whole numbers or texts.
        classes: number of classes where the files do not name them.
        on_error: of an image that cannot be decoded: "fail", or "skip" it, with a line in the log.
        resize: pixels of the frame's shorter side before the centre is cut out; None: `image_size`.
        keep: "decoded", "encoded", or "auto".
        crop: "resized" if the caller takes random parts of the images, which are then encoded.
        workers: threads that decode; "auto" = the cores that this process may use.
        stage_to: folder on a disk of this machine, to which the images are copied, decoded or encoded, once.
        decoder: of JPEGs, "pillow" or "torchcodec"; the pixels are the same.
    """
    keeping = Keeping.of(image_size, channels, resize, keep, crop, workers, on_error, stage_to, decoder)
    data = _examined(path, splits, val_size, revision, config, image, label, classes, on_error)
    if val_size is not None and splits.get("val"):
        log.warning("the split %s is not used, since val_size=%d; val_size=null uses it", splits["val"], val_size)
    place = Path(cache_dir).expanduser()
    key = hashlib.sha256(f"{data.stamps} {image}".encode()).hexdigest()[:DIGITS]
    try:
        encoded = {
            part: TableImages(table, place / f"hf-{key}" / f"{part}.arrow") for part, table in data.tables.items()
        }
    except OSError as error:
        raise ValueError(f"cache_dir: the images cannot be copied there ({error})") from error
    folder = place / f"hf-{keeping.key(key)}"
    parts = keep_images(keeping, data, encoded, data.labels, folder, f"hf-{key}")
    skipped = tuple(sorted(data.unusable))
    if skipped:
        log.warning("%s: %s", data.root, describe(data.unusable, "images"))
    return Source(parts["train"], parts["test"], data.class_names, parts.get("val"), skipped, folder=folder)
