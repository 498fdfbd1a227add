"""Rows and images as W&B's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def with_histograms(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with W&B's own histograms for lists, which are counts of equal bins of [0, 1]."""
    import wandb

    shown = dict(row)
    for name, value in row.items():
        if isinstance(value, list):
            edges = np.linspace(0, 1, len(value) + 1)
            shown[name] = wandb.Histogram(np_histogram=(np.array(value), edges))
    return shown


def strip(tiles: NDArray[np.uint8]) -> Any:
    """A PIL image of tiles (n, C, H, W), one beside the other: wandb would stretch the values of an array."""
    from PIL import Image

    image = np.concatenate(tuple(tiles), axis=2)
    channels = image[:3] if len(image) >= 3 else image[0]
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(channels, 0, -1) if channels.ndim == 3 else channels))
