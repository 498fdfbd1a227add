"""Folders of images and masks: layouts, pixels against PIL and torchvision, and what is refused in one line."""

import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms

from vicinal.build import load_data
from vicinal.data import Source
from vicinal.data.segmentation import IGNORE, dsb2018, masks
from vicinal.errors import UserError

REPO = Path(__file__).parents[2]
NAMES = ("a", "b", "c", "d")
CONFIG = ("dataset=masks", "model.width=2", "model.depth=2", "dataset.image_size=8", "dataset.val_size=0")


def save(file: Path, pixels: Any, palette: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    if palette:
        image = image.convert("P")
        image.putdata(np.asarray(pixels).flatten().tolist())
        image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10] + [7] * 759)
    image.save(file)


def pair(place: Path, name: str, seed: int, size: tuple[int, int] = (8, 8), **options: Any) -> None:
    """An image (RGB) and a mask of the classes 0 to 2 and 255."""
    rng = np.random.default_rng(seed)
    save(place / "images" / f"{name}.jpg", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    save(place / "masks" / f"{name}.png", rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), size), **options)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        pair(tmp_path / "tree/train", name, seed)
        pair(tmp_path / "tree/test", name, 10 + seed)
    return tmp_path / "tree"


def load(folder: Path, size: Any = 8, **options: Any) -> Source:
    keys: dict[str, Any] = {"channels": 3, "classes": 3, "val_size": None, **options}
    return masks(str(folder), size, cache_dir=str(folder.parent / "cache"), **keys)


def mask_of(place: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(place / "masks" / f"{name}.png")))


def test_folders_and_lists_hold_the_same(tree: Path, tmp_path: Path) -> None:
    source = load(tree)
    assert source.class_names == ("class 0", "class 1", "class 2")
    assert source.val is None
    assert torch.equal(source.train.targets, torch.stack([mask_of(tree / "train", name) for name in NAMES]))
    pixels = np.stack([np.asarray(Image.open(tree / "test/images" / f"{name}.jpg")) for name in NAMES])
    assert np.array_equal(source.test.inputs.permute(0, 2, 3, 1), pixels)
    flat = tmp_path / "flat"
    for part in ("train", "test"):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            (flat / kind).mkdir(parents=True, exist_ok=True)
            for name in NAMES:
                shutil.copy(tree / part / kind / f"{name}.{ending}", flat / kind / f"{part}-{name}.{ending}")
        (flat / f"{part}.txt").write_text("".join(f"{part}-{name}.jpg\n" for name in NAMES))
    listed = load(flat)
    for ours, theirs in zip(listed[:2], source[:2], strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_a_part_for_validation_is_used_where_none_is_cut(tree: Path) -> None:
    pair(tree / "valid", "e", 20)
    source = load(tree)
    assert source.val is not None
    assert torch.equal(source.val.targets[0], mask_of(tree / "valid", "e"))
    assert load(tree, val_size=1).val is None


def test_masks_are_resized_to_the_nearest_pixel(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pair(tmp_path / part, "a", 3, (20, 30), palette=True)
    source = load(tmp_path, size=10)
    mask = mask_of(tmp_path / "train", "a")
    nearest = transforms.InterpolationMode.NEAREST_EXACT
    resized = transforms.functional.resize(mask[None], [10, 15], interpolation=nearest)[0]
    assert torch.equal(source.train.targets[0], resized[:, 2:12])
    image = Image.open(tmp_path / "train/images/a.jpg")
    expected = transforms.functional.center_crop(transforms.functional.resize(image, [10]), [10])
    assert np.array_equal(source.train.inputs[0].permute(1, 2, 0), np.asarray(expected))


def test_values_say_which_pixels_have_a_class(tree: Path) -> None:
    found = load(tree, classes=4, values=[1, 0, IGNORE, 2], ignore=None).train.targets
    given = load(tree).train.targets
    for label, value in enumerate((1, 0, IGNORE, 2)):
        assert torch.equal(found == label, given == value)
    assert load(tree, classes=None, names=["sky", "sea", "cat"]).class_names == ("sky", "sea", "cat")


def few_bits(file: Path, numbers: Any, bits: int) -> None:
    """Write grey PNG of 1, 2 or 4 bits a pixel, which PIL cannot: eight pixels or less to a byte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = np.asarray(numbers, np.uint8)
    digits = np.unpackbits(rows[..., None], axis=2)[..., -bits:].reshape(len(rows), -1)
    lines = b"".join(b"\0" + line.tobytes() for line in np.packbits(digits, axis=1))
    header = struct.pack(">IIBBBBB", rows.shape[1], len(rows), bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_are_read_by_value(tree: Path, bits: int) -> None:
    numbers = np.arange(64).reshape(8, 8) % 2**bits
    for part in ("train", "test"):
        for name in NAMES:
            few_bits(tree / part / "masks" / f"{name}.png", numbers, bits)
    shades = np.asarray(Image.open(tree / "train/masks/a.png").convert("L"))  # as pictures they are black to white
    assert np.array_equal(shades, numbers * 255 // (2**bits - 1))
    source = load(tree, classes=2**bits)
    for targets in (source.train.targets, source.test.targets):
        assert torch.equal(targets, torch.from_numpy(numbers).to(torch.uint8).expand(4, -1, -1))


def test_lists_may_begin_with_a_byte_order_mark(tree: Path) -> None:
    lists(train="\ufeffa.jpg\r\nb\r\n", test="\ufeffc\nd\n")(tree)
    expected = [mask_of(tree / "train", name) for name in NAMES]
    source = load(tree)
    assert torch.equal(torch.cat([source.train.targets, source.test.targets]), torch.stack(expected))


def test_images_of_two_parts_are_counted(
    tree: Path, compose: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(tree / "train/images/a.jpg", tree / "test/images/b.jpg")
    for width in (2, 3):
        compose(*CONFIG, f"model.width={width}", f"dataset.folder={tree}", "dataset.classes=3")
    lines = [record.getMessage() for record in caplog.records if "byte by byte" in record.getMessage()]
    assert lines == [f"{tree}: images of test that are in train too, byte by byte: 1 of 4"]


def test_ignore_is_no_part_of_the_identity_where_a_class_has_its_value(tree: Path, compose: Callable[..., Any]) -> None:
    words = (*CONFIG, f"dataset.folder={tree}", "dataset.classes=4", "dataset.values=[0,1,2,255]")
    assert compose(*words, "dataset.ignore=null").cell_id == compose(*words).cell_id
    assert compose(*words, "dataset.ignore=7").cell_id != compose(*words).cell_id


def test_instances_are_a_second_map(tree: Path) -> None:
    for part in ("train", "test"):
        for seed, name in enumerate(NAMES):
            numbers = np.random.default_rng(seed).integers(0, 300, (8, 8), dtype=np.uint16)
            save(tree / part / "instances" / f"{name}.png", numbers)
    source = load(tree, instances=True)
    assert source.train.targets.shape == (4, 2, 8, 8)
    assert torch.equal(source.train.targets[:, 0], load(tree).train.targets.long())
    first = np.random.default_rng(0).integers(0, 300, (8, 8), dtype=np.uint16)
    assert np.array_equal(source.train.targets[0, 1], first)


def test_the_identity_is_the_content(tree: Path, tmp_path: Path, compose: Callable[..., Any]) -> None:
    def cell(folder: Path) -> str:
        words = (f"dataset.folder={folder}", "dataset.classes=3", f"output_dir={tmp_path}/out")
        return str(compose(*CONFIG, *words).cell_id)

    before = cell(tree)
    assert cell(Path(shutil.copytree(tree, tmp_path / "elsewhere"))) == before
    mask = mask_of(tree / "train", "a").numpy()
    mask[0, 0] = 1 - mask[0, 0] % 2
    save(tree / "train/masks/a.png", mask)
    assert cell(tree) != before


def without(file: str) -> Callable[[Path], Any]:
    return lambda tree: (tree / file).unlink()


def rewritten(file: str, pixels: Any) -> Callable[[Path], None]:
    return lambda tree: save(tree / file, pixels)


def written(file: str, content: bytes) -> Callable[[Path], Any]:
    return lambda tree: (tree / file).write_bytes(content)


def lists(**names: str) -> Callable[[Path], None]:
    def write(tree: Path) -> None:
        for part in ("images", "masks"):
            shutil.copytree(tree / "train" / part, tree / part)
        for part, listed in names.items():
            (tree / f"{part}.txt").write_text(listed)

    return write


def keep(tree: Path) -> None:
    """The files are right, and the words are not."""


ZEROS = np.zeros((8, 8), np.uint8)
WRONG: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    "no mask": (without("train/masks/b.png"), (), r"dataset.folder=.*: .*train/masks has no b, which may end in .png"),
    "no folder": (lambda tree: shutil.rmtree(tree), (), "dataset.folder=.*: must be a folder with images and masks"),
    "no test": (lambda tree: shutil.rmtree(tree / "test"), (), "dataset.folder=.*test/images cannot be read"),
    "no images": (lambda tree: [f.unlink() for f in (tree / "train/images").iterdir()], (), "no images in"),
    "a mask of another size": (
        rewritten("train/masks/c.png", np.zeros((8, 9), np.uint8)), (), "c.png must be of its image's size, 8 x 8"),
    "a pixel that is no class": (
        rewritten("train/masks/c.png", ZEROS + 7), (), "c.png has a pixel of 7, and classes are 0, 1, 2, or 255"),
    "colours": (rewritten("test/masks/a.png", np.zeros((8, 8, 3), np.uint8)), (), "a.png must have one number per"),
    "an unreadable mask": (written("train/masks/d.png", b"no png"), (), "d.png cannot be decoded"),
    "an unreadable image": (written("train/images/d.jpg", b"no jpg"), (), "d.jpg cannot be decoded"),
    "a JPEG mask": (
        lambda tree: (tree / "train/masks/a.png").rename(tree / "train/masks/a.jpg"), (), "has no a, which may end in"),
    "two files": (lambda tree: shutil.copy(tree / "train/masks/a.png", tree / "train/masks/a.bmp"), (),
                  "must have one file of each name, and has a.bmp, a.png"),
    "no number of classes": (keep, ("dataset.classes=null",), "dataset.classes=null: must be an integer >= 2"),
    "names and classes": (keep, ("dataset.names=[a,b]",), "dataset.classes=3: must be 2, as there are names"),
    "values": (keep, ("dataset.values=[0,1]",), r"dataset.values=\[0,1\]: must be 3 numbers, one for each class"),
    "all are ignored": (
        lambda tree: [save(f, ZEROS + IGNORE) for f in (tree / "train/masks").iterdir()], (),
        "dataset.values=null: must give the pixels of train two classes or more, and all are none"),
    "no instances": (keep, ("dataset.instances=true",), "train/instances cannot be read"),
    "a size that does not halve": (keep, ("dataset.image_size=9",), "dataset.image_size=9: must be a multiple of 2"),
    "a network without maps": (keep, ("model=cnn",), r"model.* must return outputs \(2, 3, 8, 8\)"),
    "a loss of another task": (keep, ("trainer.loss=mse",), "trainer.loss=mse: must be one of auto, ce, dice"),
    "a class per sample": (
        keep, ("mixup=cutmix", "mixup.partner=same_class"), "mixup.partner=same_class: must be one without classes"),
    "a policy": (keep, ("dataset.augment=augmix",), "dataset.augment=augmix: must be true or false: a policy"),
    "listed twice": (lists(train="a\nb\n", test="b\nc\n"), (), "b is in train.txt and in test.txt"),
    "listed twice by other endings": (lists(train="a\nb\n", test="b.jpg\n"), (), "b is in train.txt and in test.txt"),
    "listed twice by a path": (lists(train="a\nb\n", test="images/b.jpg\n"), (), "b is in train.txt and in test.txt"),
    "listed twice in a list": (lists(train="a\na.jpg\n", test="b\n"), (), "a is twice in train.txt"),
    "two folders for validation": (
        lambda tree: [(tree / name).mkdir() for name in ("val", "valid")], (),
        "one folder at most may be for validation, and there are val and valid"),
    "a class whose pixels are ignored": (
        keep, ("dataset.ignore=1",), "dataset.ignore=1: must be none of the values of classes, 0, 1, 2"),
    "one name for two classes": (
        keep, ("dataset.classes=null", "dataset.names=[a,b,a]"), r"dataset.names=\[a,b,a\]: must be of 2 to 255"),
    "more classes than numbers": (keep, ("dataset.classes=256",), "dataset.classes=256: must be at most 255"),
    "listed and not there": (lists(train="a\nz\n", test="b\n"), (), "/images has no z"),
    "no list of test": (lists(train="a\n"), (), "test.txt cannot be read .No such file"),
    "three samples at most": (keep, ("dataset.train_size=9",), "dataset.train_size=9: must be null, 4 or from 1 to 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_line_says_what_is_wrong(tree: Path, tmp_path: Path, compose: Callable[..., Any], name: str) -> None:
    damage, words, line = WRONG[name]
    damage(tree)
    given = {"dataset.folder": str(tree), "dataset.classes": "3", "output_dir": str(tmp_path / "out")}
    for word in words:
        given.pop(word.partition("=")[0], None)
    with pytest.raises(UserError, match=line) as refused:
        load_data(compose(*CONFIG, *(f"{key}={value}" for key, value in given.items()), *words))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("out/runs/*"))


def test_strategies_by_maps_need_them(compose: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mixup.*: .*needs maps of classes, 8 x 8 \(dataset.task=segmentation\)"):
        compose("dataset=digits", "mixup=classmix", f"output_dir={tmp_path}")


def test_the_numbers_of_dsb2018(tmp_path: Path) -> None:
    packed = Path(os.environ.get("VICINAL_TEST_DATA", REPO.parent / "shared/datasets")) / "dsb2018-128.tar.xz"
    if not packed.is_file():
        pytest.skip(f"no {packed}; VICINAL_TEST_DATA names another folder")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    source = dsb2018(str(tmp_path / "dsb2018-128"), 128, 1, str(tmp_path / "cache"))
    assert source.train.inputs.shape == (268, 1, 128, 128)
    assert source.test.targets.shape == (66, 2, 128, 128)
    assert source.class_names == ("background", "nucleus")
    for part in source[:2]:
        classes, numbers = part.targets.unbind(1)
        assert torch.equal(classes, (numbers > 0).to(torch.uint8))
    folder = tmp_path / "dsb2018-128"
    for name, numbers in zip((folder / "val.txt").read_text().split(), source.test.targets[:, 1], strict=True):
        assert np.array_equal(numbers, np.asarray(Image.open(folder / f"masks/{name}.png")))


@pytest.mark.parametrize("size", [(6, 10), (10, 6)])
def test_images_and_masks_fill_a_rectangle_alike(tmp_path: Path, size: tuple[int, int]) -> None:
    """Of torchvision: what covers the frame, and the centre of it."""
    for part in ("train", "test"):
        for seed, shape in enumerate([(12, 20), (20, 12), (9, 9), (30, 31)]):
            pair(tmp_path / "tree" / part, str(seed), seed, shape)
    source = load(tmp_path / "tree", size)
    assert source.train.inputs.shape == (4, 3, *size)
    for seed in range(4):
        image = Image.open(tmp_path / f"tree/train/images/{seed}.jpg")
        covering = [size[0], int(size[0] * image.width / image.height)]
        if covering[1] < size[1]:
            covering = [int(size[1] * image.height / image.width), size[1]]
        for found, file, mode in (
            (source.train.inputs[seed], image, transforms.InterpolationMode.BILINEAR),
            (source.train.targets[seed][None], Image.open(tmp_path / f"tree/train/masks/{seed}.png"),
             transforms.InterpolationMode.NEAREST),
        ):  # fmt: skip
            steps = [transforms.Resize(covering, mode, antialias=True), transforms.CenterCrop(size)]
            expected = transforms.Compose([*steps, transforms.PILToTensor()])(file)
            assert torch.equal(found, expected)
