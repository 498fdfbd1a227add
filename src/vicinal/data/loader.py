"""Make batches of a decoded data set by indexing, without workers."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vicinal.data.augmentation import CropFlip, Draws
from vicinal.data.images import Images
from vicinal.data.policies import Policy
from vicinal.data.sampling import shuffle
from vicinal.data.store import DeviceDataset, HostDataset


class Loader:
    """Batches of images (B, C, H, W) float32, normalised to (pixel / 255 - mean) / std, with labels (B,) int64.

    The length is the number of batches of a shuffled epoch. The images of a batch are the loader's own memory, which
    the next batch overwrites.

    Args:
        images: the data set.
        batch_size: images per batch; the last batch has the rest.
        mean: one number per channel, of pixels scaled to [0, 1].
        std: same as mean.
        device: of the batches.
        sampler: returns the places of the images of a shuffled epoch, from labels, number and generator.
        augmentation: of the batches of a shuffled epoch.
        policy: of these batches, after the augmentation.
        channels_last: memory format of the batches, for convolutions on tensor cores and AMX.
        stream: leave the data set in the host's memory and gather batches ahead of their use; else it is moved to the
            device as it is. The batches are the same.
        compile: make augmented batches of full size by one compiled loop, if there is no policy and no stream.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device,
        sampler: Callable[[Tensor, int, torch.Generator], Tensor] = shuffle,
        augmentation: CropFlip | None = None,
        policy: Policy | None = None,
        channels_last: bool = False,
        stream: bool = False,
        compile: bool = False,  # noqa: A002 - the name of the key
    ) -> None:
        self.batch_size, self.augmentation, self.policy = batch_size, augmentation, policy
        self._sampler, self._given = sampler, images.labels
        self._largest = min(batch_size, max(len(images.labels), 1))
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.store = (HostDataset if stream else DeviceDataset)(images, self._largest, device, layout)
        self.labels = images.labels.to(device)
        shape = images.images.shape[1:]
        # (x / 255 - mean) / std as one product and one sum; as wide as a line, for one loop over memory
        mean64, std64 = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
        self.scale, self.shift = (
            value.float().to(device).expand(1, -1, 1, shape[2]).contiguous(memory_format=layout)
            for value in (1 / (255 * std64), -mean64 / std64)
        )
        self._batch = torch.empty((self._largest, *shape), device=device, memory_format=layout)
        self._canvas: Tensor | None = None
        # Nothing else is compiled: dynamo's limit of graphs per function is shared by all loaders.
        compiled = compile and augmentation is not None and policy is None and not stream
        self._compiled = torch.compile(self._assemble, dynamic=False) if compiled else None

    def __len__(self) -> int:
        return steps_per_epoch(len(self.labels), self.batch_size)

    def epoch(
        self, order: torch.Generator, augmentation: torch.Generator, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one shuffled pass, without the first `skip`.

        All randomness comes from the two CPU generators: the sampler's from `order`, and the draws of each batch from
        `augmentation` as it is made. Skipped batches are drawn but not made, so that an epoch can be resumed inside.

        A single image left over at the end is left out of this epoch: batch norm cannot normalise one value.
        """
        chunks = self._chunks(self._sampler(self._given, _shuffled(len(self._given), self.batch_size), order))
        if self.augmentation:
            for chunk in chunks[:skip]:
                self.augmentation.sample(len(chunk), augmentation)
                if self.policy:
                    self.policy.sample(augmentation)
        yield from self._make(chunks[skip:], augmentation)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in order, without augmentation."""
        yield from self._make(self._chunks(torch.arange(len(self.labels))), None)

    def _chunks(self, indices: Tensor) -> Sequence[Tensor]:
        """Return the indices of each batch; all are sent to the device at once."""
        return torch.split(indices.to(self.store.index_device), self.batch_size)

    def _make(self, chunks: Sequence[Tensor], generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.labels.device
        store, augmentation = self.store, self.augmentation
        if self._compiled and augmentation and generator:
            whole = sum(len(chunk) == self.batch_size for chunk in chunks)
            for chunk in chunks[:whole]:
                draws = augmentation.sample(len(chunk), generator).to(device)
                yield self._compiled(store.locate(chunk), draws), self.labels[chunk]
            chunks = chunks[whole:]
        for chunk, images in zip(chunks, store.fetch(chunks), strict=True):
            if augmentation and generator:
                draws = augmentation.sample(len(chunk), generator)
                if self._canvas is None:
                    self._canvas = augmentation.canvas(images, self._largest)
                images = augmentation.apply(images, draws, self._canvas)
                if self.policy:
                    images = self.policy.apply(images, self.policy.sample(generator))
            batch = self._batch[: len(chunk)].copy_(images).mul_(self.scale).add_(self.shift)
            yield batch, self.labels[chunk.to(device, non_blocking=True)]

    def _assemble(self, rows: Tensor, draws: Draws) -> Tensor:
        """Return the batch of some rows of the resident data, in a form that compiles to one loop."""
        assert self.augmentation is not None
        chosen = self.augmentation.gather(self.store.images, rows, draws)
        return self._batch.copy_(chosen * self.scale[..., :1] + self.shift[..., :1])


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of batches of a shuffled epoch."""
    return -(-_shuffled(images, batch_size) // batch_size)


def _shuffled(images: int, batch_size: int) -> int:
    """Return the number of images of a shuffled epoch."""
    return images - 1 if images > 1 and images % batch_size == 1 else images
