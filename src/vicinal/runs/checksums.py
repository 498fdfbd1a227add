"""``SHA256SUMS``: checksums of the files of a completed run, which ``sha256sum -c`` reads too."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vicinal.runs.files import LARGEST, DamagedError, opened, read, sha256, sync, write


def digest(file: Path) -> str:
    """Return the SHA-256 of a file; only the checkpoint may be of any size."""
    with opened(file, sys.maxsize if file.suffix == ".pt" else LARGEST) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of a JSON file, which that file carries itself."""
    return sha256(json.dumps(content, allow_nan=False).encode())


def read_sums(file: Path) -> dict[str, str]:
    """Return {file name: checksum}; empty where the file is missing or damaged."""
    try:
        lines = read(file, 2**16).decode(errors="replace").split("\n")
    except (FileNotFoundError, DamagedError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def seal(sums_file: Path, files: Iterable[Path], known: Mapping[str, str]) -> None:
    """Write the checksums of files, once these are on the disk, and known ones: {file name: checksum}."""
    sums = {}
    for file in files:
        sync(file)  # the epochs were only appended
        sums[file.name] = digest(file)
    sums |= known
    write(sums_file, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
