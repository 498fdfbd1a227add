"""Batches of a data set that lives decoded on the device: made by indexing, without workers."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vicinal.data.augmentation import CropFlip
from vicinal.data.images import Images


class Loader:
    """Batches of images (B, C, H, W) float32, normalised to (pixel / 255 - mean) / std, with labels (B,) int64.

    The length is the number of batches of a shuffled epoch.

    Args:
        images: the data set; it is moved to `device` as it is, a byte a pixel.
        batch_size: images a batch; the last batch has what is left.
        mean: a number a channel, of pixels scaled to [0, 1].
        std: likewise.
        device: where the batches are made and left.
        augmentation: applied to the batches of a shuffled epoch.
        channels_last: lay batches out for convolutions on tensor cores and AMX.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device,
        augmentation: CropFlip | None = None,
        channels_last: bool = False,
    ) -> None:
        self.images, self.labels = images.images.to(device), images.labels.to(device)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        mean64, std64 = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
        # (x / 255 - mean) / std as one product and one sum
        self.scale = (1 / (255 * std64)).float().to(device)
        self.shift = (-mean64 / std64).float().to(device)

    def __len__(self) -> int:
        return -(-self._shuffled_size() // self.batch_size)

    def epoch(
        self, order: torch.Generator, augmentation: torch.Generator, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one shuffled pass, without the first `skip`.

        All randomness comes from the two CPU generators: one permutation from `order`, and the draws of each batch from
        `augmentation` as it is made. Skipped batches are drawn but not made, so that an epoch can be resumed inside.

        A single image left over at the end is left out of this epoch: batch norm cannot normalise one value.
        """
        permutation = torch.randperm(len(self.labels), generator=order)[: self._shuffled_size()].to(self.labels.device)
        for number, start in enumerate(range(0, len(permutation), self.batch_size)):
            indices = permutation[start : start + self.batch_size]
            draws = None if self.augmentation is None else self.augmentation.sample(len(indices), augmentation)
            if number < skip:
                continue
            images = self.images[indices]
            if self.augmentation is not None and draws is not None:
                images = self.augmentation.apply(images, draws)
            yield self._normalise(images), self.labels[indices]

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, without augmentation."""
        for start in range(0, len(self.labels), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield self._normalise(self.images[batch]), self.labels[batch]

    def _shuffled_size(self) -> int:
        size = len(self.labels)
        return size - 1 if size > 1 and size % self.batch_size == 1 else size

    def _normalise(self, images: Tensor) -> Tensor:
        # The output is laid out by the product itself, which spares a pass over the batch.
        out = torch.empty(images.shape, device=images.device, memory_format=self.memory_format)
        return torch.mul(images, self.scale, out=out).add_(self.shift)
