"""Hashes of the content of a data set: of the files that its source declares, else of the samples that it returns."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vicinal.data.samples import Samples, Source
from vicinal.utils.checked_json import read_checked, write_checked

log = logging.getLogger(__name__)

CHUNK = 10_000  # images that are hashed at a time
SETTLED_SECONDS = 2.0  # age of a file whose hash is kept: a newer one may change again without a new time stamp
DIGITS = 16  # of a hash
BYTES = "byte by byte"  # how samples are compared

Result = TypeVar("Result", bound=Callable[..., Any])
Function = TypeVar("Function", bound=Callable[..., Source])


def reads(
    files: Callable[..., Sequence[Path]] | None = None,
    *,
    preview: Callable[..., Source] | None = None,
    fingerprint: Callable[..., Mapping[str, str]] | None = None,
    resolved: Callable[..., Mapping[str, Any]] | None = None,
    packages: Callable[..., Sequence[str]] | None = None,
    unused: Callable[..., set[str]] | None = None,
) -> Callable[[Function], Function]:
    """Declare, as a decorator, what a source can tell before it loads anything.

    Each function takes the source's arguments by name and becomes an attribute of the source.

    Args:
        files: returns the files, or folders of them, that the source reads. Their hashes are recorded and compared
            instead of those of the images, which then need not be loaded.
        preview: returns the labels and class names, with images of no pixels. Impossible cuts are refused by it,
            ``classes: null`` is counted, and ``val_size: null`` knows whether there is a validation part.
        fingerprint: returns what identifies the content, {name: hash}. It is part of the identity of a run, and where
            the name is an argument's it replaces its value.
        resolved: returns what arguments stand for that mean another thing at another time, such as a branch,
            {name: value}. These values are those of a run's config.
        packages: returns those that it needs beside the ones of every run, whose versions are recorded.
        unused: returns the names of the arguments that have no effect beside the others, and so are no part of the
            identity of a run.
    """
    told = {"files": files, "preview": preview, "fingerprint": fingerprint, "resolved": resolved}
    functions = {**told, "packages": packages, "unused": unused}

    def mark(source: Function) -> Function:
        source.__dict__.update({name: function for name, function in functions.items() if function})
        return source

    return mark


def once(function: Result) -> Result:
    """Cache what a function finds in the files of a data set, until :func:`forget`."""
    cached = cache(function)
    _cached.append(cached.cache_clear)
    return cached  # type: ignore[return-value]


_cached: list[Callable[[], None]] = []


def forget() -> None:
    """Look at the files of data sets again when they are next asked for."""
    for clear in _cached:
        clear()


def warn_of_shared(place: object, noun: str, contents: Mapping[str, Sequence[str]], how: str = BYTES) -> None:
    """Count in a warning the samples that are in two parts, by {part: what identifies the content of each sample}."""
    say_shared(place, noun, shared_samples(contents), how)


def shared_samples(contents: Mapping[str, Sequence[str]]) -> list[tuple[str, str, int, int]]:
    """Return a part, another one, how many samples of the first are in it too, and how many there are."""
    found = []
    for part, other in (("val", "train"), ("test", "train"), ("test", "val")):
        known, own = {*contents.get(other, ())}, contents.get(part, ())
        if shared := sum(content in known for content in own):
            found.append((part, other, shared, len(own)))
    return found


def say_shared(place: object, noun: str, found: Sequence[Sequence[Any]], how: str) -> None:
    """Warn of what :func:`shared_samples` found."""
    for part, other, shared, count in found:
        warn_once(f"{place}: {noun} of {part} that are in {other} too, {how}: {shared} of {count}")


@cache
def warn_once(line: str) -> None:
    """Log a warning about data, once, however many jobs of a sweep read them."""
    log.warning("%s", line)


def of_files(files: Sequence[Path], cache_dir: Path) -> dict[str, str]:
    """Return {name: hash} of the files that exist; a name is relative to the folder that holds them all.

    A folder has one hash, of the names and contents of all files below it.
    """
    existing = [file.absolute() for file in files if file.exists()]
    if not existing:
        return {}
    top = os.path.commonpath([file.parent for file in existing])
    hashes = saved_hashes(cache_dir, top)
    digests = {}
    for file in existing:
        below = sorted(path for path in file.rglob("*") if path.is_file()) if file.is_dir() else []
        content = "".join(f"{path.relative_to(file)} {hashes.sha256(str(path))}\n" for path in below)
        digest = hashlib.sha256(content.encode()).hexdigest() if file.is_dir() else hashes.sha256(str(file))
        digests[Path(os.path.relpath(file, top)).as_posix()] = digest[:DIGITS]
    hashes.save()
    return digests


def of_samples(source: Source) -> dict[str, str]:
    """Return {part: hash} of the inputs, targets and names that a source returned."""
    digests = {name: _of_part(part) for name, part in source._asdict().items() if isinstance(part, Samples)}
    return {**digests, "class names": hashlib.sha256(repr(source.class_names).encode()).hexdigest()[:DIGITS]}


def _of_part(part: Samples) -> str:
    digest = hashlib.sha256(repr((tuple(part.inputs.shape), part.inputs.dtype, part.targets.dtype)).encode())
    for rows in torch.split(torch.arange(len(part.inputs)), CHUNK):
        # A slice of a tensor is no copy; images that stay encoded are decoded.
        chunk = part.inputs[int(rows[0]) : int(rows[-1]) + 1] if isinstance(part.inputs, Tensor) else part.inputs[rows]
        if chunk.dim() == 4:
            chunk = chunk.permute(0, 2, 3, 1)  # mostly as they are in memory: then nothing is copied
        digest.update(chunk.contiguous().numpy().data)
    for tensor in (part.targets, *([] if part.rows is None else [part.rows])):
        for chunk in torch.split(tensor, CHUNK):
            digest.update(chunk.contiguous().numpy().data)
    return digest.hexdigest()[:DIGITS]


def stamp(stat: os.stat_result) -> list[int]:
    """Return what changes with a file's content; st_ctime does even where a tool restores st_mtime."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def newest(stat: os.stat_result) -> int:
    """Return when a file was last changed, ns."""
    return max(stat.st_mtime_ns, stat.st_ctime_ns)


class HashCache:
    """SHA-256 of files, saved in a file: one is read again where its size, times or inode have changed.

    Only :meth:`save` writes it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries = _load(file)
        self._changed = False

    def sha256(self, path: str) -> str:
        """Return the hash of a file's content, 64 hex digits. Raises OSError if it cannot be read."""
        return self.of(path, [path], lambda: _file_sha256(path))

    def of(self, name: str, paths: Sequence[str], compute: Callable[[], str]) -> str:
        """Return a text, such as a hash, that depends on some files alone: the saved one of this name, or a new one.

        Raises OSError if they cannot be read.
        """
        stats = [os.stat(path) for path in paths]  # noqa: PTH116 - a Path per file would take longer than all the rest
        now = [number for stat in stats for number in stamp(stat)]
        return self.kept(name, now, lambda: max(map(newest, stats)), compute)

    def kept(
        self, name: str, state: Sequence[int | str], changed: Callable[[], float], compute: Callable[[], str]
    ) -> str:
        """Return the saved text of this name if it is of this state, or a new one.

        Args:
            name: of what the text is about.
            state: what changes with the files that the text depends on; as JSON gives it back.
            changed: returns when the last of them did, ns; asked once the text is there. Infinite: it is not kept.
            compute: returns the text.
        """
        entry = self._entries.get(name)
        if entry is not None and entry[0] == state:
            return str(entry[1])
        start = time.time_ns()
        text = compute()
        if start - changed() > SETTLED_SECONDS * 1e9:
            self._entries[name] = [state, text]
            self._changed = True
        return text

    def save(self) -> None:
        """Save the hashes for later processes; without a place to write, they read the files again."""
        if not self._changed:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_checked(self._file, self._entries)
            self._changed = False


opened: dict[Path, HashCache] = {}  # caches of this process by their file


def saved_hashes(cache_dir: Path, folder: str, of: str = "contents") -> HashCache:
    """Return the hashes of files below a folder, or of something else there, which are in a file of their own."""
    file = cache_dir.expanduser() / f"{of}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:DIGITS]}.json"
    if file not in opened:
        opened[file] = HashCache(file)
    return opened[file]


def save_hashes() -> None:
    """Save all hashes that this process has made: looking at a request writes nothing, so fingerprints wait for it."""
    for hashes in opened.values():
        hashes.save()


def _file_sha256(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123 - a Path takes longer
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load(file: Path) -> dict[str, list[Any]]:
    """Read saved hashes; none if the file is missing or damaged."""
    try:
        entries: dict[str, list[Any]] = read_checked(file)
    except (OSError, ValueError):
        return {}
    return entries
