"""The size of images in its two forms: one number for squares, else height and width."""

from __future__ import annotations

from collections.abc import Sequence

ImageSize = int | Sequence[int]
"""Pixels of each side, or height and width."""


def sides(image_size: ImageSize) -> tuple[int, int]:
    """Return height and width in pixels.

    >>> sides(32), sides([192, 256])
    ((32, 32), (192, 256))
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width


def shortest(image_size: ImageSize) -> int | tuple[int, int]:
    """Return the size in the form that networks are given and runs are known by.

    >>> shortest([32, 32]), shortest([192, 256])
    (32, (192, 256))
    """
    height, width = sides(image_size)
    return height if height == width else (height, width)
