"""Write files whole or not at all, and read the files of a run's folder as untrusted input.

A file that cannot be accepted raises a :class:`DamagedError` that names it.
"""

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

PARTIAL = ".partial"
"""Suffix of a file that is being written."""
LARGEST = 2**28
"""Bytes of a file that is read as a whole; 160,000 epochs are as many."""
YAML_LARGEST = 2**18
"""Bytes of a YAML file that is read; its parser takes a second for as many. A config has 5,000."""
DEEPEST = 24
"""Containers within containers; a config has 4."""
CAREFULLY: int = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
"""How a file is opened: not through a link, and without waiting for who is at the other end of a pipe."""
LONGEST_NAME = 160
"""Characters; most file systems end at 255, and a run's id and suffixes follow."""


class DamagedError(UserError):
    """A file is not what was written; the text names it and says in which way.

    Attributes:
        file: that is damaged.
    """

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(file, reason)
        self.file, self._reason = file, reason

    def __str__(self) -> str:
        return f"{self.file} is damaged: {self._reason}"


# Writing


def safe_name(text: str, longest: int = LONGEST_NAME) -> str:
    """``text`` as the name of one file or folder, wherever it came from: no way up, no separator, nothing hidden.

    Args:
        text: any; what is a safe name already stays as it is.
        longest: characters; the end of a longer one is a hash of the whole.
    """
    name = re.sub(r"[^\w.+=-]+", "_", text, flags=re.ASCII).lstrip(".-") or "_"
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{name[: longest - len(digest) - 1]}-{digest}"


def write(file: Path, data: bytes, durable: bool = True) -> None:
    """Write so that ``file`` holds either what it held before or all of ``data``. What a link points to stays as it is.

    Args:
        file: to write.
        data: its content.
        durable: even if the machine stops, for which the disk has to be waited for.
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
    """A file to add to, which is made if it is not there; nothing is written through a link, or to a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | CAREFULLY
    with naming(file):
        return open(os.open(file, flags, 0o666), "a", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123 - it takes no descriptor


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that stay if the machine stops."""
    missing = [each for each in (path, *path.parents) if not each.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def sync(path: Path) -> None:
    """Bring to the disk what a file holds, or which names a folder does.

    Where folders cannot be opened (Windows) that is done already.
    """
    with naming(path):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except PermissionError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Let an error of the file system say which file it is about; a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = str(file)
        raise


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Readable JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write(file, encode_json(content))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Reading


@contextmanager
def opened(file: Path, largest: int = LARGEST) -> Iterator[BufferedReader]:
    """A file to read from.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is a folder, a link, a pipe or a device, or has more than ``largest`` bytes.
        OSError: it cannot be read; perhaps it can be later.
    """
    with naming(file):
        kind = file.lstat().st_mode  # before it is opened, which can wait, or wake a device
        if not stat.S_ISREG(kind):
            names = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
            raise DamagedError(file, f"it is {names.get(stat.S_IFMT(kind), 'no regular file')}")
        with open(os.open(file, os.O_RDONLY | CAREFULLY), "rb") as stream:  # noqa: PTH123
            size = os.fstat(stream.fileno()).st_size
            if size > largest:
                raise DamagedError(file, f"it has {size:,} bytes, and at most {largest:,} are read")
            if size > LARGEST and _written(stream.fileno(), size) < size // 8:
                raise DamagedError(file, f"most of its {size:,} bytes have never been written")
            yield stream


def read(file: Path, largest: int = LARGEST) -> bytes:
    """The content of a file; :func:`opened` says what it raises."""
    with opened(file, largest) as stream:
        data = stream.read(largest + 1)
        if len(data) > largest:  # it grows
            raise DamagedError(file, f"it has more than the {largest:,} bytes that are read")
        return data


@contextmanager
def parsing(file: Path, otherwise: str = "it is not what was written") -> Iterator[None]:
    """Let anything that goes wrong inside be the damage of a file; parsers raise dozens of types by where it is."""
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(file, otherwise) from error


def decode_json(file: Path, data: bytes, shape: Shape = dict) -> dict[str, Any]:
    """The JSON object in ``data``, which is of ``file``.

    Raises:
        DamagedError: it is something else, or has not the shape.
    """
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
    """The object in a file of JSON; :func:`opened` and :func:`decode_json` say what is raised."""
    return decode_json(file, read(file), shape)


def read_yaml(file: Path) -> str:
    """The text of a file of YAML that is safe to parse: small, flat, plain values, and nothing in it twice by an alias.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is something else.
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


def _written(descriptor: int, size: int) -> int:
    """Bytes of a file without its holes, which cost nothing to make and hours to read; or as many as are enough."""
    total = at = 0
    with suppress(OSError, AttributeError):  # there is no more; or this system does not know of holes
        while at < size and total < size // 8:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            total += at - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return total if hasattr(os, "SEEK_DATA") else size


def _deeper(content: Any, levels: int) -> bool:
    """Whether more containers than that are within each other."""
    if not isinstance(content, (dict, list)):
        return False
    parts = content.values() if isinstance(content, dict) else content
    return levels == 0 or any(_deeper(part, levels - 1) for part in parts)
