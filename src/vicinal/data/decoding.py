"""The one way from an image file to pixels, so that a file has the same pixels whatever kind of data set it is in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.utils.image_size import ImageSize, sides

PILLOW, TORCHCODEC = DECODERS = ("pillow", "torchcodec")


def decode(file: str | Path | io.BytesIO, channels: int, turn: bool = True, decoder: str = PILLOW) -> tuple[Any, bool]:
    """Return a PIL image, grey (1 channel) or RGB (3), and True if the file has 16 bits per pixel.

    Transparent pixels are laid on black. Grey images of 16 bits are scaled to 8 by their type's range, 65535. Raises
    ValueError: the range of the pixels is not known. PIL raises a dozen other types on damaged files, by format.

    Nothing is copied where no pixel changes: without the two copies, images per core-second were 1.09 to 1.11 of those
    with them at 330 x 256 and 500 x 375 pixels, and 1.3 to 4 at 1500 x 1000 (Pillow 13.0, medians of 7 turns).

    Args:
        file: path or bytes of the image.
        channels: 1 or 3.
        turn: as the EXIF orientation says; else the pixels stay where they are stored.
        decoder: of :data:`DECODERS`; the pixels are the same. "torchcodec" takes JPEGs, all others are for Pillow.
    """
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        image = _by_torchcodec(opened, file) if decoder == TORCHCODEC else None
        if image is None:
            image = opened
            if turn:
                ImageOps.exif_transpose(image, in_place=True)
        image, deep = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode), deep


def fitted(image: Any, size: ImageSize, resampling: Any, resize: int | None = None) -> Any:
    """Return a PIL image that is scaled, keeping its aspect, and whose centre is cut out.

    It just covers the frame of this size, or with ``resize`` a frame of the same aspect with this shorter side. So the
    shorter side of an image becomes that of a square frame.
    """
    height, width = frame = sides(size)
    shorter = resize or min(frame)
    if image.size == (width, height) and shorter == min(frame):
        return image
    w, h = image.size
    if w * height >= h * width:  # the image is wider than the frame, which its height fills
        high = shorter * height // min(frame)
        wide = int(high * w / h)
    else:
        wide = shorter * width // min(frame)
        high = int(wide * h / w)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    return image.resize((wide, high), resampling).crop((left, top, left + width, top + height))


def framed(image: Any, size: ImageSize, resize: int | None = None) -> NDArray[np.uint8]:
    """Return a decoded image as an array (channels, height, width): see :func:`fitted`; bilinear, antialiased."""
    from PIL import Image

    return as_array(fitted(image, size, Image.Resampling.BILINEAR, resize))


def as_array(image: Any) -> NDArray[np.uint8]:
    """Return a decoded image as an array (channels, H, W)."""
    width, height = image.size
    return np.asarray(image).reshape(height, width, -1).transpose(2, 0, 1)


def _by_torchcodec(opened: Any, file: str | Path | io.BytesIO) -> Any:
    """Return a PIL image of a JPEG, or None where Pillow is to decode.

    That is: other formats and colours; files with EXIF or XMP (the segment APP1), where the two do not always read the
    same orientation; damaged files.
    """
    from PIL import Image
    from torchcodec.decoders import decode_jpeg

    modes = {"L": "GRAY", "RGB": "RGB"}
    if opened.format != "JPEG" or opened.mode not in modes or "APP1" in opened.app:
        return None
    try:
        pixels = decode_jpeg(file.getvalue() if isinstance(file, io.BytesIO) else file, mode=modes[opened.mode])
    except RuntimeError:
        return None
    return Image.fromarray((pixels[0] if opened.mode == "L" else pixels.permute(1, 2, 0)).numpy())


def _eight_bits(image: Any) -> tuple[Any, bool]:
    """Return a PIL image with 8 bits per channel, and True if it had 16, which PIL's own conversion clips at 255."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no range; save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;"):
        image.load()
        return image, False
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("signed or 32-bit pixels have no range of their own; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)), True
