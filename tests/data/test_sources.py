"""Sources against torchvision's own items, on small files in the official formats and without a network."""

import gzip
import hashlib
import pickle
import re
import socket
import struct
import threading
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import datasets
from torchvision.datasets import utils
from torchvision.transforms.functional import pil_to_tensor

from vicinal.data import digits, sources, torchvision_dataset
from vicinal.data.sources import TIMEOUT_SECONDS

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        assert socket.getdefaulttimeout() == TIMEOUT_SECONDS
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def fake_mnist(root: Path, name: str, monkeypatch) -> None:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    resources = []
    for part, size in (("train", 12), ("t10k", 7)):
        pixels, labels = RNG.integers(0, 256, (size, 28, 28), dtype=np.uint8), np.arange(size, dtype=np.uint8) % 10
        for kind, magic, array in (("images-idx3", 2051, pixels), ("labels-idx1", 2049, labels)):
            path = raw / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes()))
            resources.append((path.name, md5(path)))
    monkeypatch.setattr(getattr(datasets, name), "resources", resources)


def fake_cifar(root: Path, name: str, monkeypatch) -> None:
    dataset = getattr(datasets, name)
    folder = root / dataset.base_folder
    folder.mkdir()
    label_key, classes = ("labels", 10) if name == "CIFAR10" else ("fine_labels", 100)

    def write(file: str, content: object) -> str:
        # The official files are pickles of an old numpy: dtype("u1", 0, 1), not dtype("u1", False, True).
        (folder / file).write_bytes(pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87"))
        return md5(folder / file)

    for attribute in ("train_list", "test_list"):
        files = []
        for file, _ in getattr(dataset, attribute):
            pixels = RNG.integers(0, 256, (6, 3 * 32 * 32), dtype=np.uint8)
            content = {"data": pixels, label_key: RNG.integers(0, classes, 6).tolist()}
            files.append([file, write(file, content)])
        monkeypatch.setattr(dataset, attribute, files)
    names = {dataset.meta["key"]: [f"class {i}" for i in range(classes)]}
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": write(dataset.meta["filename"], names)})


def fake_svhn(root: Path, name: str, monkeypatch) -> None:
    split_list = {}
    for part in ("train", "test"):
        path = root / f"{part}_32x32.mat"
        labels = np.array([[1], [10], [9], [2], [5]], dtype=np.uint8)  # SVHN says 10 for the digit 0
        savemat(path, {"X": RNG.integers(0, 256, (32, 32, 3, 5), dtype=np.uint8), "y": labels})
        split_list[part] = ["http://nowhere/", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)


FAKES = {
    "MNIST": (fake_mnist, 1, 10),
    "FashionMNIST": (fake_mnist, 1, 10),
    "CIFAR10": (fake_cifar, 3, 10),
    "CIFAR100": (fake_cifar, 3, 100),
    "SVHN": (fake_svhn, 3, 10),
}


@pytest.mark.parametrize("name", FAKES)
def test_tensors_equal_torchvisions_items(name, tmp_path, monkeypatch):
    fake, channels, classes = FAKES[name]
    fake(tmp_path, name, monkeypatch)
    source = torchvision_dataset(str(tmp_path), name)
    assert len(source.class_names) == classes
    for part, train in ((source.train, True), (source.test, False)):
        choice = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        with warnings.catch_warnings(action="ignore"):  # ours has to read the same files without one
            theirs = getattr(datasets, name)(tmp_path, **choice)
        assert part.inputs.dtype == torch.uint8
        assert part.inputs.shape[1] == channels
        assert part.inputs.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(part.inputs, torch.stack([pil_to_tensor(image) for image, _ in theirs]))
        assert part.targets.dtype == torch.int64
        assert part.targets.tolist() == [label for _, label in theirs]
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", FAKES)
def test_the_files_that_are_said_to_be_read_are_all_that_is_read(name, tmp_path, monkeypatch):
    FAKES[name][0](tmp_path, name, monkeypatch)
    asked = {"root": str(tmp_path), "name": name}
    first = torchvision_dataset(**asked)  # unpacks what is packed
    files = torchvision_dataset.files(**asked)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file not in files:
            file.unlink()
    again = torchvision_dataset(**asked)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert all(file.is_file() for file in files)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("MNIST", "the four *-ubyte.gz files of https://ossci-datasets.s3.amazonaws.com/mnist into MNIST/raw"),
        ("CIFAR10", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into it"),
        ("SVHN", "train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers into it"),
    ],
)
def test_without_a_network_one_line_has_the_remedy(name, files, tmp_path):
    line = (
        f"root: {name} is not there and cannot be put there (<urlopen error Name or service not known>); use a folder "
        f"that you can write to, named by root or VICINAL_DATA; without a network put {files} first"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        torchvision_dataset(str(tmp_path / "new/folder"), name)
    assert not [*tmp_path.iterdir()]


def test_a_process_that_comes_while_files_are_unpacked_waits_for_them(tmp_path, monkeypatch):
    fake_mnist(tmp_path, "MNIST", monkeypatch)
    extract, started, waits = utils.extract_archive, threading.Event(), threading.Event()

    def interrupted(packed, folder, *rest):
        half = Path(folder, Path(packed).stem)
        half.write_bytes(b"half")
        if "t10k-labels" in half.name:  # the last file: now all of them exist
            started.set()
            assert waits.wait(60)
        return extract(packed, folder, *rest)

    monkeypatch.setattr(utils, "extract_archive", interrupted)
    monkeypatch.setattr(sources, "warn_once", lambda line: (lines.append(line), waits.set()))
    lines: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(torchvision_dataset, str(tmp_path), "MNIST")
        assert started.wait(60)
        second = threads.submit(torchvision_dataset, str(tmp_path), "MNIST")
        second.add_done_callback(lambda _: waits.set())
        assert torch.equal(first.result().train.inputs, second.result().train.inputs)
        assert torch.equal(first.result().test.targets, second.result().test.targets)
    assert lines == [f"{tmp_path}: waits for another process, which puts MNIST there"]
    assert not [*tmp_path.glob(".*")]


def test_packed_files_in_a_folder_that_cannot_be_written_are_one_line(tmp_path, monkeypatch):
    fake_mnist(tmp_path, "MNIST", monkeypatch)

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied", "train-images-idx3-ubyte")

    monkeypatch.setattr(utils, "extract_archive", read_only)
    line = (
        "root: MNIST is not there and cannot be put there ([Errno 13] Permission denied: 'train-images-idx3-ubyte'); "
        "use a folder that you can write to, "
    )
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        torchvision_dataset(str(tmp_path), "MNIST")


@pytest.mark.parametrize("size", [0, 2, 16, 500])
def test_files_cut_short_while_they_were_unpacked_are_one_line(size, tmp_path, monkeypatch):
    fake_mnist(tmp_path, "MNIST", monkeypatch)
    torchvision_dataset(str(tmp_path), "MNIST")
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"^root: its files of MNIST are damaged; delete them and retry$"):
        torchvision_dataset(str(tmp_path), "MNIST")


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    line = "^name must be one of MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN, got KMNIST$"
    with pytest.raises(ValueError, match=line):
        torchvision_dataset(str(tmp_path), "KMNIST")


def test_digits_are_scikit_learns_with_a_fixed_stratified_test_part():
    source, bunch = digits(), load_digits()
    assert source.train.inputs.shape == (1437, 1, 8, 8)
    assert source.test.inputs.shape == (360, 1, 8, 8)
    assert source.class_names == tuple("0123456789")
    share = np.bincount(bunch.target) * 360 / 1797
    assert np.abs(source.test.targets.bincount().numpy() - share).max() < 1
    _, test = train_test_split(range(1797), test_size=360, stratify=bunch.target, random_state=0)
    expected = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None][sorted(test)]
    assert torch.equal(source.test.inputs, expected)
    assert source.test.targets.tolist() == bunch.target[sorted(test)].tolist()
    # Every image is there once, with its label: compare the two sets as sorted rows.
    ours = torch.cat([torch.cat([p.inputs.flatten(1), p.targets[:, None]], 1) for p in (source.train, source.test)])
    scaled = np.floor(bunch.data * 255 / 16 + 0.5)
    theirs = np.concatenate([scaled, bunch.target[:, None]], 1)
    halves = bunch.data == 8  # 127.5, which round() takes to the even 128 as well
    assert (scaled[halves] == 128).all()
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.astype(int).tolist()))
    assert torch.equal(digits().test.inputs, source.test.inputs)
