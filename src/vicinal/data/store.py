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
    """The data set on the device. Its N images are not copied if device and memory format of the batches are theirs."""

    def __init__(
        self, images: Images, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        here = images.images.device == device
        kept = _in_format(images if here else Images(images.pixels(), images.labels), memory_format)
        self.index_device = device
        self.images, self.rows = kept.images.to(device), None if kept.rows is None else kept.rows.to(device)
        self._batch = _empty(batch_size, self.images, memory_format)

    def fetch(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield a batch (B, C, H, W) uint8 on the device for each chunk of indices, (B,) int64 in [0, N).

        A batch is the store's own memory, which the next batch overwrites.
        """
        for chunk in chunks:
            yield self.gather(chunk, self._batch)

    def gather(self, indices: Tensor, batch: Tensor) -> Tensor:
        """Copy the images at the indices (B,) to the first B places of a batch, and return these."""
        chosen = batch[: len(indices)]
        torch.index_select(_flat(self.images), 0, self.locate(indices), out=_flat(chosen))
        return chosen

    def locate(self, indices: Tensor) -> Tensor:
        """Return the places of the images in ``images``."""
        return indices if self.rows is None else self.rows[indices]


class HostDataset(DeviceDataset):
    """The data set in the host's memory; a thread gathers batches ahead of their use."""

    def __init__(
        self, images: Images, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        super().__init__(images, 0, images.images.device, memory_format)
        self.device, pinned = device, device.type == "cuda"
        # One more than are gathered ahead: the one in use.
        self._staging = [_empty(batch_size, self.images, memory_format, pinned) for _ in range(AHEAD + 1)]
        self._sent: list[torch.cuda.Event | None] = [None] * len(self._staging)

    def fetch(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the same batches as :class:`DeviceDataset`."""
        waiting: deque[tuple[int, Future[Tensor]]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for number, chunk in enumerate(chunks):
                slot = number % len(self._staging)
                waiting.append((slot, thread.submit(self._stage, slot, chunk)))
                if len(waiting) > AHEAD:
                    yield self._send(*waiting.popleft())
            while waiting:
                yield self._send(*waiting.popleft())

    def _stage(self, slot: int, indices: Tensor) -> Tensor:
        if (sent := self._sent[slot]) is not None:
            sent.synchronize()  # the copy from here may not be complete
        return self.gather(indices, self._staging[slot])

    def _send(self, slot: int, gathered: Future[Tensor]) -> Tensor:
        batch = gathered.result().to(self.device, non_blocking=True)
        if self.device.type == "cuda":
            self._sent[slot] = torch.cuda.current_stream(self.device).record_event()
        return batch


def fits(images: Images, device: torch.device) -> bool:
    """Return whether the data set needs at most half of the device's free memory."""
    if device.type != "cuda":
        return True  # the host's memory is the device's
    return len(images.labels) * images.images[0].numel() <= torch.cuda.mem_get_info(device)[0] // 2


def _in_format(images: Images, memory_format: torch.memory_format) -> Images:
    """Return the images in this memory format: themselves, or a copy of the N only."""
    if images.images.is_contiguous(memory_format=memory_format):
        return images
    return Images(images.pixels().contiguous(memory_format=memory_format), images.labels)


def _empty(size: int, images: Tensor, memory_format: torch.memory_format, pinned: bool = False) -> Tensor:
    """Return memory for a batch of such images."""
    shape, device = (size, *images.shape[1:]), images.device
    return torch.empty(shape, dtype=images.dtype, device=device, memory_format=memory_format, pin_memory=pinned)


def _flat(images: Tensor) -> Tensor:
    """Return dense images (B, C, H, W) as rows of memory, (B, C * H * W): a row is copied in one piece."""
    return images.flatten(1) if images.is_contiguous() else images.permute(0, 2, 3, 1).flatten(1)
