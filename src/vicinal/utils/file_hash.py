"""Hash the content of a large file once."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file in hex. It is kept for as long as size, times and inode of the file are the same."""
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _sha256(file: Path, *_stamp: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
