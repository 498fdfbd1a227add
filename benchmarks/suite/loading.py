"""Batches: our loader against torchvision's data set and transforms on PIL images in a DataLoader."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.suite.bench import Bar, Bench, SkippedError, peer, same_work
from benchmarks.suite.synthetic import MEAN, STD, images
from benchmarks.suite.timing import Case
from vicinal.data import CropFlip, Loader, Samples

BATCH, PADDING = 128, 4


def measure(bench: Bench) -> None:
    """A shuffled epoch of crops, flips and normalisation, by 0 workers (a core against a core) and by 2."""
    data = images(1000 if bench.quick else 10_000)
    ours = our_loader(data, bench.device)
    about = f"shuffled epoch of {len(data.targets)} images of 32 pixels"
    streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    name = "our loader"
    workers = {0: Bar(20), 2: Bar(10)}
    try:
        check(data, bench.device)
        theirs = {count: classic_loader(data, count, bench.device) for count in workers}
    except SkippedError as reason:
        for count, bar in workers.items():
            bench.skip(name, f"DataLoader with PIL, {count} workers", str(reason), bar)
        return
    cases = []
    for count, loader in theirs.items():
        cases.append(Case(f"DataLoader, {count} workers", partial(drain, loader, bench.device), 1))
        threads = max(count, 1)
        cases.append(Case(f"ours, {threads} threads", lambda: drain(ours.epoch(*streams), bench.device), threads))
    timings = bench.time(about, cases, rounds=7)
    for count, bar in workers.items():
        threads = max(count, 1)
        ratio = timings.ratio(f"DataLoader, {count} workers", f"ours, {threads} threads")
        bench.row(name, f"DataLoader with PIL, {count} workers", ratio, bar=bar, threads=threads)


def our_loader(data: Samples, device: torch.device, augmented: bool = True) -> Loader:
    """Return the loader as a run makes it."""
    augmentation = CropFlip(PADDING, flip=True) if augmented else None
    return Loader(data, BATCH, MEAN, STD, device=device, augmentation=augmentation, channels_last=True)


def classic_loader(
    data: Samples, workers: int, device: torch.device, *, augmented: bool = True, shuffle: bool = True
) -> DataLoader[Any]:
    """Torchvision's CIFAR-10, with our pixels in the place of the files', and the usual transforms; as it is meant.

    Raises:
        SkippedError: torchvision is not there.
    """
    transforms = peer("torchvision.transforms")
    cifar = peer("torchvision.datasets").CIFAR10
    crop = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()] if augmented else []
    dataset = cifar.__new__(cifar)  # its __init__ wants CIFAR's files; its __getitem__ is what is to be timed
    dataset.data = data.inputs.permute(0, 2, 3, 1).contiguous().numpy()
    dataset.targets = data.targets.tolist()
    dataset.transform = transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    dataset.target_transform = None
    return DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def drain(batches: Any, device: torch.device) -> int:
    """Take all batches to the device; return the number of images."""
    count = 0
    for made, _ in batches:
        count += len(made.to(device, non_blocking=True))
    return count


def check(data: Samples, device: torch.device) -> None:
    """Check that both sides give the same numbers in order, and when shuffled crops and flips of all the images.

    Raises:
        UnequalWorkError: they do not.
        SkippedError: torchvision is not there.
    """
    few = Samples(data.inputs[:300], torch.arange(300))
    plain, theirs = (
        our_loader(few, device, augmented=False),
        classic_loader(few, 0, device, augmented=False, shuffle=False),
    )
    for (ours, our_labels), (other, other_labels) in zip(plain.batches(), theirs, strict=True):
        same_work(ours.shape == other.shape and ours.dtype == other.dtype, "batches of another shape or type")
        same_work(torch.allclose(ours.cpu(), other, atol=1e-5), "normalised to other numbers")
        same_work(torch.equal(our_labels.cpu(), other_labels), "other labels")
    streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    for batches in (our_loader(few, device).epoch(*streams), classic_loader(few, 0, device)):
        seen = []
        for number, (made, indices) in enumerate(batches):
            seen.append(indices.cpu())
            if number == 0:
                found = is_crop(made[:16].cpu(), few.inputs[indices[:16].cpu()])
                same_work(bool(found.all()), "not a crop and flip of the image")
        same_work(torch.equal(torch.cat(seen).sort().values, few.targets), "an epoch is not each image once")


def is_crop(made: Tensor, originals: Tensor) -> Tensor:
    """Bool (B,): the image is a normalised 32-pixel window of the padded original, mirrored or not."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    # Black is 0 before the normalisation, so that it is not 0 after it.
    padded = F.pad(originals, [PADDING] * 4).float() / 255
    windows = ((padded - mean) / std).unfold(2, 32, 1).unfold(3, 32, 1)  # (B, C, 9, 9, 32, 32)
    found = torch.zeros(len(made), dtype=torch.bool)
    for image in (made, made.flip(-1)):
        distance = (windows - image[:, :, None, None]).abs().amax(dim=(1, 4, 5))
        found |= distance.amin(dim=(1, 2)) < 1e-4
    return found
