"""Processes of this machine, as ``/proc`` shows them."""

from contextlib import suppress
from pathlib import Path


def processes_with(**variables: str) -> list[int]:
    """Return the numbers of the processes that were started with these environment variables."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if wanted <= {*(process / "environ").read_bytes().split(b"\0")}:
                found.append(int(process.name))
    return found
