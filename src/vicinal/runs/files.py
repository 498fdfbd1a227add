"""Write files whole or not at all, and read the files of a run's folder as untrusted input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

from vicinal.errors import UserError
from vicinal.runs.shapes import Shape, misfit

PARTIAL = ".partial"  # suffix of a file that is being written
LARGEST = 2**28  # bytes of a file that is read as a whole: 160,000 epochs
YAML_LARGEST = 2**18  # bytes of a YAML file that is read, for which its parser takes a second. A config has 5,000.
DEEPEST = 24  # containers within containers; a config has 4
CAREFULLY: int = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
"""Flags to open a file: follow no link, and do not wait for the other end of a pipe."""
LONGEST_NAME = 160  # characters; most file systems end at 255, and a run's id and suffixes follow
KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}


class DamagedError(UserError):
    """A file is not what was written; the text names it and the reason."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(file, reason)
        self.file, self._reason = file, reason

    def __str__(self) -> str:
        return f"{self.file} is damaged: {self._reason}"


# Writing


def safe_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Return ``text`` as the name of one file or folder: no way up, no separator, nothing hidden.

    A safe name stays as it is. The end of one with more than ``longest`` characters is a hash of the whole.
    """
    name = re.sub(r"[^\w.+=-]+", "_", text, flags=re.ASCII).lstrip(".-") or "_"
    if len(name) <= longest:
        return name
    digest = sha256(text.encode())[:10]
    return f"{name[: longest - len(digest) - 1]}-{digest}"


def write(file: Path, data: bytes, durable: bool = True) -> None:
    """Write so that ``file`` holds either its old content or all of ``data``. The target of a link stays as it is.

    If ``durable``, wait for the disk, so that the file stays if the machine stops.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")  # two processes may write the same file
    with naming(file):
        try:
            partial.unlink(missing_ok=True)
            with partial.open("xb") as stream:  # never through a link that waits under this name
                stream.write(data)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            partial.replace(file)
            if durable:
                sync(file.parent)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)  # half a file would only make a full disk fuller
            raise


def appending(file: Path) -> TextIOWrapper:
    """Open a file to append to, and create it if necessary; never through a link or a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | CAREFULLY
    with naming(file):
        return open(os.open(file, flags, 0o666), "a", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123 - it takes no descriptor


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that stay if the machine stops."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    with naming(path):
        try:  # Windows waits for no file that is open for reading alone, and opens no folders: they are there already
            descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        except PermissionError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Put the file's name into any error of the file system; the error of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = str(file)
        raise


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Return readable JSON. Raises ValueError for NaN and infinity."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write(file, encode_json(content))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Reading


def check_kind(path: Path, expected: int = stat.S_IFREG) -> None:
    """Raise DamagedError for something else, such as a link, in place of a regular file or the ``expected`` kind."""
    kind = stat.S_IFMT(path.lstat().st_mode)
    if kind != expected:
        raise DamagedError(path, f"it is {KINDS.get(kind, 'no regular file')}")


@contextmanager
def opened(file: Path, largest: int = LARGEST) -> Iterator[BufferedReader]:
    """Open a regular file of at most ``largest`` bytes to read from. Raises as :func:`read_json` does."""
    with naming(file):
        check_kind(file)  # before it is opened, which can wait, or wake a device
        with open(os.open(file, os.O_RDONLY | CAREFULLY), "rb") as stream:  # noqa: PTH123
            size = os.fstat(stream.fileno()).st_size
            if size > largest:
                raise DamagedError(file, f"it has {size:,} bytes, and at most {largest:,} are read")
            if size > LARGEST and _bytes_written(stream.fileno(), size) < size // 8:
                raise DamagedError(file, f"most of its {size:,} bytes have never been written")
            yield stream


def read(file: Path, largest: int = LARGEST) -> bytes:
    """Return the content of a file. Raises as :func:`read_json` does."""
    with opened(file, largest) as stream:
        data = stream.read(largest + 1)
        if len(data) > largest:  # it grows
            raise DamagedError(file, f"it has more than the {largest:,} bytes that are read")
        return data


@contextmanager
def parsing(file: Path, otherwise: str = "it is not what was written") -> Iterator[None]:
    """Turn any error inside into the damage of a file; parsers raise dozens of types."""
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(file, otherwise) from error


def decode_json(file: Path, data: bytes, shape: Shape = dict) -> dict[str, Any]:
    """Return the JSON object in ``data``, all of ``file`` or a line. Raises DamagedError if it has not the shape."""
    with parsing(file, "it is not JSON" if data else "it is empty"):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise DamagedError(file, "it is not a JSON object")
    if _deeper(content, DEEPEST):
        raise DamagedError(file, f"more than {DEEPEST} levels are nested in it")
    with parsing(file, "it has a number or a text that JSON does not have"):  # NaN, 1e999, half a UTF-16 pair
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    if (where := misfit(content, shape)) is not None:
        raise DamagedError(file, f"{where or 'it'} is not what was written")
    return content


def read_json(file: Path, shape: Shape = dict) -> dict[str, Any]:
    """Return the object in a file of JSON.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what was written, or has not the shape.
        OSError: it cannot be read; perhaps it can be later.
    """
    return decode_json(file, read(file), shape)


def read_yaml(file: Path) -> str:
    """Return the text of a YAML file that is safe to parse: small, flat, of plain values, and without aliases.

    Raises as :func:`read_json` does.
    """
    import yaml  # type: ignore[import-untyped]

    data, depth = read(file, YAML_LARGEST), 0
    with parsing(file, "it is not YAML"):
        text = data.decode()
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise DamagedError(file, "it has an alias (*), which none of ours has")
            if getattr(event, "tag", None) is not None:
                raise DamagedError(file, f"it has the tag {event.tag}, which none of ours has")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise DamagedError(file, f"more than {DEEPEST} levels are nested in it")
    return text


def _bytes_written(descriptor: int, size: int) -> int:
    """Count the bytes outside the holes of a file, up to an eighth; holes cost nothing to make and hours to read."""
    total = position = 0
    with suppress(OSError, AttributeError):  # there is no more; or this system does not know of holes
        while position < size and total < size // 8:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = os.lseek(descriptor, start, os.SEEK_HOLE)
            total += position - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return total if hasattr(os, "SEEK_DATA") else size


def _deeper(content: Any, levels: int) -> bool:
    if not isinstance(content, (dict, list)):
        return False
    parts = content.values() if isinstance(content, dict) else content
    return levels == 0 or any(_deeper(part, levels - 1) for part in parts)
