"""Tiny folders in the layouts of the data sets that are no images of one class each."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.box_files import write_coco, write_voc
from tests.hub_files import write_hub
from tests.huggingface_files import write_folder
from vicinal.data import digits

CLIP = 400  # samples


def write(root: Path) -> Path:
    """Write all of them below a folder, each where its option of ``dataset`` looks for it."""
    for digit in range(10):
        for number in (0, 5, 6, 7, 8):
            _clip(root / f"fsdd/recordings/{digit}_theo_{number}.wav", 8000)
    for word in ("yes", "no"):
        for number in range(8):
            _clip(root / f"commands/{word}/{number}f_nohash_{number}.wav", 16000)
    for name, start in (("testing", 0), ("validation", 2)):
        lines = [f"{word}/{number}f_nohash_{number}.wav\n" for word in ("yes", "no") for number in (start, start + 1)]
        (root / f"commands/{name}_list.txt").write_text("".join(lines))
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(6):
                _clip(root / f"wavs/{part}/{name}/{number}.wav", 16000)
        for number in range(6):
            _pair(root / f"masks/{part}", f"{number}", 3)
    for number in range(12):
        _pair(root / "dsb2018-128", f"{number:03d}", 1)
    for part, numbers in {"train": range(8), "val": range(8, 12)}.items():
        (root / f"dsb2018-128/{part}.txt").write_text("".join(f"{number:03d}\n" for number in numbers))
    write_voc(root / "bccd/VOCdevkit/VOC2007")
    write_coco(root / "coco")
    write_folder(root / "net", classes=6)
    write_hub(root / "hub")
    for folder, classes in {"trec": 6, "sst2": 2}.items():
        (root / folder).mkdir()
        for part in ("train", "dev", "test"):
            rows = [f"{row % classes}\tF{row % classes}\tword{row % 5} of a sentence\n" for row in range(60)]
            (root / folder / f"{part}.tsv").write_text("label\tfine\ttext\n" + "".join(rows))
    rows = "".join(f"{number},{number % 7},{number % 2}\n" for number in range(20))
    (root / "table.csv").write_text("rooms,price,large\n" + rows)
    _mnist(root / "MNIST/raw")
    return root


def _clip(file: Path, rate: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(str(file))).integers(-8000, 8000, CLIP, np.int16)
    with wave.open(str(file), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(rate)
        clip.writeframes(samples.tobytes())


def _pair(folder: Path, name: str, channels: int) -> None:
    """An image of noise, and a mask with two instances."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[4:10, 4:10], mask[20:30, 15:25] = 1, 1 if channels == 3 else 2
    for kind, image in (("images", pixels if channels == 3 else pixels[..., 0]), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / kind / f"{name}.png")


def _mnist(folder: Path) -> None:
    """The embedded digits, enlarged, as the files of MNIST."""
    folder.mkdir(parents=True)
    source = digits()
    for name, part in (("train", source.train), ("t10k", source.test)):
        images = np.pad(
            np.kron(part.gathered().squeeze(1).numpy(), np.ones((1, 3, 3), np.uint8)), ((0, 0), (2, 2), (2, 2))
        )
        for kind, array in (("images-idx3", images), ("labels-idx1", part.targets.byte().numpy())):
            shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
            header = bytes([0, 0, 8, array.ndim]) + shape
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
