"""Parquet and arrow files of images, as data sets of the Hugging Face Hub have them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("ant", "bee")


def encoded(count: int, seed: int = 0) -> list[bytes]:
    """JPEG and PNG images of several sizes and modes."""
    rng, images = np.random.default_rng(seed), []
    for number in range(count):
        mode = ("RGB", "L", "RGBA")[number % 3]
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        image = coarse.resize((16 + number % 5, 20 - number % 4), Image.Resampling.BICUBIC).convert(mode)
        stream = io.BytesIO()
        image.save(stream, "PNG" if mode == "RGBA" else "JPEG")
        images.append(stream.getvalue())
    return images


def table(images: Sequence[Any], labels: Sequence[Any], names: Sequence[str] | None = NAMES, **more: Any) -> pa.Table:
    """A table as ``datasets`` makes it; names are of a ClassLabel."""
    rows = pa.array([{"bytes": image, "path": f"{n}.jpg"} for n, image in enumerate(images)],
                    pa.struct([("bytes", pa.binary()), ("path", pa.string())]))  # fmt: skip
    columns: Mapping[str, Any] = {"image": rows, "label": pa.array(labels), **more}
    feature = {"_type": "ClassLabel", "names": list(names)} if names else {"_type": "Value", "dtype": "int64"}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(info)})


def write_parquet(file: Path, content: pa.Table, rows: int = 5) -> Path:
    """In blocks of some rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, file, row_group_size=rows)
    return file


def write_hub(folder: Path, train: int = 14, test: int = 4) -> Path:
    """Two files of train and one of test, with the names that the Hub has."""
    images, half = encoded(train + test), train // 2
    labels = [number % 2 for number in range(train + test)]
    for name, own in {
        "train-00000-of-00002": slice(0, half),
        "train-00001-of-00002": slice(half, train),
        "test-00000-of-00001": slice(train, train + test),
    }.items():
        write_parquet(folder / "data" / f"{name}.parquet", table(images[own], labels[own]))
    return folder
