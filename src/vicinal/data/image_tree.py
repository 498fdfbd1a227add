"""The files of a tree, `train/<class>/*`, `test/<class>/*` and perhaps `val/<class>/*`; none is decoded."""

import hashlib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISREG

from vicinal.data.contents import BYTES, DIGITS, newest, once, saved_hashes, say_shared, shared_samples, stamp

log = logging.getLogger(__name__)

VAL_NAMES = ("val", "valid", "validation")  # of the folder that is used for validation
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # those of torchvision
FAIL, SKIP = ON_ERROR = ("fail", "skip")
NAMED_FILES = 3  # in a message

Samples = list[tuple[str, int]]  # (path, label), sorted by class and then by name


class ImageTree:
    """The images of a tree, or files of another kind, each with its label, by the sorted names of the class folders.

    Each file is looked at once, for all that depends on its size and times: see :attr:`state`.

    Hidden files and folders, files without one of the extensions, and second names of a file of the same class
    (links, loops of links) are left out. Raises ValueError: a folder is missing, empty or cannot be read, there is one
    class only, the parts have different classes, or a file cannot be read and is not skipped.

    Args:
        root: the folder with train/ and test/, and perhaps val/ (or valid/, validation/).
        val_size: None to use val/; with a number it is not read.
        on_error: "fail" if a file cannot be used, or "skip" it.
        extensions: of the files; the first is named in messages.
        noun: what several of them are called.
    """

    def __init__(
        self,
        root: str,
        val_size: int | None = 0,
        on_error: str = FAIL,
        extensions: tuple[str, ...] = EXTENSIONS,
        noun: str = "images",
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error}")
        self.extensions, self.noun = extensions, noun
        self._expected = f"expected train/<class>/*{extensions[0]} and test/<class>/*{extensions[0]}"
        self.root, self.skips = Path(root).expanduser().absolute(), on_error == SKIP
        self.unusable: dict[str, str] = {}
        validation = [folder for name in VAL_NAMES if (folder := self.root / name).is_dir()]
        self.parts = {"train": self.root / "train", "test": self.root / "test"}
        self.unused = validation if val_size is not None else []
        if val_size is None and validation:
            self.parts["val"] = validation[0]
            if len(validation) > 1:
                names = " and ".join(folder.name for folder in validation)
                raise ValueError(f"root: one folder at most may be for validation, and there are {names}")
        self.class_names = self._class_names()
        self.left_out: dict[str, Counter[str]] = {part: Counter() for part in self.parts}
        digest, self._changed = hashlib.sha256(os.fsencode(self.root)), 0
        self.samples = {part: self._samples(part, digest) for part in self.parts}
        self.state = digest.hexdigest()
        """A hash of the files with their labels, sizes, times and inodes."""
        self.hashed = False
        """Whether files were read since they were looked at: one that changed in between was read in another state."""

    def skip(self, path: str, reason: str) -> None:
        """Note a file that cannot be used. Raises ValueError if files are not skipped."""
        if not self.skips:
            raise ValueError(f"root: {path} {reason}")
        self.unusable[path] = reason

    def skipped(self) -> tuple[str, ...]:
        """Return the names of the files that are skipped, sorted, relative to the root."""
        return tuple(sorted(Path(os.path.relpath(path, self.root)).as_posix() for path in self.unusable))

    def describe_skipped(self) -> str:
        """Return how many files are skipped, and the first ones with their reasons."""
        return describe(self.unusable, "files")

    @once
    def fingerprint(self, cache_dir: Path) -> str:
        """Return a hash of the relative names and bytes of the images, the same wherever the tree is.

        It is kept with the :attr:`state` that it was found in, beside the hashes of the single files, which then are
        not even loaded: 1.0 core-seconds less with 100,000 files. If files are skipped it is not kept, since another
        user may be able to read them. Images that are in two parts, byte by byte, are counted in a warning.

        Args:
            cache_dir: for hashes.
        """
        content, shared = json.loads(
            saved_hashes(cache_dir, str(self.root), "tree").kept(
                f"{self.noun} of {' '.join(self.parts)}",
                [self.state, *self.skipped()],
                lambda: math.inf if self.unusable else self._changed,
                lambda: self._contents(cache_dir),
            )
        )
        say_shared(self.root, self.noun, shared, BYTES)
        return str(content)

    def _contents(self, cache_dir: Path) -> str:
        """Return the fingerprint and the counts of :func:`shared_samples`, as JSON, by hashes of single files."""
        self.hashed, hashes = True, saved_hashes(cache_dir, str(self.root))
        digest, top = hashlib.sha256(), len(str(self.root)) + 1
        contents: dict[str, list[str]] = {part: [] for part in self.parts}
        for part, samples in self.samples.items():
            for path, label in samples:
                try:
                    content = hashes.sha256(path)
                except OSError as error:
                    self.skip(path, _unreadable(error))
                    continue
                contents[part].append(content)
                digest.update(repr((path[top:], label, content)).encode())
        if self.unusable:
            digest.update(repr(self.skipped()).encode())
        return json.dumps([digest.hexdigest()[:DIGITS], shared_samples(contents)])

    def _class_names(self) -> tuple[str, ...]:
        """Return the sorted names of the class folders, the same in all parts."""
        folders: dict[str, list[str]] = {}
        for folder in self.parts.values():
            if not folder.is_dir():
                raise ValueError(f"root: no folder {folder}; {self._expected}")
            _, subfolders, _ = next(os.walk(folder, onerror=_refuse))
            names = sorted(name for name in subfolders if not _hidden(name))
            if not names:
                raise ValueError(f"root: no class folders in {folder}; {self._expected}")
            folders[folder.name] = names
        train = folders["train"]
        for part, names in folders.items():
            if odd := sorted(set(train) ^ set(names)):
                lacking = part if odd[0] in train else "train"
                raise ValueError(
                    f"root: train and {part} must have the same class folders, and {lacking} has no {odd[0]}"
                )
        if len(train) == 1:
            raise ValueError(f"root: there must be two class folders or more, and {train[0]} is the only one")
        return tuple(train)

    def _samples(self, part: str, digest: "hashlib._Hash") -> Samples:
        """List the images of a part; each file counts once in its class, whatever links lead to it.

        Args:
            part: such as "train".
            digest: gets all that changes with the files.
        """
        samples: Samples = []
        left_out = self.left_out[part]
        for label, name in enumerate(self.class_names):
            folder, before = self.parts[part] / name, len(samples)
            seen: set[tuple[int, int]] = set()
            for path in _walk(folder, left_out):
                if not path.lower().endswith(self.extensions):
                    left_out[Path(path).suffix.lower() or "without an extension"] += 1
                    continue
                try:
                    stat = os.stat(path)  # noqa: PTH116 - a Path per file would take longer than all the rest
                except OSError as error:
                    self.skip(path, _unreadable(error))
                    continue
                if not S_ISREG(stat.st_mode):
                    left_out["no file"] += 1
                elif (stat.st_dev, stat.st_ino) in seen:
                    left_out["another name of the same file"] += 1
                else:
                    seen.add((stat.st_dev, stat.st_ino))
                    samples.append((path, label))
                    digest.update(repr((path, label, *stamp(stat))).encode())
                    self._changed = max(self._changed, newest(stat))
            if len(samples) == before:
                why = f": {self.describe_skipped()}" if self.unusable else ""
                raise ValueError(f"root: no {self.noun} in {folder}; {self._expected}{why}")
        return samples


def describe(unusable: Mapping[str, str], noun: str) -> str:
    """Return how many files, or what else the noun says, are skipped, and the first ones with their reasons."""
    first = [f"{path} {reason}" for path, reason in sorted(unusable.items())[:NAMED_FILES]]
    more = len(unusable) - len(first)
    return f"{len(unusable)} {noun} are skipped: {'; '.join(first)}{f'; and {more} more' if more else ''}"


def log_left_out(tree: ImageTree, val_size: int | None) -> None:
    """Log which folder is used for validation, and what was left out."""
    if "val" in tree.parts:
        log.info("%s: its %s are for validation, and none are cut from train", tree.parts["val"], tree.noun)
    for folder in tree.unused:
        log.warning("%s is not used, since val_size=%d; val_size=null uses it", folder, val_size)
    for part, left_out in tree.left_out.items():
        if left_out:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
            log.info("%s: left out: %s; %s are %s", tree.parts[part], counts, tree.noun, " ".join(tree.extensions))


def _walk(top: Path, left_out: Counter[str]) -> Iterator[str]:
    """Yield the files in a folder and then in its folders, sorted, without hidden and repeated ones."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(top, followlinks=True, onerror=_refuse):
        stat = os.stat(folder)  # noqa: PTH116 - os.walk yields strings
        if (stat.st_dev, stat.st_ino) in seen:
            left_out["another name of the same folder"] += 1
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        shown, inside = (sorted(name for name in kind if not _hidden(name)) for kind in (names, folders))
        if hidden := len(names) + len(folders) - len(shown) - len(inside):
            left_out["hidden"] += hidden
        folders[:] = inside
        begin = os.path.join(folder, "")  # noqa: PTH118 - a Path per file would take longer than all the rest
        yield from (begin + name for name in shown)


def _hidden(name: str) -> bool:
    """Tell ``.ipynb_checkpoints`` and macOS's ``._3.png`` from images."""
    return name.startswith(".")


def _refuse(error: OSError) -> None:
    """Name the folder that cannot be read."""
    raise ValueError(f"root: {error.filename} {_unreadable(error)}") from error


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"
