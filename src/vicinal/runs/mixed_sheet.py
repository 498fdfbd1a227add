"""``mixed.png``: some mixed images of a run in one picture, with their captions inside, for readers and for reports."""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.runs.files import DamagedError, decode_json, parsing
from vicinal.runs.files import read as read_file
from vicinal.runs.files import write as write_file
from vicinal.runs.shapes import whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GAP = 8  # width of an image per width of the gap beside it
NOTE = "captions"  # key of the PNG's own text with the captions and the layout, as JSON
MOST_PIXELS = 2**26  # largest sheet that is decoded: 256 MiB


def write(file: Path, images: NDArray[np.uint8], captions: Sequence[str]) -> None:
    """Write one row per sample: image, partner, mask, the mixed image and more, with transparent gaps between them.

    The tiles are uint8 (n, T, C, H, W), with n captions; unless C is 3, the first channel is shown.
    """
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    count, tiles, channels, height, width = images.shape
    gap = max(1, width // GAP)
    down, across = height + gap, width + gap
    tile_rows = np.zeros((count, down, tiles, across, 4), np.uint8)
    tile_rows[:, :height, :, :width, 3] = 255
    tile_rows[:, :height, :, :width, :3] = images[:, :, : 3 if channels == 3 else 1].transpose(0, 3, 1, 4, 2)
    sheet = Image.fromarray(tile_rows.reshape(count * down, tiles * across, 4)[:-gap, :-gap])
    text = PngInfo()
    text.add_text(NOTE, json.dumps({"captions": list(captions), "height": height, "down": down, "tiles": tiles}))
    write_file(file, _png(sheet, pnginfo=text))


def read(file: Path, most: int) -> list[tuple[bytes, str]]:
    """Return at most ``most`` rows, spread evenly over the sheet: (PNG, caption). Raises as ``read_json`` does."""
    return [(_png(row), caption) for row, caption, _ in _rows(file, most)]


def tiles(file: Path) -> list[tuple[NDArray[np.uint8], str]]:
    """Return all rows as their tiles, uint8 (T, 3, H, W), with the caption. Raises as ``read_json`` does."""
    import numpy as np

    found = []
    for row, caption, note in _rows(file, sys.maxsize):
        gap, count = note["down"] - note["height"], note.get("tiles", 4)
        across = (row.width + gap) // count
        pixels = np.pad(np.array(row.convert("RGB")), ((0, 0), (0, gap), (0, 0)))
        each = pixels[:, : count * across].reshape(row.height, count, across, 3)
        found.append((each[:, :, : across - gap].transpose(1, 3, 0, 2), caption))
    return found


def _rows(file: Path, most: int) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Yield at most ``most`` rows, spread evenly: the PIL image, its caption and the note on the layout."""
    from PIL import Image

    data = read_file(file)
    with parsing(file):
        width, height = struct.unpack(">II", data[16:24])  # of the header; nothing has been unpacked yet
        if width * height > MOST_PIXELS:
            raise DamagedError(file, f"it has {width:,} x {height:,} pixels, and at most {MOST_PIXELS:,} are read")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as sheet:
            shape = {"captions": [str], "height": whole, "down": whole, "tiles?": whole}
            note = decode_json(file, sheet.info[NOTE].encode(), shape)
            rows = list(enumerate(note["captions"]))
            if not note["height"] or (len(rows) - 1) * note["down"] + note["height"] > sheet.height:
                raise DamagedError(file, "it has more captions than images")
            if not 0 < note.get("tiles", 4) <= sheet.width or note["down"] < note["height"]:
                raise DamagedError(file, "its note does not fit its images")
            for index, caption in rows[:: max(1, len(rows) // most)][:most]:
                top = index * note["down"]
                yield sheet.crop((0, top, sheet.width, top + note["height"])), caption, note


def _png(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()
