"""Images that are decoded by the batch: our loader against torchvision's ImageFolder in a DataLoader."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.suite.bench import Bar, Bench, SkippedError, peer, same_work
from benchmarks.suite.loading import drain
from benchmarks.suite.synthetic import MEAN, STD
from benchmarks.suite.timing import Case
from vicinal.data import CropFlip, Loader, Samples
from vicinal.data.encoded import EncodedImages, Paths, RandomResizedCrop

SIZE, BATCH, WORKERS = 224, 64, 2


def measure(bench: Bench) -> None:
    """A shuffled epoch of random parts of JPEGs, 256 pixels to 224, mirrored and normalised; 2 workers each."""
    name, against, bar = "encoded images", f"DataLoader with ImageFolder, {WORKERS} workers", Bar(1.5)
    count = 100 if bench.quick else 2000
    with TemporaryDirectory(prefix="vicinal-") as folder:
        paths = write(Path(folder), count)
        ours = loader(paths, bench.device, augmented=True)
        streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
        try:
            check(folder, paths, bench.device)
            theirs = classic(folder, bench.device, augmented=True)
        except SkippedError as reason:
            bench.skip(name, against, str(reason), bar)
            return
        cases = [
            Case("DataLoader", partial(drain, theirs, bench.device), 1),
            Case("ours", lambda: drain(ours.epoch(*streams), bench.device), 1),
        ]
        timings = bench.time(f"shuffled epoch of {count} JPEGs", cases, rounds=5)
    bench.row(name, against, timings.ratio("DataLoader", "ours"), bar=bar, threads=1)


def write(folder: Path, count: int) -> list[str]:
    """Write JPEGs whose shorter side has 256 pixels, in two class folders, and return their sorted paths."""
    random = np.random.default_rng(0)
    for label in range(2):
        (folder / str(label)).mkdir()
        for number in range(count // 2):
            long = int(random.integers(256, 360))
            size = (256, long) if number % 2 else (long, 256)
            coarse = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / str(label) / f"{number:05d}.jpg", quality=85)
    return [str(path) for path in sorted(folder.glob("*/*.jpg"))]


def loader(paths: list[str], device: torch.device, augmented: bool) -> Loader:
    """Return the loader as a run makes it."""
    images = EncodedImages(Paths(paths), 3, SIZE, SIZE, WORKERS)
    samples = Samples(cast(Tensor, images), torch.arange(len(paths)))
    own: dict[str, Any] = {"crop": RandomResizedCrop(), "augmentation": CropFlip(0, flip=True)} if augmented else {}
    return Loader(samples, BATCH, MEAN, STD, device=device, channels_last=True, **own)


def classic(folder: str, device: torch.device, augmented: bool) -> DataLoader[Any]:
    """Return torchvision's ImageFolder with its usual transforms. Raises SkippedError: torchvision is not there."""
    transforms = peer("torchvision.transforms")
    random = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    steps = random if augmented else [transforms.Resize(SIZE), transforms.CenterCrop(SIZE)]
    steps = [*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    data = peer("torchvision.datasets").ImageFolder(folder, transforms.Compose(steps))
    pin = device.type == "cuda"
    return DataLoader(data, BATCH, shuffle=augmented, num_workers=WORKERS, persistent_workers=True, pin_memory=pin)


def check(folder: str, paths: list[str], device: torch.device) -> None:
    """Check that both sides give the same numbers without random parts. Raises UnequalWorkError: they do not."""
    ours, theirs = loader(paths, device, augmented=False).batches(), classic(folder, device, augmented=False)
    for (made, _), (other, _) in zip(ours, theirs, strict=True):
        same_work(torch.allclose(made.cpu(), other, atol=1e-5), "other pixels")
        break
