"""What a data set holds, by hashes: of the files that a source says it reads, else of the images that it returns."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from vicinal.data.images import Images, Source

CHUNK = 10_000
"""Images that are hashed at a time."""
SETTLED = 2.0
"""Seconds; a file written more recently may change again without a new time stamp, so its hash is not kept."""
SHORT = 16

Files = Callable[..., Sequence[Path]]
"""From the arguments of a source to the files, or folders of them, that it reads."""
Function = TypeVar("Function", bound=Callable[..., Source])


def reads(files: Files) -> Callable[[Function], Function]:
    """Say which files a source reads, as a decorator: they are compared instead of the images, which need no loading.

    Args:
        files: takes the arguments of the source by name.
    """

    def mark(source: Function) -> Function:
        source.__dict__["files"] = files
        return source

    return mark


def files_of(source: Any, arguments: Mapping[str, Any]) -> Sequence[Path] | None:
    """List the files that a source reads; None where it does not say."""
    files: Files | None = getattr(source, "files", None)
    return None if files is None else files(**arguments)


def of_files(files: Sequence[Path], cache_dir: Path) -> dict[str, str]:
    """{name: hash} of the files that there are; a name is relative to the folder that holds them all.

    A folder has one hash, of the names and contents of all files below it.
    """
    there = [file.absolute() for file in files if file.exists()]
    if not there:
        return {}
    top = os.path.commonpath([file.parent for file in there])
    kept = Kept.of(cache_dir, top)
    found = {}
    for file in there:
        below = sorted(each for each in file.rglob("*") if each.is_file()) if file.is_dir() else []
        content = "".join(f"{each.relative_to(file)} {kept.sha256(str(each))}\n" for each in below)
        whole = hashlib.sha256(content.encode()).hexdigest() if file.is_dir() else kept.sha256(str(file))
        found[Path(os.path.relpath(file, top)).as_posix()] = whole[:SHORT]
    kept.save()
    return found


def of_images(source: Source) -> dict[str, str]:
    """{part: hash} of the images (N, C, H, W), labels (N,) and names that a source returned."""
    digests = {name: _of_part(part) for name, part in source._asdict().items() if isinstance(part, Images)}
    return {**digests, "class names": hashlib.sha256(repr(source.class_names).encode()).hexdigest()[:SHORT]}


def _of_part(part: Images) -> str:
    digest = hashlib.sha256(repr((tuple(part.images.shape), part.images.dtype, part.labels.dtype)).encode())
    pixels = part.images.permute(0, 2, 3, 1)  # as they lie in memory, mostly: then nothing is copied
    for tensor in (pixels, part.labels, *([] if part.rows is None else [part.rows])):
        for chunk in torch.split(tensor, CHUNK):
            digest.update(chunk.contiguous().numpy().data)
    return digest.hexdigest()[:SHORT]


def stamp(stat: os.stat_result) -> list[int]:
    """What changes with a file's content; the time of the change stays even where a tool puts that of writing back."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class Kept:
    """SHA-256 of files, kept in a file of the cache: one is read again where its size, times or inode are others.

    Args:
        file: to keep them in, written by :meth:`save` alone; None for this process only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._entries = _load(file) if file else {}
        self._news = False

    @staticmethod
    @cache
    def of(cache_dir: Path, folder: str) -> "Kept":
        """For the files below a folder."""
        return Kept(cache_dir.expanduser() / f"contents-{hashlib.sha256(folder.encode()).hexdigest()[:SHORT]}.json")

    def sha256(self, path: str) -> str:
        """Of the content of a file, 64 hex digits.

        Raises:
            OSError: it cannot be read.
        """
        stat = os.stat(path)  # noqa: PTH116 - a Path per file would take longer than all the rest
        now = stamp(stat)
        entry = self._entries.get(path)
        if entry is not None and entry[0] == now:
            return entry[1]
        begun = time.time_ns()
        with open(path, "rb") as stream:  # noqa: PTH123 - a Path takes longer
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if begun - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED * 1e9:
            self._entries[path] = now, digest
            self._news = True
        return digest

    def save(self) -> None:
        """Keep what was read for later processes; without a place to write, they read it again."""
        if self._file is None or not self._news:
            return
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._entries))
            partial.replace(self._file)
            self._news = False


def _load(file: Path) -> dict[str, tuple[list[int], str]]:
    """What was kept; of a file that is missing or damaged nothing."""
    try:
        content = json.loads(file.read_bytes())
        return {str(path): ([int(number) for number in stat], str(digest)) for path, (stat, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
