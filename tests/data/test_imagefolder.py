"""Trees of images: pixels against torchvision's transforms, the cache, and what is refused."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from vicinal import build
from vicinal.data import Source, contents, split
from vicinal.data.contents import stamp
from vicinal.data.image_tree import ImageTree
from vicinal.data.imagefolder import examined, imagefolder
from vicinal.data.kept_images import Keeping
from vicinal.errors import ConfigError
from vicinal.utils.checked_json import read_checked

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


def load(tree: Path, size: int = 16, channels: int = 3, val_size: int | None = 0, on_error: str = "fail") -> Source:
    return imagefolder(str(tree), size, channels, str(tree.parent / "cache"), val_size, on_error)


def same(a: Source, b: Source) -> bool:
    return all(
        torch.equal(p.gathered(), q.gathered()) and torch.equal(p.targets, q.targets)
        for p, q in zip(a[:2], b[:2], strict=True)
    )


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
        assert part.inputs.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(part.inputs, torch.stack([image for image, _ in theirs]))
        assert part.targets.tolist() == theirs.targets


def test_a_tree_is_decoded_once(tree):
    first = load(tree)
    (cache,) = (tree.parent / "cache").iterdir()
    made = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert made.keys() == {"index.json", "lock", "test.u8", "train.u8"}
    assert same(load(tree), first)
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == made
    image = tree / "train/ant/0.jpg"
    stat = image.stat()
    image.write_bytes(bytes(stat.st_size))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as `cp -p` and `tar` do
    assert f"{image} cannot be decoded" in refused(tree)


def test_a_changed_tree_is_decoded_again(tree):
    first = load(tree)
    image = tree / "train/ant/0.jpg"
    stat = image.stat()

    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert same(load(tree), first)
    assert len(list((tree.parent / "cache").iterdir())) == 2  # another time is reason enough

    Image.new("RGB", (16, 16), "red").save(image)
    assert load(tree).train.inputs[0, :, 8, 8].tolist() == [254, 0, 0]

    next((tree / "test/bee").iterdir()).unlink()
    assert len(load(tree).test.targets) == 3

    assert load(tree, size=8).train.inputs.shape[1:] == (3, 8, 8)
    assert load(tree, channels=1).train.inputs.shape[1:] == (1, 16, 16)
    assert not list((tree.parent / "cache").glob("*.tmp"))


@pytest.mark.parametrize("name", ["train.u8", "index.json"])
@pytest.mark.parametrize("damage", ["empty", "half", "one byte"])
def test_a_damaged_cache_is_named_and_made_again(tree, damage, name, caplog):
    first = load(tree)
    pixels = first.train.gathered()
    (cache,) = (tree.parent / "cache").iterdir()
    whole = (cache / name).read_bytes()
    place = len(whole) // 3 if name == "train.u8" else 0
    broken = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "one byte": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
    }
    (cache / name).unlink()  # what is mapped into memory stays as it is
    (cache / name).write_bytes(broken[damage])

    again = load(tree)
    assert torch.equal(again.train.gathered(), pixels)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith(f"{cache} is damaged and is made again (")
    assert "\n" not in record.getMessage()

    caplog.clear()
    assert same(load(tree), again)
    assert not caplog.records


def test_a_copy_of_a_cache_is_checked_once_and_used(tree, caplog):
    """What has another inode or time is compared with its checksums, and not made again if it has them."""
    first = load(tree)
    (cache,) = (tree.parent / "cache").iterdir()
    shutil.copytree(cache, tree.parent / "copy")
    shutil.rmtree(cache)
    (tree.parent / "copy").rename(cache)
    caplog.set_level("INFO")
    assert same(load(tree), first)
    assert not [line for line in caplog.messages if "decoding" in line or "damaged" in line]
    stamps = read_checked(cache / "index.json")["stamps"]
    assert stamps["train"] == stamp((cache / "train.u8").stat())


def test_a_cache_that_cannot_be_written_costs_a_line(tree, caplog):
    (tree.parent / "cache").write_text("a file where the folder should be")
    assert len(load(tree).train.targets) == 14
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot be written, so the next run decodes again (" in record.getMessage()


def fingerprint(tree: Path, val_size: int | None = 0) -> str:
    """The hash as a new process finds it."""
    contents.opened.clear()
    return ImageTree(str(tree), val_size).fingerprint(tree.parent / "hashes")


def refused(tree: Path, channels: int = 3) -> str:
    with pytest.raises(ValueError, match=r"^(root: |channels must be )") as caught:
        load(tree, channels=channels)
    return str(caught.value)


def test_a_missing_folder(tmp_path):
    assert refused(tmp_path / "nowhere") == f"root: no folder {tmp_path}/nowhere/train; {EXPECTED}"


def test_a_folder_without_classes(tree):
    for name in ("ant", "bee"):
        (tree / "test" / name).rename(tree / name)
    assert refused(tree) == f"root: no class folders in {tree}/test; {EXPECTED}"


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("test", "train")])
def test_different_classes(tree, part, other):
    (tree / part / "cat").mkdir()
    line = f"root: train and test must have the same class folders, and {other} has no cat"
    assert refused(tree) == line


def test_a_class_without_images(tree):
    for part in ("train", "test"):
        (tree / part / "cat").mkdir()
    assert refused(tree) == f"root: no images in {tree}/train/cat; {EXPECTED}"


def test_two_channels(tree):
    assert refused(tree, channels=2) == "channels must be 1 (grey) or 3 (RGB), got 2"


@pytest.mark.parametrize("size", [10, 300])
def test_an_image_that_cannot_be_decoded(tree, size):
    image = tree / "test/ant/0.jpg"
    image.write_bytes(image.read_bytes()[:size])
    assert refused(tree).startswith(f"root: {image} cannot be decoded (")
    assert not list((tree.parent).glob("cache/*"))


def test_a_tree_is_known_by_its_names_and_bytes(tree, tmp_path):
    before = fingerprint(tree)
    moved = tree.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == before

    first, second = sorted((moved / "train" / "ant").glob("*.png"))[:2]
    data = bytearray(first.read_bytes())
    data[-20] ^= 1  # the same size
    first.write_bytes(data)
    assert fingerprint(moved) != before
    data[-20] ^= 1
    first.write_bytes(data)
    assert fingerprint(moved) == before
    second.rename(second.with_name("other.png"))
    assert fingerprint(moved) != before


def test_the_state_of_a_tree_is_that_of_its_files_and_names_the_decoded_ones(tree):
    """Written out: another state would decode all trees again."""
    digest = hashlib.sha256(str(tree).encode())
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            for file in sorted((tree / part / name).iterdir()):
                stat = file.stat()
                facts = (str(file), label, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                digest.update(repr(facts).encode())
    assert ImageTree(str(tree)).state == digest.hexdigest()
    keeping = Keeping.of(16, 3)
    assert load(tree).folder == tree.parent / f"cache/imagefolder-{keeping.key(digest.hexdigest()[:16])}"


# What is in a file


def only_image(tree: Path, image: Any, name: str = "0.png", channels: int = 1, **options: Any) -> torch.Tensor:
    """The pixels that are read of an image, the first of its class, (channels, 16, 16)."""
    for old in (tree / "train/ant").iterdir():
        old.unlink()
    image.save(tree / "train/ant" / name, **options)
    return load(tree, channels=channels).train.inputs[0]


@pytest.mark.parametrize("name", ["0.png", "0.tif", "0.pgm"])
def test_sixteen_bits_are_scaled_to_eight(tree, name, caplog):
    """Each value v of 65536 becomes the 8-bit number next to v / 257; Pillow's own conversion cuts off at 255."""
    caplog.set_level("INFO")
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    pixels = only_image(tree, Image.fromarray(values), name)
    assert pixels.flatten().tolist() == list(range(256))
    said = f"1 images of 16 bits, such as {tree}/train/ant/{name}, are scaled to 8: 65535 is white"
    assert [line for line in caplog.messages if "16 bits" in line] == [said]


def test_the_order_of_bytes_does_not_matter(tree):
    values = np.linspace(0, 65535, 256).round().astype(">u2").reshape(16, 16)
    pixels = only_image(tree, Image.frombytes("I;16B", (16, 16), values.tobytes()), "0.tif")
    assert pixels.flatten().tolist() == list(range(256))


def test_a_palette_can_be_half_transparent(tree):
    image = Image.new("P", (16, 16), 1)
    image.paste(0, (0, 0, 8, 16))
    image.putpalette([10, 250, 30, 200, 100, 50])
    pixels = only_image(tree, image, channels=3, transparency=bytes([0, 128]))
    assert not pixels[:, :, :8].any()
    assert pixels[:, 0, 8].tolist() == [100, 50, 25]


def test_a_copy_with_eight_bits_is_the_same_image(tree):
    eight = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    plain = only_image(tree, Image.fromarray(eight)).clone()
    assert torch.equal(only_image(tree, Image.fromarray(eight.astype(np.uint16) * 257)), plain)


@pytest.mark.parametrize(("values", "why"), [
    (np.full((16, 16), 0.5, np.float32), "floating-point pixels have no range"),
    (np.full((16, 16), 70_000, np.int32), "signed or 32-bit pixels have no range of their own"),
    (np.full((16, 16), -1, np.int32), "signed or 32-bit pixels have no range of their own"),
    (np.full((16, 16), -1, np.int16), "signed or 32-bit pixels have no range of their own"),
])  # fmt: skip
def test_pixels_whose_range_nobody_knows_are_refused(tree, values, why):
    with pytest.raises(ValueError, match=rf"^root: {tree}/train/ant/0.tif cannot be decoded \({why}"):
        only_image(tree, Image.fromarray(values), "0.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_black_whatever_colour_they_hide(tree, mode):
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    image.paste((10, 250, 30, 0), (0, 0, 8, 16))
    if mode == "P":
        image = Image.new("P", (16, 16), 1)
        image.paste(0, (0, 0, 8, 16))
        image.putpalette([10, 250, 30, 200, 100, 50])
        image.info["transparency"] = 0
    else:
        image = image.convert(mode)
    pixels = only_image(tree, image, channels=3)
    assert not pixels[:, :, :8].any()
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    expected = [grey] * 3 if mode == "LA" else [200, 100, 50]
    assert pixels[:, :, 8:].flatten(1).unique(dim=1).flatten().tolist() == expected


def test_half_transparent_pixels_are_blended_with_black(tree):
    pixels = only_image(tree, Image.new("RGBA", (16, 16), (200, 100, 50, 51)), channels=3)
    assert pixels[:, 0, 0].tolist() == [40, 20, 10]


@pytest.mark.parametrize(("orientation", "turned"), [
    (1, lambda x: x), (2, lambda x: x.flip(-1)), (3, lambda x: x.flip(-1, -2)), (4, lambda x: x.flip(-2)),
    (5, lambda x: x.mT), (6, lambda x: x.rot90(-1, (-2, -1))), (7, lambda x: x.mT.flip(-1, -2)),
    (8, lambda x: x.rot90(1, (-2, -1))),
])  # fmt: skip
def test_the_orientation_of_exif_is_applied(tree, orientation, turned):
    values = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = only_image(tree, Image.fromarray(values), exif=exif)
    assert torch.equal(pixels, turned(torch.from_numpy(values)[None]))


def test_an_image_too_large_for_pillow_is_named(tree, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    line = refused(tree)
    assert re.match(rf"root: {tree}/train/\w+/\d\.\w+ cannot be decoded \(Image size", line)


# What is in a folder


def left_out(caplog: pytest.LogCaptureFixture, tree: Path) -> str:
    """What the one line about the training images says of what was left out."""
    [line] = [line for line in caplog.messages if line.startswith(f"{tree}/train: ")]
    return line.removeprefix(f"{tree}/train: ").partition("; images are ")[0]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "._x"])
def test_hidden_folders_are_no_classes_and_hidden_files_no_images(tree, caplog, name):
    caplog.set_level("INFO")
    first = load(tree)
    for part in ("train", "test"):
        (tree / part / name).mkdir()
        (tree / part / name / "0.jpg").write_bytes((tree / part / "ant" / "0.jpg").read_bytes())
    inside = tree / "train/ant" / name
    inside.mkdir()
    (inside / "0.jpg").write_bytes((tree / "train/ant/0.jpg").read_bytes())
    (tree / "train/bee/._3.png").write_bytes(b"what macOS leaves behind")
    caplog.clear()
    assert same(load(tree), first)
    assert left_out(caplog, tree) == "left out: 2 hidden"


def test_other_files_are_counted_by_their_extension(tree, caplog):
    caplog.set_level("INFO")
    for name in ("a.gif", "b.GIF", "c.avif", "d.jfif", "notes.txt", "README"):
        (tree / "train/ant" / name).write_bytes(b"")
    load(tree)
    counts = "1 .avif, 2 .gif, 1 .jfif, 1 .txt, 1 without an extension"
    assert left_out(caplog, tree) == f"left out: {counts}"
    assert not any(line.startswith(f"{tree}/test: ") for line in caplog.messages)


def test_links_lead_to_each_file_once(tree, caplog):
    caplog.set_level("INFO")
    first = load(tree)
    ant = tree / "train/ant"
    (ant / "loop").symlink_to(ant, target_is_directory=True)
    (ant / "more").mkdir()
    (ant / "more" / "up").symlink_to(tree / "train/ant", target_is_directory=True)
    (ant / "z.jpg").symlink_to(ant / "0.jpg")
    (ant / "zz.jpg").hardlink_to(ant / "0.jpg")
    caplog.clear()
    assert same(load(tree), first)
    counts = "2 another name of the same file, 2 another name of the same folder"
    assert left_out(caplog, tree) == f"left out: {counts}"


def test_a_tree_of_links_to_a_store_is_a_tree(tree, tmp_path):
    first = load(tree)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / "links" / part / name).mkdir(parents=True)
            for file in (tree / part / name).iterdir():
                (tmp_path / "links" / part / name / file.name).symlink_to(file)
    assert same(load(tmp_path / "links"), first)


def test_a_link_to_nothing_is_named(tree):
    (tree / "train/bee/9.jpg").symlink_to(tree / "nowhere.jpg")
    line = f"root: {tree}/train/bee/9.jpg cannot be read (No such file or directory)"
    assert refused(tree) == line


def test_a_pipe_is_not_waited_for(tree, caplog):
    caplog.set_level("INFO")
    os.mkfifo(tree / "train/bee/9.jpg")
    assert len(load(tree).train.targets) == 14
    assert left_out(caplog, tree) == "left out: 1 no file"


def test_one_class_is_refused(tree):
    for part in ("train", "test"):
        shutil.rmtree(tree / part / "bee")
    assert refused(tree) == "root: there must be two class folders or more, and ant is the only one"


def test_images_of_test_that_are_in_train_are_counted(tree, caplog):
    fingerprint(tree)
    assert not [line for line in caplog.messages if "in train too" in line]
    for name in ("0.jpg", "9.jpg"):
        (tree / "test/ant" / name).write_bytes((tree / "train/bee/3.jpg").read_bytes())
    fingerprint(tree)
    [line] = [line for line in caplog.messages if "in train too" in line]
    assert line == f"{tree}: images of test that are in train too, byte by byte: 2 of 5"


# Validation


def add_validation(tree: Path, name: str = "val") -> Path:
    """One image of each class, which are not in the other parts."""
    for value, each in enumerate(("ant", "bee")):
        (tree / name / each).mkdir(parents=True)
        Image.new("L", (16, 16), 100 + value).save(tree / name / each / "0.png")
    return tree / name


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_for_validation_is_used(tree, name, caplog):
    caplog.set_level("INFO")
    plain = load(tree)
    folder = add_validation(tree, name)
    source = load(tree, val_size=None)
    assert same(source, plain)
    assert source.val is not None
    assert source.val.inputs.flatten(1).unique(dim=1).flatten().tolist() == [100, 101]
    assert source.val.targets.tolist() == [0, 1]
    assert f"{folder}: its images are for validation, and none are cut from train" in caplog.messages
    train, val, _ = split(source, val_size=None, train_size=4, seed=0)
    assert val is source.val
    assert torch.equal(train.targets, split(plain, val_size=0, train_size=4, seed=0)[0].targets)


def test_a_number_of_images_leaves_the_folder_alone(tree, caplog):
    folder = add_validation(tree)
    assert load(tree, val_size=4).val is None
    line = f"{folder} is not used, since val_size=4; val_size=null uses it"
    assert line in caplog.messages


def test_only_one_folder_is_for_validation(tree):
    add_validation(tree, "valid")
    add_validation(tree)
    line = "^root: one folder at most may be for validation, and there are val and valid$"
    with pytest.raises(ValueError, match=line):
        load(tree, val_size=None)


def test_a_folder_for_validation_must_fit(tree):
    folder = add_validation(tree)
    (folder / "bee").rename(folder / "wasp")
    with pytest.raises(ValueError, match="train and val must have the same class folders, and val has no bee"):
        ImageTree(str(tree), None)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ValueError, match=f"no class folders in {folder}; expected"):
        ImageTree(str(tree), None)
    assert ImageTree(str(tree), 4).class_names == ("ant", "bee")


def test_the_folder_for_validation_is_part_of_what_a_tree_is(tree, caplog):
    before = fingerprint(tree, None)
    folder = add_validation(tree)
    assert fingerprint(tree, 4) == before
    with_val = fingerprint(tree, None)
    assert with_val != before
    shutil.copy(tree / "train/ant/0.jpg", folder / "ant")
    shutil.copy(folder / "bee/0.png", tree / "test/bee/9.png")
    assert fingerprint(tree, None) != with_val
    assert [line.partition(": ")[2] for line in caplog.messages if "byte by byte" in line] == [
        "images of val that are in train too, byte by byte: 1 of 3",
        "images of test that are in val too, byte by byte: 1 of 5",
    ]


def test_a_tree_without_one_has_its_validation_cut_from_train(compose, tree):
    words = ("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16")
    assert compose(*words).dataset.values["val_size"] == 1000
    assert compose(*words).run_id == compose(*words, "dataset.val_size=1000").run_id
    explicit = compose(*words, "dataset.val_size=4").run_id
    add_validation(tree)
    examined.cache_clear()
    own = compose(*words)
    assert own.dataset.values["val_size"] is None
    assert len(build.load_data(own).val.targets) == 2
    assert compose(*words, "dataset.val_size=4").run_id == explicit


def test_other_data_have_no_validation_part(compose):
    with pytest.raises(ConfigError) as caught:
        build.load_data(compose("dataset.val_size=null"))
    assert str(caught.value) == "dataset.val_size=null: must be an integer >= 0: the data have no validation part"


# Files that cannot be used


def damage(tree: Path) -> list[Path]:
    """One file in each part, and a link to nothing."""
    files = [tree / "train/ant/0.jpg", tree / "test/ant/0.jpg", tree / "val/ant/1.png", tree / "train/bee/9.jpg"]
    for file, content in zip(files, (b"", files[1].read_bytes()[:300], b"GIF89a"), strict=False):
        file.write_bytes(content)
    files[3].symlink_to("nowhere")
    return files


def test_bad_files_can_be_skipped(tree, caplog):
    add_validation(tree)
    whole = load(tree, val_size=None)
    files = damage(tree)
    for _ in ("decoded", "from the cache"):
        caplog.clear()
        source = load(tree, val_size=None, on_error="skip")
        assert torch.equal(source.train.gathered(), whole.train.inputs[1:])
        assert source.train.inputs.is_contiguous(memory_format=torch.channels_last)
        assert source.train.targets.tolist() == [0] * 6 + [1] * 7
        assert torch.equal(source.test.gathered(), whole.test.inputs[1:])
        assert source.test.targets.tolist() == [0, 1, 1]
        assert same(Source(source.val, source.val, ()), Source(whole.val, whole.val, ()))
        assert source.skipped == tuple(sorted(str(file.relative_to(tree)) for file in files))
        [line] = [line for line in caplog.messages if "skipped" in line]
        assert line.startswith(f"{tree}: 4 files are skipped: {files[1]} cannot be decoded (")
        assert f"; {files[3]} cannot be read (No such file or directory); and 1 more" in line
    with pytest.raises(ValueError, match="cannot be read"):
        load(tree, val_size=None)
    files[3].unlink()
    with pytest.raises(ValueError, match=f"{files[0]} cannot be decoded"):
        load(tree, val_size=None)
    load(tree, val_size=None, on_error="skip")
    with pytest.raises(ValueError, match=r"cannot be decoded"):  # of the cache, too
        load(tree, val_size=None)


def test_a_class_of_bad_files_is_refused(tree):
    for file in (tree / "test/bee").iterdir():
        file.write_bytes(b"")
    start = f"^root: no image of {tree}/test/bee can be used: 2 files are skipped: {tree}/test/bee/0"
    with pytest.raises(ValueError, match=start):
        load(tree, on_error="skip")
    for file in (tree / "test/bee").iterdir():
        file.unlink()
    (tree / "test/bee/0.jpg").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"no images in .*/test/bee; .*: 1 files are skipped: .*0\.jpg cannot"):
        load(tree, on_error="skip")


def test_skipping_is_part_of_the_identity(compose, tree):
    words = ("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4")
    plain = compose(*words)
    assert compose(*words, "dataset.on_error=fail").run_id == plain.run_id
    assert compose(*words, "dataset.on_error=skip").run_id != plain.run_id
    with pytest.raises(ConfigError) as caught:
        compose(*words, "dataset.on_error=ignore")
    assert str(caught.value) == "dataset.on_error=ignore: must be one of fail, skip"


def test_skipped_files_are_in_the_result(train, tree):
    (tree / "train/bee/7.jpg").write_bytes(b"")
    words = f"dataset=imagefolder dataset.root={tree} dataset.image_size=16 dataset.val_size=4 trainer.epochs=1"
    code, _, err = train(*words.split())
    assert code == 1
    assert "7.jpg cannot be decoded" in err
    code, out, err = train(*words.split(), "dataset.on_error=skip")
    assert (code, err) == (0, "")
    assert f"{tree}: 1 files are skipped: {tree}/train/bee/7.jpg cannot be decoded (" in out
    results = [json.loads(file.read_text()) for file in Path("outputs/runs").glob("*/result.json")]
    assert [each["skipped_files"] for each in results if each["status"] == "completed"] == [["train/bee/7.jpg"]]


@pytest.mark.parametrize(("name", "damaged"), [("bmp", slice(14, 18)), ("tif", slice(4, 8)), ("png", slice(16, 24))])
def test_a_damaged_header_is_named(tree, name, damaged):
    file = tree / f"train/bee/7.{name}"
    Image.new("RGB", (16, 16)).save(file)
    content = bytearray(file.read_bytes())
    content[damaged] = b"\xff" * (damaged.stop - damaged.start)
    file.write_bytes(content)
    line = refused(tree)
    assert line.startswith(f"root: {file} cannot be decoded (")
    assert "\n" not in line


def test_a_class_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    """As the system refuses it; root may read everything."""
    scan, closed = os.scandir, tree / "train/bee"

    def scandir(place):
        if Path(place) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refused(tree) == f"root: {closed} cannot be read (Permission denied)"


@pytest.mark.parametrize(("size", "resize"), [((12, 20), None), ((20, 12), None), ((12, 20), 18), ([16, 16], None)])
@pytest.mark.parametrize("channels", [1, 3])
def test_rectangles_are_filled_as_torchvision_would(tree, size, resize, channels):
    """Where the image is wider than the frame, its height fills it, else its width."""
    source = imagefolder(str(tree), size, channels, str(tree.parent / "cache"), 0, resize=resize)
    assert source.train.inputs.shape == (14, channels, *size)
    assert source.train.inputs.is_contiguous(memory_format=torch.channels_last)
    height, width = ((resize or min(size)) * side // min(size) for side in size)

    def theirs(image: Image.Image) -> torch.Tensor:
        wide = image.width / image.height >= width / height
        large = (height, int(height * image.width / image.height)), (int(width * image.height / image.width), width)
        resized = transforms.Resize(large[0] if wide else large[1], antialias=True)(image)
        return transforms.PILToTensor()(transforms.CenterCrop(size)(resized))

    grey = [transforms.Grayscale()] if channels == 1 else []
    expected = ImageFolder(tree / "train", transform=transforms.Compose([*grey, theirs]))
    assert torch.equal(source.train.inputs, torch.stack([image for image, _ in expected]))


def test_both_ways_to_write_a_square_share_their_decoded_files(tree):
    first = load(tree)
    assert same(imagefolder(str(tree), [16, 16], 3, str(tree.parent / "cache"), 0), first)
    assert len(list((tree.parent / "cache").iterdir())) == 1
    imagefolder(str(tree), [16, 17], 3, str(tree.parent / "cache"), 0)
    assert len(list((tree.parent / "cache").iterdir())) == 2
