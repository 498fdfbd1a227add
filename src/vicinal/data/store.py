"""Keep decoded samples on the device or on the host, and gather batches of them on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from vicinal.data.samples import Samples

AHEAD = 2  # batches that are gathered before they are asked for


class DeviceDataset:
    """The data set on the device. Its N inputs are not copied if device and memory format of the batches are theirs."""

    def __init__(
        self, samples: Samples, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        here = samples.inputs.device == device
        kept = _in_format(samples if here else Samples(samples.gathered(), samples.targets), memory_format)
        self.index_device = device
        self.inputs, self.rows = kept.inputs.to(device), None if kept.rows is None else kept.rows.to(device)
        self._batch = _empty(batch_size, self.inputs, memory_format)

    def fetch(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield a batch (B, ...) of the stored type on the device for each chunk of indices, (B,) int64 in [0, N).

        A batch is the store's own memory, which the next batch overwrites.
        """
        for chunk in chunks:
            yield self.gather(chunk, self._batch)

    def gather(self, indices: Tensor, batch: Tensor) -> Tensor:
        """Copy the inputs at the indices (B,) to the first B places of a batch, and return these."""
        chosen = batch[: len(indices)]
        torch.index_select(_flat(self.inputs), 0, self.locate(indices), out=_flat(chosen))
        return chosen

    def locate(self, indices: Tensor) -> Tensor:
        """Return the places of the samples in ``inputs``."""
        return indices if self.rows is None else self.rows[indices]


class HostDataset(DeviceDataset):
    """The data set in the host's memory; a thread gathers batches ahead of their use."""

    def __init__(
        self, samples: Samples, batch_size: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        super().__init__(samples, 0, samples.inputs.device, memory_format)
        self.device, pinned = device, device.type == "cuda"
        # One more than are gathered ahead: the one in use.
        self._staging = [_empty(batch_size, self.inputs, memory_format, pinned) for _ in range(AHEAD + 1)]
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


def fits(samples: Samples, device: torch.device) -> bool:
    """Return whether the data set needs at most half of the device's free memory."""
    if device.type != "cuda":
        return True  # the host's memory is the device's
    return len(samples.targets) * samples.inputs[0].numel() <= torch.cuda.mem_get_info(device)[0] // 2


def _in_format(samples: Samples, memory_format: torch.memory_format) -> Samples:
    """Return the samples in this memory format: themselves, or a copy of the N only."""
    if samples.inputs.is_contiguous(memory_format=memory_format):
        return samples
    return Samples(samples.gathered().contiguous(memory_format=memory_format), samples.targets)


def _empty(size: int, inputs: Tensor, memory_format: torch.memory_format, pinned: bool = False) -> Tensor:
    """Return memory for a batch of such inputs."""
    shape, device = (size, *inputs.shape[1:]), inputs.device
    return torch.empty(shape, dtype=inputs.dtype, device=device, memory_format=memory_format, pin_memory=pinned)


def _flat(inputs: Tensor) -> Tensor:
    """Return dense inputs (B, ...) as rows of memory, (B, n): a row is copied in one piece."""
    return inputs.flatten(1) if inputs.is_contiguous() else inputs.permute(0, 2, 3, 1).flatten(1)
