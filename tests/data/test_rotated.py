"""Rotated MNIST against torchvision's own rotation, one image at a time."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import datasets
from torchvision.transforms.v2.functional import InterpolationMode, rotate

from vicinal.data import torchvision_dataset
from vicinal.data.rotated import rotated, rotated_mnist
from vicinal.experiment import Experiment


@given(seed=st.integers(0, 2**32), channels=st.integers(1, 3), size=st.integers(2, 28))
def test_each_image_is_rotated_as_torchvision_does_it(seed: int, channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, channels, size, size), dtype=torch.uint8, generator=generator)
    degrees = 360 * torch.rand(3, generator=generator) - 180
    expected = torch.stack(
        [
            rotate(image, angle, InterpolationMode.BILINEAR)
            for image, angle in zip(images, degrees.tolist(), strict=True)
        ]
    )
    assert (rotated(images, degrees).int() - expected.int()).abs().max() <= 1  # a tie may be rounded another way


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw, resources, rng = tmp_path / "MNIST/raw", [], np.random.default_rng(0)
    raw.mkdir(parents=True)
    for part, size in (("train", 40), ("t10k", 9)):
        pixels, labels = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8), np.arange(size, dtype=np.uint8) % 10
        for kind, magic, array in (("images-idx3", 2051, pixels), ("labels-idx1", 2049, labels)):
            path = raw / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes()))
            resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return tmp_path


def test_targets_are_the_angles_by_the_seed_of_the_split(root: Path) -> None:
    source, again, other = (rotated_mnist(str(root), seed) for seed in (0, 0, 1))
    upright = torchvision_dataset(str(root), "MNIST")
    for part, plain in ((source.train, upright.train), (source.test, upright.test)):
        assert part.targets.shape == (len(plain.targets), 1)
        assert part.targets.abs().max() <= 60
        assert torch.equal(part.inputs, rotated(plain.inputs, part.targets[:, 0]))
    assert source.train.targets.std() == pytest.approx(120 / 12**0.5, rel=0.15)
    assert torch.equal(source.test.inputs, again.test.inputs)
    assert not torch.equal(source.test.targets, other.test.targets)
    assert (source.class_names, source.unit) == (("angle",), "degrees")


def test_the_option_is_a_regression_of_one_number(compose: Callable[..., Experiment], root: Path) -> None:
    experiment = compose("dataset=rotated_mnist", f"dataset.root={root}", "model=cnn")
    assert (experiment.task.name, experiment.sizes.classes) == ("regression", 1)
    assert experiment.dataset().train.inputs.shape == (40, 1, 28, 28)
    assert len(experiment.dataset.tell("files")) == 4
    assert (
        compose("dataset=rotated_mnist", f"dataset.root={root}", "dataset.split_seed=1").cell_id != experiment.cell_id
    )
