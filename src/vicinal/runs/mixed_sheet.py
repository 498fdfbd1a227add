"""``mixed.png``: some mixed images of a run in one picture, with their captions inside, for people and for reports."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicinal.runs.files import write as write_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GAP = 8
"""The part of an image's width that is left free beside it."""
NOTE = "captions"
"""The part of the PNG's own text that says what is on it, as JSON."""


def write(file: Path, images: NDArray[np.uint8], captions: Sequence[str]) -> None:
    """Write a row an image: itself, its partner, the mask and what entered the network, with gaps between them.

    Args:
        file: of the sheet.
        images: uint8 (n, 4, C, H, W), of three channels; of any other number the first is shown.
        captions: n texts.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    count, tiles, channels, height, width = images.shape
    gap = max(1, width // GAP)
    down, across = height + gap, width + gap
    sheet = Image.new("RGBA", (tiles * across - gap, count * down - gap))
    for row, column in product(range(count), range(tiles)):
        tile = images[row, column]
        pixels = tile.transpose(1, 2, 0) if channels == 3 else tile[0]
        sheet.paste(Image.fromarray(pixels), (column * across, row * down))
    text = PngInfo()
    text.add_text(NOTE, json.dumps({"captions": list(captions), "height": height, "down": down}))
    write_file(file, _png(sheet, pnginfo=text))


def read(file: Path) -> list[tuple[bytes, str]]:
    """The rows as PNG, each with its caption.

    Raises:
        OSError: there is no such file, or it is no picture.
        ValueError: it is a picture of something else.
    """
    from PIL import Image

    with Image.open(file) as sheet:
        try:
            note = json.loads(sheet.info[NOTE])
            captions, height, down = (note[name] for name in ("captions", "height", "down"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} has no captions") from error
        tops = [(index * down, str(caption)) for index, caption in enumerate(captions)]
        return [(_png(sheet.crop((0, top, sheet.width, top + height))), caption) for top, caption in tops]


def _png(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()
