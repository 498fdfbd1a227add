"""Keep decoded images on the device or on the host, and gather batches of them on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from vicinal.data.images import Images

AHEAD = 2  # batches that are gathered before they are asked for


class DeviceDataset:
    """The data set on the device.

    Args:
        images: N of them; not copied if device and memory format are theirs.
        batch_size: the largest chunk of indices.
        device: of the batches.
        memory_format: of the batches.

    Attributes:
        index_device: device of the indices.
    """

    def __init__(
        self, images: Images, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        here = images.images.device == device
        chosen = _laid_out(images if here else Images(images.pixels(), images.labels), memory_format)
        self.index_device = device
        self.images = chosen.images.to(device)
        self.rows = None if chosen.rows is None else chosen.rows.to(device)
        self._size = batch_size
        self._batch: Tensor | None = None  # compiled batches go without

    def fetch(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield a batch (B, C, H, W) uint8 on the device for each chunk of indices, (B,) int64 in [0, N).

        A batch is the store's own memory, which the next batch overwrites.
        """
        if self._batch is None:
            self._batch = _empty(self._size, self.images)
        for rows in self.locate(chunks):
            batch = self._batch[: len(rows)]
            torch.index_select(_flat(self.images), 0, rows, out=_flat(batch))
            yield batch

    def locate(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the places in ``images`` of each chunk of indices."""
        for indices in chunks:
            yield indices if self.rows is None else self.rows[indices]


class HostDataset:
    """The data set in the host's memory; a thread gathers batches ahead of their use.

    Arguments and attributes are those of :class:`DeviceDataset`.
    """

    def __init__(
        self, images: Images, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        chosen = _laid_out(images, memory_format)
        self.images, self.rows = chosen.images, chosen.rows
        self.device, self.index_device = device, torch.device("cpu")
        pinned = device.type == "cuda"
        # One more than are gathered ahead: the one in use.
        self._staging = [_empty(batch_size, self.images, pin_memory=pinned) for _ in range(AHEAD + 1)]
        self._sent: list[torch.cuda.Event | None] = [None] * len(self._staging)

    def fetch(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the same batches as :class:`DeviceDataset`."""
        waiting: deque[tuple[int, Future[Tensor]]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for number, chunk in enumerate(chunks):
                slot = number % len(self._staging)
                waiting.append((slot, thread.submit(self._gather, slot, chunk)))
                if len(waiting) > AHEAD:
                    yield self._send(*waiting.popleft())
            while waiting:
                yield self._send(*waiting.popleft())

    def _gather(self, slot: int, indices: Tensor) -> Tensor:
        if (sent := self._sent[slot]) is not None:
            sent.synchronize()  # the copy from here may not be complete
        batch = self._staging[slot][: len(indices)]
        rows = indices if self.rows is None else self.rows[indices]
        torch.index_select(_flat(self.images), 0, rows, out=_flat(batch))
        return batch

    def _send(self, slot: int, gathered: Future[Tensor]) -> Tensor:
        batch = gathered.result().to(self.device, non_blocking=True)
        if self.device.type == "cuda":
            self._sent[slot] = torch.cuda.current_stream(self.device).record_event()
        return batch


def fits(images: Images, device: torch.device) -> bool:
    """Return whether the data set needs at most half of the device's free memory."""
    if device.type != "cuda":
        return True  # the host's memory is the device's
    size = len(images.labels) * images.images[0].numel()
    return size <= torch.cuda.mem_get_info(device)[0] // 2


def _laid_out(images: Images, memory_format: torch.memory_format) -> Images:
    """Return the images in this memory format: themselves, or a copy of the N only."""
    if images.images.is_contiguous(memory_format=memory_format):
        return images
    return Images(images.pixels().contiguous(memory_format=memory_format), images.labels)


def _empty(batch_size: int, images: Tensor, pin_memory: bool = False) -> Tensor:
    """Return memory for a batch of the shape and memory format of `images`."""
    batch = torch.empty_like(images[:1]).expand(batch_size, -1, -1, -1)
    return torch.empty_like(batch, memory_format=_memory_format(images), pin_memory=pin_memory)


def _memory_format(images: Tensor) -> torch.memory_format:
    return torch.contiguous_format if images.is_contiguous() else torch.channels_last


def _flat(images: Tensor) -> Tensor:
    """Return dense images (B, C, H, W) as rows of memory, (B, C * H * W): a row is copied in one piece."""
    return images.flatten(1) if images.is_contiguous() else images.permute(0, 2, 3, 1).flatten(1)
