"""Keep decoded samples on the device or on the host, and gather batches of them on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from math import prod

import torch
from torch import Tensor

from vicinal.data.encoded import EncodedImages, RandomResizedCrop
from vicinal.data.samples import Samples

AHEAD = 2  # batches that are gathered before they are asked for
LARGEST_COPY = 2**30  # numbers of a data set that is copied to have its memory format


class DeviceDataset:
    """The data set on the device. Its N inputs are not copied if device and memory format of the batches are theirs."""

    def __init__(
        self, samples: Samples, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        here = samples.inputs.device == device
        kept = _in_format(samples if here else Samples(samples.gathered(), samples.targets), memory_format)
        self.index_device = device
        self.inputs, self.rows = kept.inputs.to(device), None if kept.rows is None else kept.rows.to(device)
        self._batch = _empty(batch_size, self.inputs, _format(self.inputs, memory_format))

    def fetch(self, chunks: Iterable[Tensor], seeds: Iterable[int] = ()) -> Iterator[Tensor]:
        """Yield a batch (B, ...) of the stored type on the device for each chunk of indices, (B,) int64 in [0, N).

        A batch is the store's own memory, which the next batch overwrites.
        """
        for chunk in chunks:
            yield self.gather(chunk, self._batch)

    def gather(self, indices: Tensor, batch: Tensor, seed: int | None = None) -> Tensor:
        """Copy the inputs at the indices (B,) to the first B places of a batch, and return these."""
        chosen = batch[: len(indices)]
        torch.index_select(_flat(self.inputs), 0, self.locate(indices), out=_flat(chosen))
        return chosen

    def locate(self, indices: Tensor) -> Tensor:
        """Return the places of the samples in ``inputs``."""
        return indices if self.rows is None else self.rows[indices]


class EncodedDataset:
    """Images in their files, decoded when they are gathered, with a random crop of each by the seed of a batch."""

    def __init__(self, inputs: EncodedImages, rows: Tensor | None, crop: RandomResizedCrop | None) -> None:
        self.inputs, self.rows, self._crop = inputs, rows, crop

    def gather(self, indices: Tensor, batch: Tensor, seed: int | None = None) -> Tensor:
        """Decode the images at the indices (B,) to the first B places of a batch, and return these."""
        rows = indices if self.rows is None else self.rows[indices]
        crop = None if seed is None else self._crop
        return self.inputs.read(rows, batch[: len(indices)], crop, seed or 0)


class SideCopies:
    """Copy batches from the host to a GPU on a stream of its own, beside what the GPU computes.

    On a CPU there is nothing to copy. Not measured on a GPU yet.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def start(self, batch: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Begin to copy a batch in pinned memory; return the copy, and the event after which it is there."""
        if self._stream is None:
            return batch, None
        with torch.cuda.stream(self._stream):
            return batch.to(self.device, non_blocking=True), self._stream.record_event()

    def ready(self, copy: Tensor, event: torch.cuda.Event | None) -> Tensor:
        """Return the copy, for kernels that are launched from here on: these wait for it, and the host does not."""
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            copy.record_stream(current)  # its memory is not used again while they read it
        return copy


class HostDataset:
    """The data set in the host's memory or in files; a thread gathers batches ahead of their use, and copies them."""

    index_device = torch.device("cpu")

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        device: torch.device,
        memory_format: torch.memory_format,
        crop: RandomResizedCrop | None = None,
    ) -> None:
        self.device, pinned, self._copies = device, device.type == "cuda", SideCopies(device)
        if isinstance(samples.inputs, EncodedImages):
            self._samples: DeviceDataset | EncodedDataset = EncodedDataset(samples.inputs, samples.rows, crop)
        else:
            self._samples = DeviceDataset(samples, 0, self.index_device, memory_format)
        # One more than are gathered ahead: the one in use.
        like = self.inputs = self._samples.inputs
        self._staging = [_empty(batch_size, like, _format(like, memory_format), pinned) for _ in range(AHEAD + 1)]
        self._sent: list[torch.cuda.Event | None] = [None] * len(self._staging)

    def fetch(self, chunks: Iterable[Tensor], seeds: Iterable[int] = ()) -> Iterator[Tensor]:
        """Yield the same batches as :class:`DeviceDataset`; a seed is of the random crops of a batch, if there are."""
        waiting: deque[Future[tuple[Tensor, torch.cuda.Event | None]]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for number, (chunk, seed) in enumerate(zip(chunks, chain(seeds, repeat(None)), strict=False)):
                waiting.append(thread.submit(self._stage, number % len(self._staging), chunk, seed))
                if len(waiting) > AHEAD:
                    yield self._copies.ready(*waiting.popleft().result())
            while waiting:
                yield self._copies.ready(*waiting.popleft().result())

    def _stage(self, slot: int, indices: Tensor, seed: int | None) -> tuple[Tensor, torch.cuda.Event | None]:
        if (sent := self._sent[slot]) is not None:
            sent.synchronize()  # the copy from here may not be complete
        batch, self._sent[slot] = self._copies.start(self._samples.gather(indices, self._staging[slot], seed))
        return batch, self._sent[slot]


def fits(samples: Samples, device: torch.device) -> bool:
    """Return whether the data set needs at most half of the device's free memory; one in files does not fit."""
    if isinstance(samples.inputs, EncodedImages):
        return False
    if device.type != "cuda":
        return True  # the host's memory is the device's
    return len(samples.targets) * prod(samples.inputs.shape[1:]) <= torch.cuda.mem_get_info(device)[0] // 2


def _in_format(samples: Samples, memory_format: torch.memory_format) -> Samples:
    """Return the samples in this memory format: themselves, or a copy of the N only.

    A large data set, which may be mapped from a file, stays as it is: its batches are rearranged one by one.
    """
    size = len(samples.targets) * prod(samples.inputs.shape[1:])
    if samples.inputs.is_contiguous(memory_format=memory_format) or size > LARGEST_COPY:
        return samples
    return Samples(samples.gathered().contiguous(memory_format=memory_format), samples.targets)


def _format(inputs: Tensor | EncodedImages, wanted: torch.memory_format) -> torch.memory_format:
    """Return the memory format that batches of such inputs are gathered in: the wanted one if it is theirs."""
    if isinstance(inputs, EncodedImages):
        return torch.channels_last
    other = torch.channels_last if wanted == torch.contiguous_format else torch.contiguous_format
    return wanted if inputs.is_contiguous(memory_format=wanted) else other


def _empty(
    size: int, inputs: Tensor | EncodedImages, memory_format: torch.memory_format, pinned: bool = False
) -> Tensor:
    """Return memory for a batch of such inputs."""
    shape, device = (size, *inputs.shape[1:]), inputs.device
    return torch.empty(shape, dtype=inputs.dtype, device=device, memory_format=memory_format, pin_memory=pinned)


def _flat(inputs: Tensor) -> Tensor:
    """Return dense inputs (B, ...) as rows of memory, (B, n): a row is copied in one piece."""
    return inputs.flatten(1) if inputs.is_contiguous() else inputs.permute(0, 2, 3, 1).flatten(1)
