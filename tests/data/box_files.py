"""Tiny folders of images with boxes, in the layout of PASCAL VOC and in the form of COCO."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Rows = Sequence[tuple[str, float, float, float, float]]
LISTS = {"train": 5, "val": 3, "test": 3}
NAMES = ("bar", "dot")
WIDTH, HEIGHT = 32, 24


def annotation(rows: Rows, width: int = WIDTH, height: int = HEIGHT) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in rows
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"


def boxes_of(number: int) -> Rows:
    return [("dot", 2 + number, 3, 10 + number, 11), ("bar", 1, 14, 31, 20 + number % 3)]


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    pixels = np.random.RandomState(number).randint(0, 60, (height, width, 3)).astype(np.uint8)
    for place, (_, x1, y1, x2, y2) in enumerate(boxes_of(number)):
        pixels[int(y1) : int(y2), int(x1) : int(x2), place] = 220
    return Image.fromarray(pixels)


def write_voc(folder: Path) -> Path:
    """Write 11 images, corners as edges from 0 (``origin=0``)."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    number = 0
    for part, count in LISTS.items():
        names = [f"{part}{place}" for place in range(count)]
        (folder / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            picture(number).save(folder / "JPEGImages" / f"{name}.png")
            (folder / "Annotations" / f"{name}.xml").write_text(annotation(boxes_of(number)))
            number += 1
    return folder


def write_coco(folder: Path) -> Path:
    """Write the same images."""
    number = 0
    for part, count in LISTS.items():
        (folder / part).mkdir(parents=True)
        images, annotations = [], []
        for place in range(count):
            picture(number).save(folder / part / f"{place}.png")
            images.append({"id": 7 * place + 1, "file_name": f"{place}.png", "width": WIDTH, "height": HEIGHT})
            for name, x1, y1, x2, y2 in boxes_of(number):
                category = {"bar": 3, "dot": 90}[name]
                annotations.append(
                    {
                        "image_id": 7 * place + 1,
                        "category_id": category,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "iscrowd": 0,
                    }
                )
            number += 1
        categories = [{"id": 90, "name": "dot"}, {"id": 3, "name": "bar"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(content))
    return folder
