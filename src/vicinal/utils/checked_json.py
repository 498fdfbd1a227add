"""JSON files with a checksum: a damaged one is known even where it can still be parsed."""

import json
import os
from pathlib import Path
from typing import Any
from zlib import crc32


def write_checked(file: Path, content: Any) -> None:
    """Write `[content, checksum]`; a reader finds the old file or the whole new one. Raises OSError."""
    text = json.dumps(content)
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(f"[{text}, {crc32(text.encode())}]")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_checked(file: Path) -> Any:
    """Return the content. Raises OSError: the file cannot be read; ValueError: it is damaged."""
    text, _, checksum = file.read_bytes().removeprefix(b"[").removesuffix(b"]").rpartition(b", ")
    if not checksum.isdigit() or crc32(text) != int(checksum):
        raise ValueError(f"wrong checksum in {file.name}")
    return json.loads(text)
