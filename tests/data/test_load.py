"""The numbers in conf/dataset against the data, and how a run's normalisation is settled."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vicinal.data import Samples, Source, channel_statistics, digits, load, torchvision_dataset
from vicinal.tasks import CLASSIFICATION

REPO = Path(__file__).parents[2]
SETS = ["cifar10", "cifar100", "digits", "fashion_mnist", "imagefolder", "mnist", "svhn"]
CONF = sorted(path for path in (REPO / "conf/dataset").glob("*.yaml") if path.stem in SETS)
LOADED = {"_target_", "inputs", "task", "root", "cache_dir", "channels", "image_size", "classes", "mean", "std"}
CUT = {"val_size", "train_size", "split_seed", "imbalance", "imbalance_ratio", "label_noise", "label_noise_kind"}
MADE = {"sampler", "augment", "crop_padding", "crop_fill", "flip", "rotate"}


def config(name: str) -> dict:
    names = (name, "base", "base_any")
    own, base, every = (yaml.safe_load((REPO / "conf/dataset" / f"{each}.yaml").read_text()) for each in names)
    assert own.pop("defaults") == ["base"]
    assert base.pop("defaults") == ["base_any"]
    return {**every, **base, **own}


def random_source(channels: int = 3) -> Source:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, channels, 5, 5), dtype=torch.uint8, generator=generator)
    part = Samples(images, torch.arange(40) % 4)
    return Source(part, part, tuple("abcd"))


OPTIONS = {"val_size": 0, "train_size": None, "split_seed": 0, "mean": None, "std": None}


OF_FOLDERS = ("resize", "keep", "workers", "stage_to", "decoder", "crop", "crop_scale", "crop_ratio")


def test_every_data_set_says_the_same_things_in_the_same_order():
    assert [path.stem for path in CONF] == SETS
    for path in CONF:
        found = config(path.stem)
        assert {key for key in found if key not in ("name", "folder", "on_error", *OF_FOLDERS)} == LOADED | CUT | MADE
        assert ("name" in found) == found["_target_"].endswith("torchvision_dataset")
        for key in ("mean", "std"):
            assert found[key] is None or len(found[key]) == found["channels"]


def test_the_numbers_of_digits():
    source, written = digits(), config("digits")
    mean, std = channel_statistics(source.train)
    assert [round(x, 4) for x in (*mean, *std)] == [*written["mean"], *written["std"]]
    assert source.train.inputs.shape[1:] == (written["channels"], written["image_size"], written["image_size"])
    assert len(source.class_names) == written["classes"]


def test_the_numbers_of_mnist(tmp_path):
    data = Path(os.environ.get("VICINAL_TEST_DATA", REPO.parent / "shared/datasets"))
    packed = sorted((data / "MNIST/raw").glob("*.gz"))
    if len(packed) != 4:
        pytest.skip(f"no MNIST/raw/*.gz under {data}; VICINAL_TEST_DATA names another folder")
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for path in packed:
        shutil.copy(path, tmp_path / "MNIST/raw")
    source, written = torchvision_dataset(str(tmp_path), "MNIST"), config("mnist")
    mean, std = channel_statistics(source.train)
    assert [round(x, 4) for x in (*mean, *std)] == [*written["mean"], *written["std"]]
    assert source.train.inputs.shape == (60_000, written["channels"], written["image_size"], written["image_size"])
    assert source.test.inputs.shape == (10_000, 1, 28, 28)
    assert len(source.class_names) == written["classes"]
    assert source.test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_training_images_are_counted_by_class():
    source = random_source()
    train = source.train.choose(torch.tensor([0, 4, 5, 8, 10]))  # the last class has none
    data = load(source._replace(train=train), **OPTIONS)
    assert (
        CLASSIFICATION.counts(data.train.targets, 4).tolist()
        == np.bincount(data.train.targets.numpy(), minlength=4).tolist()
        == [3, 1, 1, 0]
    )


def test_statistics_equal_numpys():
    train = random_source().train
    images = train.inputs
    mean, std = channel_statistics(train)
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-14)


def test_what_is_not_given_is_computed_from_the_training_part_alone():
    source = random_source()
    data = load(source, **OPTIONS | {"val_size": 8, "train_size": 20, "std": [1, 2, 3]})
    assert data.val is not None
    assert [len(part.targets) for part in (data.train, data.val, data.test)] == [20, 8, 40]
    assert data.mean == channel_statistics(data.train)[0] != channel_statistics(source.train)[0]
    assert data.std == (1, 2, 3)
    assert data.class_names == tuple("abcd")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"mean": [0.5]}, "mean must be null or a list of 3, one number per channel, got [0.5]"),
        ({"std": [0.5, 0.5]}, "std must be null or a list of 3, one number per channel, got [0.5, 0.5]"),
        (
            {"std": [0.5, 0.0, 0.5]},
            "std must be above 0; a channel of one value needs a std set by hand, got [0.5, 0.0, 0.5]",
        ),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(given, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        load(random_source(), **OPTIONS | given)


def test_a_channel_of_one_value_is_refused():
    source = random_source()
    source.train.inputs[:, 1] = 7
    with pytest.raises(ValueError, match="std must be above 0; a channel of one value needs a std set by hand"):
        load(source, **OPTIONS)
