"""Data sets of scikit-learn and torchvision, read whole into uint8 tensors."""

import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from vicinal.data.contents import reads, warn_once
from vicinal.data.samples import Samples, Source
from vicinal.data.splits import stratified

DIGITS_TEST_SIZE = 360  # a fifth of the 1797 images
DIGITS_TEST_SEED = 0
TIMEOUT_SECONDS = 30.0  # without an answer from a server; the libraries below would wait for minutes

_IDX = "the four *-ubyte.gz files of"
TORCHVISION = {
    "MNIST": f"{_IDX} https://ossci-datasets.s3.amazonaws.com/mnist into MNIST/raw",
    "FashionMNIST": f"{_IDX} http://fashion-mnist.s3-website.eu-central-1.amazonaws.com into FashionMNIST/raw",
    "CIFAR10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into it",
    "CIFAR100": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz into it",
    "SVHN": "train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers into it",
}
"""Files that a user without a network has to put somewhere, by torchvision's class."""
_IDX_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
FILES = {
    "MNIST": ("MNIST/raw", _IDX_FILES),
    "FashionMNIST": ("FashionMNIST/raw", _IDX_FILES),
    "CIFAR10": ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]),
    "CIFAR100": ("cifar-100-python", ["train", "test", "meta"]),
    "SVHN": ("", ["train_32x32.mat", "test_32x32.mat"]),
}
"""Folder below ``root`` and files in it that torchvision reads, of each class."""


def embedded(name: str) -> Path:
    """Return the path of a file that is embedded in scikit-learn."""
    package = find_spec("sklearn")  # not imported, which takes a second
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("datasets") / "data" / name


def _digits_file() -> Path:
    return embedded("digits.csv.gz")


def _torchvision_files(root: str, name: str) -> Sequence[Path]:
    folder, files = FILES[name]
    return [Path(root).expanduser() / folder / file for file in files]


@reads(lambda: [_digits_file()])
def digits() -> Source:
    """Load the 1797 grey 8x8 digits that are embedded in scikit-learn: images (N, 1, 8, 8).

    Pixels from 0 to 16 are scaled to 0 to 255. There is no official test set: 360 images, stratified and the same for
    every run, are held out as one.
    """
    table = np.loadtxt(_digits_file(), delimiter=",")
    pixels = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8)).mul(255 / 16).round().to(torch.uint8)
    labels = torch.from_numpy(table[:, -1]).long()
    train, test = stratified(labels, DIGITS_TEST_SIZE, DIGITS_TEST_SEED)
    return Source(Samples(pixels[train], labels[train]), Samples(pixels[test], labels[test]), tuple("0123456789"))


@reads(_torchvision_files)
def torchvision_dataset(root: str, name: str) -> Source:
    """Load the official train and test parts of one of torchvision's data sets, downloaded into `root` on first use.

    Raises ValueError: the name is not known, the files cannot be downloaded or unpacked there, or they are damaged.
    The folder is in torchvision's own layout; existing files are used as they are, without a network. The name is that
    of torchvision's class, one of `TORCHVISION`.
    """
    from torchvision import datasets

    if name not in TORCHVISION:
        raise ValueError(f"name must be one of {', '.join(TORCHVISION)}, got {name}")
    folder = Path(root).expanduser()
    parts = ({"split": "train"}, {"split": "test"}) if name == "SVHN" else ({"train": True}, {"train": False})
    try:
        with _put_by_one_process(folder, name), warnings.catch_warnings(), ExitStack() as stack:
            stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
            socket.setdefaulttimeout(TIMEOUT_SECONDS)
            # CIFAR's files were pickled by an old numpy, of which 2.4.0 to 2.4.4 warn.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align")
            train, test = [getattr(datasets, name)(folder, download=True, **part) for part in parts]
    except Exception as error:  # anything at all, from asserts on, comes out of files cut short
        if not isinstance(error, OSError | HTTPException) and "download" not in str(error):
            raise ValueError(f"root: its files of {name} are damaged; delete them and retry") from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        remedy = "use a folder that you can write to, named by root or VICINAL_DATA; without a network put"
        raise ValueError(
            f"root: {name} is not there and cannot be put there ({reason}); {remedy} {TORCHVISION[name]} first"
        ) from error
    class_names = getattr(train, "classes", None) or tuple("0123456789")  # SVHN has digits and no list of them
    return Source(_read(train), _read(test), tuple(class_names))


@contextmanager
def _put_by_one_process(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time unpack or download, and remove folders that it has left empty.

    Another process would read half-written files.
    """
    files, lock = _torchvision_files(str(folder), name), folder / f".{name}.lock"
    place = files[0].parent
    missing = [path for path in (place, *place.parents) if not path.exists()]
    with ExitStack() as stack:
        for path in reversed(missing):
            stack.callback(_remove_if_empty, path)
        # In this order: while files are written the lock is there.
        if not all(file.exists() for file in files) or lock.exists():
            with suppress(OSError, NotImplementedError):  # nothing can be written there, or no file can be locked
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_waiting_lock(lock, name))
        yield


@contextmanager
def _waiting_lock(lock: Path, name: str) -> Iterator[None]:
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=1)
    except filelock.Timeout:
        warn_once(f"{lock.parent}: waits for another process, which puts {name} there")
        held.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        held.release()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _read(dataset: Any) -> Samples:
    """Return the arrays of a torchvision data set as Samples, whatever their layout."""
    labels = torch.as_tensor(dataset.labels if hasattr(dataset, "labels") else dataset.targets, dtype=torch.int64)
    pixels: Tensor = torch.as_tensor(dataset.data)
    if pixels.ndim == 3:  # MNIST and Fashion-MNIST: (N, H, W)
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:  # CIFAR: (N, H, W, C); SVHN is (N, C, H, W) already
        pixels = pixels.permute(0, 3, 1, 2)
    return Samples(pixels.contiguous(memory_format=torch.channels_last), labels)
