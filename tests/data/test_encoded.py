"""Images that are decoded by the batch: the pixels of a decoded data set, and random parts as torchvision has them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms import functional

from tests.data.test_imagefolder import write_tree
from vicinal.data import Loader, inputs
from vicinal.data.encoded import EncodedImages, RandomResizedCrop
from vicinal.data.imagefolder import imagefolder
from vicinal.data.samples import Samples
from vicinal.errors import UserError
from vicinal.tracking.run_files import TIME_FIELDS

CPU = torch.device("cpu")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree")


def load(tree: Path, size: Any = 16, channels: int = 3, **more: Any) -> Any:
    return imagefolder(str(tree), size, channels, str(tree.parent / "cache"), 0, **more)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [16, [12, 20]])
def test_encoded_images_have_the_pixels_of_decoded_ones(tree, channels, threads, size):
    decoded = load(tree, size, channels=channels, keep="decoded")
    encoded = load(tree, size, channels=channels, keep="encoded", workers=threads)
    assert isinstance(encoded.train.inputs, EncodedImages)
    assert encoded.train.inputs.shape == decoded.train.inputs.shape
    order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoded.train.choose(order).gathered(), decoded.train.choose(order).gathered())
    assert torch.equal(encoded.test.gathered(), decoded.test.gathered())
    assert torch.equal(encoded.test.targets, decoded.test.targets)


@pytest.mark.parametrize("keep", ["decoded", "encoded"])
def test_the_shorter_side_may_be_longer_than_the_image(tree, keep):
    steps = [transforms.Resize(20, antialias=True), transforms.CenterCrop(16), transforms.PILToTensor()]
    source = load(tree, resize=20, keep=keep)
    for label, name in enumerate(("ant", "bee")):
        for place, file in enumerate(sorted((tree / "test" / name).iterdir())):
            image = Image.open(file)
            if image.has_transparency_data:  # tested with the decoder
                continue
            expected = transforms.Compose(steps)(image.convert("RGB"))
            assert torch.equal(source.test.choose(torch.tensor([2 * label + place])).gathered()[0], expected)
    with pytest.raises(ValueError, match=r"^resize must be null or at least image_size, 16, got 15"):
        load(tree, resize=15)
    with pytest.raises(ValueError, match=r"^resize must be null or at least image_size, 16, got 15"):
        load(tree, [24, 16], resize=15)


# Random parts


@pytest.mark.parametrize("size", [(40, 40), (90, 30), (17, 200)])
def test_random_parts_are_distributed_as_torchvisions(size):
    """Left, top, width and height of 4,000 parts each, by the two-sample test of Kolmogorov and Smirnov."""
    crop, count = RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3)), 4000
    ours = [crop.window(size, own) for own in crop.sample(count, seed=1).tolist()]
    image = Image.new("L", size)
    torch.manual_seed(2)
    given = ([0.08, 1.0], [3 / 4, 4 / 3])
    theirs = [transforms.RandomResizedCrop.get_params(image, *given) for _ in range(count)]
    boxes = np.array([(left, top, left + width, top + height) for top, left, height, width in theirs])
    for mine, torchvisions in zip(np.array(ours).T, boxes.T, strict=True):
        assert ks_2samp(mine, torchvisions, method="asymp").pvalue > 0.001


def test_the_first_part_that_fits_is_taken_and_its_place_is_the_last_two_numbers():
    crop = RandomResizedCrop((0.25, 1.0), (0.5, 2.0))
    numbers = [0.0] * 22
    numbers[:2], numbers[10:12] = (
        [1.0, 0.0],
        [1.0, 0.5],
    )  # 2 : 1 does not fit, a square quarter does
    numbers[20:] = [0.5, 0.999999]
    assert crop.window((100, 100), numbers) == (50, 25, 100, 75)


def test_where_no_part_fits_the_centre_is_taken():
    crop = RandomResizedCrop((1.0, 1.0), (1.0, 1.0))
    assert crop.window((100, 20), [0.5] * 22) == (40, 0, 60, 20)
    assert crop.window((21, 100), [0.5] * 22) == (0, 39, 21, 60)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_a_part_is_resized_as_torchvision_does(tree, size):
    crop = RandomResizedCrop()
    images: Any = load(tree, size, keep="encoded").train.inputs
    rows = torch.tensor([2, 0, 7])
    batch = torch.empty(3, 3, *size, dtype=torch.uint8, memory_format=torch.channels_last)
    images.read(rows, batch, crop, seed=5)
    files = [file for name in ("ant", "bee") for file in sorted((tree / "train" / name).iterdir())]
    for row, own, found in zip(rows.tolist(), crop.sample(3, 5).tolist(), batch, strict=True):
        image = Image.open(files[row])
        assert not image.has_transparency_data
        left, top, right, bottom = crop.window(image.size, own)
        place = (top, left, bottom - top, right - left)
        expected = functional.resized_crop(image.convert("RGB"), *place, [*size], antialias=True)
        assert torch.equal(found, functional.pil_to_tensor(expected))
    other = images.read(rows, torch.empty_like(batch), crop, seed=6)
    assert not torch.equal(other, batch)


def test_an_epoch_of_random_parts_goes_on_where_it_stopped(tree):
    data = load(tree, keep="encoded").train

    def epoch(skip: int = 0, shards: int = 1, own: range = range(1)) -> list[torch.Tensor]:
        own_crop = {"crop": RandomResizedCrop(), "shards": shards, "own": own}
        loader = Loader(data, 4, [0.5] * 3, [0.2] * 3, device=CPU, **own_crop)
        generators = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
        return [inputs.clone() for inputs, _ in loader.epoch(*generators, skip=skip)]

    whole = epoch()
    assert len(whole) == 4
    assert all(map(torch.equal, epoch(skip=2), whole[2:]))
    both = epoch(shards=2, own=range(2))
    assert all(map(torch.equal, epoch(shards=2, own=range(1, 2)), both[1::2]))


# How they are kept


def test_large_data_stay_encoded(tree, monkeypatch, caplog):
    caplog.set_level("INFO")
    assert isinstance(load(tree).train.inputs, torch.Tensor)
    size = 18 * 3 * 17 * 17
    monkeypatch.setattr("vicinal.data.kept_images.usable_memory", lambda: 2 * size)
    assert isinstance(load(tree, size=17).train.inputs, torch.Tensor)
    monkeypatch.setattr("vicinal.data.kept_images.usable_memory", lambda: 2 * (18 * 3 * 18 * 18 - 1))
    assert isinstance(load(tree, size=18).train.inputs, EncodedImages)
    assert "they stay encoded (dataset.keep)" in caplog.messages[-1]
    assert isinstance(load(tree, size=16, crop="resized").train.inputs, EncodedImages)


def test_a_full_disk_is_named_before_anything_is_decoded(tree, monkeypatch):
    monkeypatch.setattr("vicinal.data.row_files.RowFiles.free", lambda files: 5000)
    monkeypatch.setattr("vicinal.data.kept_images.usable_memory", lambda: 20_000)
    line = r"cache_dir: the decoded images cannot be written there \(0\.0 GB are needed, .* dataset.keep=encoded needs"
    with pytest.raises(ValueError, match=line):
        load(tree, keep="decoded")
    monkeypatch.setattr("vicinal.data.kept_images.usable_memory", lambda: 1e9)
    assert load(tree, keep="decoded").train.inputs.shape == (14, 3, 16, 16)  # in memory, with a warning


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "dataset.crop=resized dataset.keep=decoded",
            "dataset.keep=decoded: must be auto or encoded with dataset.",
        ),
        ("dataset.keep=encoded dataset.on_error=skip", "dataset.on_error=skip: must be fail where images stay encoded"),
        ("dataset.keep=both", "dataset.keep=both: must be one of auto, decoded, encoded"),
        ("dataset.decoder=libjpeg", "dataset.decoder=libjpeg: must be one of pillow, torchcodec"),
        ("dataset.workers=0", "dataset.workers=0: must be auto or an integer in [1, 1024]"),
        ("dataset.resize=8", "dataset.resize=8: must be null or at least image_size, 16"),
        ("dataset.crop=resized dataset.crop_scale=[.5,.1]", "dataset.crop_scale=[0.5,0.1]: must be [least, largest]"),
        ("dataset.crop_ratio=[0,1]", "dataset.crop_ratio=[0,1]: each must be a finite number in (0, 1000000]"),
    ],
)
def test_keys_that_contradict_each_other(compose, tree, words, line):
    """They are refused before a file is decoded."""
    given = ("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4")
    with pytest.raises(UserError) as caught:
        compose(*given, *words.split())
    assert str(caught.value).startswith(line)


def test_large_images_cannot_be_skipped(tree, monkeypatch):
    monkeypatch.setattr("vicinal.data.kept_images.usable_memory", lambda: 0)
    with pytest.raises(ValueError, match=r"^on_error must be fail where images stay encoded"):
        load(tree, keep="auto", on_error="skip")


def test_resize_of_the_image_size_is_no_other_run(compose, tree):
    given = ("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4")
    ids = [compose(*given, f"dataset.resize={resize}").run_id for resize in ("null", 16, 17)]
    assert ids[0] == ids[1] != ids[2]


def test_mean_and_std_are_computed_once(tree, monkeypatch):
    data = load(tree, keep="encoded")
    images = inputs.Images(3, 16)
    first = inputs.checked_statistics(images, data.train, None, None, data.folder)
    decoded = load(tree, keep="decoded").train
    assert first == images.statistics(decoded)
    monkeypatch.setattr(inputs.Images, "statistics", lambda *_: pytest.fail("computed again"))
    assert inputs.checked_statistics(images, data.train, None, None, data.folder) == first
    [kept] = data.folder.glob("statistics-*.json")
    monkeypatch.undo()
    for damaged in ("{", kept.read_text().replace("0.", "0.1", 1), "[[], 0]"):
        kept.write_text(damaged)
        assert inputs.checked_statistics(images, data.train, None, None, data.folder) == first
    some = Samples(data.train.inputs, data.train.targets[:3], torch.tensor([0, 5, 9]))
    assert inputs.checked_statistics(images, some, None, None, data.folder) != first
    assert len(list(data.folder.glob("statistics-*.json"))) == 2


def test_a_file_that_is_damaged_later_is_named(tree):
    data = load(tree, keep="encoded").train
    bad = sorted((tree / "train/bee").iterdir())[0]
    bad.write_bytes(bad.read_bytes()[:30])
    with pytest.raises(UserError, match=rf"^{bad} cannot be decoded \("):
        data.gathered()


# Runs


def rows_of(folder: Path) -> list[dict[str, Any]]:
    [file] = folder.glob("outputs/runs/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in TIME_FIELDS} for row in rows]


def test_a_run_has_the_same_rows_however_its_images_are_kept(train, tree, tmp_path):
    words = (
        *("dataset=imagefolder", f"dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4"),
        *("dataset.crop_padding=2", "model=cnn", "trainer.epochs=2", "trainer.batch_size=4"),
        *("trainer.precision=fp32", "trainer.threads=1"),
    )
    found = []
    for keep, workers, decoder in (
        ("decoded", 1, "pillow"),
        ("encoded", 1, "pillow"),
        ("encoded", 4, "pillow"),
        ("encoded", 2, "torchcodec"),
    ):
        own = (f"dataset.keep={keep}", f"dataset.workers={workers}", f"dataset.decoder={decoder}")
        code, _, err = train(*words, *own, "rerun=true")
        assert code == 0, err
        found.append(rows_of(tmp_path))
    assert math.isfinite(found[0][-1]["train/loss"])
    assert found[0] == found[1] == found[2] == found[3]
    code, _, err = train(*words, "dataset.crop=resized", "output_dir=parts/outputs")
    assert code == 0, err
    assert rows_of(tmp_path / "parts") != found[0]
