"""Read an image file as pixels of 8 bits."""

from __future__ import annotations

from typing import Any


def pixels(path: str, size: int, channels: int) -> tuple[Any, bool]:
    """Return an image as a uint8 array (channels, size, size), and whether it had 16 bits."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image, deep = _eight_bits(ImageOps.exif_transpose(file))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        short = min(image.size)
        width, height = (int(size * side / short) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1), deep


def _eight_bits(image: Any) -> tuple[Any, bool]:
    """Return a PIL image with 8 bits per channel, and whether it had 16, which PIL's own conversion clips at 255.

    Raises:
        ValueError: the type of its numbers has no range.
    """
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no range; save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image, False
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("signed or 32-bit pixels have no range of their own; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)), True
