"""Whether a folder is on a file system that other machines do not see."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
LOCAL = frozenset({
    *("tmpfs", "ramfs", "devtmpfs", "overlay", "aufs", "squashfs"),
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "vfat", "exfat", "ntfs3"),
})  # fmt: skip
"""Types of file systems on the disks, or in the memory, of one machine."""


def local_type(path: Path) -> str:
    """Return the type of the file system that a folder is on, or will be, if it is a local one; else "".

    "" also stands for not known, as where there is no ``/proc``.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place, kind, longest = os.path.realpath(path), "", -1
    for line in lines:
        mount, _, about = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not about:
            continue
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4]).rstrip("/")
        if (place == point or place.startswith(f"{point}/")) and len(point) >= longest:  # the last one is on top
            kind, longest = about.split(" ")[0], len(point)
    return kind if kind in LOCAL else ""
