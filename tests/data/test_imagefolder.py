"""Trees of images: pixels against torchvision's transforms, the cache, and what is refused."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from vicinal.data import Source
from vicinal.data.imagefolder import class_names, fingerprint, imagefolder
from vicinal.errors import ConfigError

EXPECTED = "expected train/<class>/*.jpg and test/<class>/*.jpg"
SIZES = [(16, 16), (31, 47), (64, 20), (8, 8), (17, 16), (5, 90), (33, 32)]


def write_tree(root: Path) -> Path:
    """Two classes; 7 images of all sizes a class to train on, 2 to test on; JPEG, PNG, grey, palette and alpha."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 7), ("test", 2)):
        for label, name in enumerate(("ant", "bee")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i, (width, height) in enumerate(SIZES[:count]):
                mode = ("RGB", "L", "P", "RGBA")[(i + label) % 4]
                coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
                image = coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)
                image.save(folder / f"{i}.{'jpg' if mode in ('RGB', 'L') else 'png'}")
    return root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree")


def load(tree: Path, size: int = 16, channels: int = 3) -> Source:
    return imagefolder(str(tree), size, channels, str(tree.parent / "cache"))


def same(a: Source, b: Source) -> bool:
    return all(torch.equal(x, y) for p, q in zip(a[:2], b[:2], strict=True) for x, y in zip(p[:2], q[:2], strict=True))


@pytest.mark.parametrize("size", [1, 16, 25])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_equal_torchvisions_transforms(tree, size, channels):
    steps = [transforms.Resize(size, antialias=True), transforms.CenterCrop(size), transforms.PILToTensor()]
    if channels == 1:
        steps.insert(0, transforms.Grayscale())
    first, cached = load(tree, size, channels), load(tree, size, channels)
    assert same(first, cached)
    assert first.class_names == ("ant", "bee")
    for part, name in ((first.train, "train"), (first.test, "test")):
        theirs = ImageFolder(tree / name, transform=transforms.Compose(steps))
        assert part.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(part.images, torch.stack([image for image, _ in theirs]))
        assert part.labels.tolist() == theirs.targets


def test_a_tree_is_decoded_once(tree):
    first = load(tree)
    image = tree / "train/ant/0.jpg"
    stat = image.stat()
    image.write_bytes(bytes(stat.st_size))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert same(load(tree), first)  # the image is garbage now, but nothing tells so without reading it


def test_a_changed_tree_is_decoded_again(tree):
    first = load(tree)
    image = tree / "train/ant/0.jpg"
    stat = image.stat()

    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert same(load(tree), first)
    assert len(list((tree.parent / "cache").iterdir())) == 2  # another time is reason enough

    Image.new("RGB", (16, 16), "red").save(image)
    assert load(tree).train.images[0, :, 8, 8].tolist() == [254, 0, 0]

    next((tree / "test/bee").iterdir()).unlink()
    assert len(load(tree).test.labels) == 3

    assert load(tree, size=8).train.images.shape[1:] == (3, 8, 8)
    assert load(tree, channels=1).train.images.shape[1:] == (1, 16, 16)
    assert not list((tree.parent / "cache").glob("*.tmp"))


@pytest.mark.parametrize("damage", ["empty", "half", "one byte"])
def test_a_damaged_cache_is_named_and_made_anew(tree, damage, caplog):
    first = load(tree)
    (cache,) = (tree.parent / "cache").iterdir()
    whole = cache.read_bytes()
    pixels = whole.index(first.train.images.permute(0, 2, 3, 1).numpy().tobytes())
    flipped = bytes([whole[pixels] ^ 1])
    broken = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "one byte": whole[:pixels] + flipped + whole[pixels + 1 :],
    }
    cache.write_bytes(broken[damage])

    assert same(load(tree), first)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith(f"{cache} is damaged and is made anew (")
    assert "\n" not in record.getMessage()

    caplog.clear()
    assert same(load(tree), first)
    assert not caplog.records


def test_a_cache_that_cannot_be_written_costs_a_line(tree, caplog):
    (tree.parent / "cache").write_text("a file where the folder should be")
    assert len(load(tree).train.labels) == 14
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot be written, so the next run decodes again (" in record.getMessage()


def refused(tree: Path, channels: int = 3) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tree, channels=channels)
    return str(caught.value)


def test_a_missing_folder(tmp_path):
    with pytest.raises(ConfigError) as caught:
        class_names(str(tmp_path / "nowhere"))
    line = f"dataset.root={tmp_path}/nowhere: no folder {tmp_path}/nowhere/train; {EXPECTED}"
    assert str(caught.value) == refused(tmp_path / "nowhere") == line


def test_a_folder_without_classes(tree):
    for name in ("ant", "bee"):
        (tree / "test" / name).rename(tree / name)
    assert refused(tree) == f"dataset.root={tree}: no class folders in {tree}/test; {EXPECTED}"


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("test", "train")])
def test_different_classes(tree, part, other):
    (tree / part / "cat").mkdir()
    line = f"dataset.root={tree}: train and test must have the same class folders, and {other} has no cat"
    assert refused(tree) == line


def test_a_class_without_images(tree):
    for part in ("train", "test"):
        (tree / part / "cat").mkdir()
    assert refused(tree) == f"dataset.root={tree}: no images in {tree}/train/cat; {EXPECTED}"


def test_two_channels(tree):
    assert refused(tree, channels=2) == "dataset.channels=2: must be 1 (grey) or 3 (RGB)"


@pytest.mark.parametrize("size", [10, 300])
def test_an_image_that_cannot_be_decoded(tree, size):
    image = tree / "test/ant/0.jpg"
    image.write_bytes(image.read_bytes()[:size])
    assert refused(tree).startswith(f"dataset.root={tree}: {image} cannot be decoded (")
    assert not list((tree.parent).glob("cache/*"))


def test_a_tree_is_known_by_its_names_and_bytes(tree, tmp_path):
    before = fingerprint(str(tree))
    moved = tree.rename(tmp_path / "elsewhere")
    assert fingerprint(str(moved)) == before

    first, second = sorted((moved / "train" / "ant").glob("*.png"))[:2]
    data = bytearray(first.read_bytes())
    data[-20] ^= 1  # the same size
    first.write_bytes(data)
    fingerprint.cache_clear()
    assert fingerprint(str(moved)) != before
    data[-20] ^= 1
    first.write_bytes(data)
    fingerprint.cache_clear()
    assert fingerprint(str(moved)) == before
    second.rename(second.with_name("other.png"))
    fingerprint.cache_clear()
    assert fingerprint(str(moved)) != before
