"""Make batches of a decoded data set by indexing, without workers."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vicinal.data.augmentation import CropFlip, Draws
from vicinal.data.inputs import FULL_SCALE
from vicinal.data.policies import Policy
from vicinal.data.samples import Samples
from vicinal.data.sampling import shuffle
from vicinal.data.store import DeviceDataset, HostDataset


class Loader:
    """Batches of inputs (B, ...) float32, normalised to (x / full scale - mean) / std, with targets (B, ...).

    The full scale is 255 for uint8, 32768 for int16 and 1 for floats. Without a mean, inputs are int64 as they are.
    The length is the number of batches of a shuffled epoch. The inputs of a batch are the loader's own memory, which
    the next batch overwrites.

    Args:
        samples: the data set.
        batch_size: samples per batch; the last batch has the rest.
        mean: one number per channel or column, after scaling; None for inputs that are not normalised.
        std: same as mean.
        device: of the batches.
        sampler: returns the places of the samples of a shuffled epoch, from targets, number and generator.
        augmentation: of the images of a shuffled epoch.
        policy: of these images, after the augmentation.
        moved: moves the targets along with augmented images, by the augmentation and its draws.
        channels_last: memory format of the batches, for convolutions on tensor cores and AMX.
        stream: leave the data set in the host's memory and gather batches ahead of their use; else it is moved to the
            device as it is. The batches are the same.
        compile: make augmented batches of full size by one compiled loop, if there is no policy and no stream.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        device: torch.device,
        sampler: Callable[[Tensor, int, torch.Generator], Tensor] = shuffle,
        augmentation: CropFlip | None = None,
        policy: Policy | None = None,
        moved: Callable[[Tensor, CropFlip, Draws], Tensor] | None = None,
        channels_last: bool = False,
        stream: bool = False,
        compile: bool = False,  # noqa: A002 - the name of the key
    ) -> None:
        self.batch_size, self.augmentation, self.policy, self.moved = batch_size, augmentation, policy, moved
        self._sampler, self._given = sampler, samples.targets
        self._largest = min(batch_size, max(len(samples.targets), 1))
        shape = samples.inputs.shape[1:]
        layout = torch.channels_last if channels_last and len(shape) == 3 else torch.contiguous_format
        self.store = (HostDataset if stream else DeviceDataset)(samples, self._largest, device, layout)
        self.targets = samples.targets.to(device)
        self.scale = self.shift = None
        if mean is not None and std is not None:
            # (x / full - mean) / std as one product and one sum; as wide as a line, for one loop over memory
            full, line = FULL_SCALE.get(samples.inputs.dtype, 1), (*[1] * (len(shape) - 2), *shape[1:][-1:])
            mean64, std64 = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
            self.scale, self.shift = (
                value.float()
                .to(device)
                .view(1, -1, *[1] * len(line))
                .expand(1, -1, *line)
                .contiguous(memory_format=layout)
                for value in (1 / (full * std64), -mean64 / std64)
            )
        dtype = torch.int64 if self.scale is None else torch.float32
        self._batch = torch.empty((self._largest, *shape), dtype=dtype, device=device, memory_format=layout)
        self._canvas: Tensor | None = None
        # Nothing else is compiled: dynamo's limit of graphs per function is shared by all loaders.
        compiled = compile and augmentation is not None and policy is None and moved is None and not stream
        self._compiled = torch.compile(self._assemble, dynamic=False) if compiled else None

    def __len__(self) -> int:
        return steps_per_epoch(len(self.targets), self.batch_size)

    def epoch(
        self, order: torch.Generator, augmentation: torch.Generator, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one shuffled pass, without the first `skip`.

        All randomness comes from the two CPU generators: the sampler's from `order`, and the draws of each batch from
        `augmentation` as it is made. Skipped batches are drawn but not made, so that an epoch can be resumed inside.

        A single sample left over at the end is left out of this epoch: batch norm cannot normalise one value.
        """
        chunks = self._chunks(self._sampler(self._given, _shuffled(len(self._given), self.batch_size), order))
        if self.augmentation:
            for chunk in chunks[:skip]:
                self.augmentation.sample(len(chunk), augmentation)
                if self.policy:
                    self.policy.sample(augmentation)
        yield from self._make(chunks[skip:], augmentation)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples in order, without augmentation."""
        yield from self._make(self._chunks(torch.arange(len(self.targets))), None)

    def _chunks(self, indices: Tensor) -> Sequence[Tensor]:
        """Return the indices of each batch; all are sent to the device at once."""
        return torch.split(indices.to(self.store.index_device), self.batch_size)

    def _make(self, chunks: Sequence[Tensor], generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.targets.device
        store, augmentation = self.store, self.augmentation
        if self._compiled and augmentation and generator:
            whole = sum(len(chunk) == self.batch_size for chunk in chunks)
            for chunk in chunks[:whole]:
                draws = augmentation.sample(len(chunk), generator).to(device)
                yield self._compiled(store.locate(chunk), draws), self.targets[chunk]
            chunks = chunks[whole:]
        for chunk, inputs in zip(chunks, store.fetch(chunks), strict=True):
            targets = self.targets[chunk.to(device, non_blocking=True)]
            if augmentation and generator:
                draws = augmentation.sample(len(chunk), generator)
                if self._canvas is None:
                    self._canvas = augmentation.canvas(inputs, self._largest)
                inputs = augmentation.apply(inputs, draws, self._canvas)
                if self.moved:
                    targets = self.moved(targets, augmentation, draws.to(device))
                if self.policy:
                    inputs = self.policy.apply(inputs, self.policy.sample(generator))
            batch = self._batch[: len(chunk)].copy_(inputs)
            if self.scale is not None and self.shift is not None:
                batch.mul_(self.scale).add_(self.shift)
            yield batch, targets

    def _assemble(self, rows: Tensor, draws: Draws) -> Tensor:
        """Return the batch of some rows of the resident data, in a form that compiles to one loop."""
        assert self.augmentation is not None
        assert self.scale is not None
        assert self.shift is not None
        chosen = self.augmentation.gather(self.store.inputs, rows, draws)
        return self._batch.copy_(chosen * self.scale[..., :1] + self.shift[..., :1])


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the number of batches of a shuffled epoch."""
    return -(-_shuffled(samples, batch_size) // batch_size)


def _shuffled(samples: int, batch_size: int) -> int:
    """Return the number of samples of a shuffled epoch."""
    return samples - 1 if samples > 1 and samples % batch_size == 1 else samples
