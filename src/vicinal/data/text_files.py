"""The one way to read text files: lines of UTF-8, with or without a byte order mark."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO

ENCODING = "utf-8-sig"
"""UTF-8; a byte order mark at the start of a file, which some editors write, is no part of its first word."""


def read_lines(file: Path) -> list[str]:
    """Return the lines of a file, plain or ``.gz``, without their ends; empty ones at its end are none.

    Raises OSError, EOFError or ValueError: it cannot be read, or is no UTF-8.
    """
    opened: IO[str] = (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding=ENCODING, newline="\n")
    with opened as stream:
        lines = [line.rstrip("\r\n") for line in stream]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_list(argument: str, file: Path) -> list[str]:
    """Return the lines of a list, without spaces around them and without empty ones.

    Raises ValueError, which begins with ``argument``, that of the source: it cannot be read, or is no UTF-8.
    """
    try:
        return [line.strip() for line in read_lines(file) if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{argument}: {file} cannot be read ({reason})") from error
