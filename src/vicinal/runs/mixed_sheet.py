"""``mixed.png``: some mixed images of a run in one picture, with their captions inside, for readers and for reports."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
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
    """Write one row per sample: image, partner, mask and the mixed image, with transparent gaps between them.

    The images are uint8 (n, 4, C, H, W), with n captions; unless C is 3, the first channel is shown.
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
    text.add_text(NOTE, json.dumps({"captions": list(captions), "height": height, "down": down}))
    write_file(file, _png(sheet, pnginfo=text))


def read(file: Path, most: int) -> list[tuple[bytes, str]]:
    """Return at most ``most`` rows, spread evenly over the sheet: (PNG, caption). Raises as ``read_json`` does."""
    from PIL import Image

    data = read_file(file)
    with parsing(file):
        width, height = struct.unpack(">II", data[16:24])  # of the header; nothing has been unpacked yet
        if width * height > MOST_PIXELS:
            raise DamagedError(file, f"it has {width:,} x {height:,} pixels, and at most {MOST_PIXELS:,} are read")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as sheet:
            note = decode_json(file, sheet.info[NOTE].encode(), {"captions": [str], "height": whole, "down": whole})
            rows = list(enumerate(note["captions"]))
            if not note["height"] or (len(rows) - 1) * note["down"] + note["height"] > sheet.height:
                raise DamagedError(file, "it has more captions than images")
            images = []
            for index, caption in rows[:: max(1, len(rows) // most)][:most]:
                top = index * note["down"]
                images.append((_png(sheet.crop((0, top, sheet.width, top + note["height"]))), caption))
            return images


def _png(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()
