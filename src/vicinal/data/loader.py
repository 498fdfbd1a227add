"""Make batches of a decoded data set by indexing, without workers."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from vicinal.data.augmentation import CropFlip, Draws
from vicinal.data.encoded import EncodedImages, RandomResizedCrop
from vicinal.data.inputs import FULL_SCALE
from vicinal.data.pending import Batch, Blend, Pending, plain
from vicinal.data.policies import Policy
from vicinal.data.samples import Samples
from vicinal.data.sampling import shuffle
from vicinal.data.store import DeviceDataset, HostDataset

ONE_LOOP: dict[str, str | int | bool | Callable[..., object]] = {
    f"realize_{what}_threshold": 1000 for what in ("reads", "opcount", "acc_reads")
}
"""Options of torch's compiler: make both members of a mixed pixel in one loop, however much that reads.

By default it writes them to memory, and reads them again in a second loop.
"""


class Loader:
    """Batches of inputs (B, ...) float32, normalised to (x / full scale - mean) / std, with targets (B, ...).

    The full scale is 255 for uint8, 32768 for int16 and 1 for floats. Without a mean, inputs are int64 as they are.
    The length is the number of batches of a shuffled epoch. The inputs of a batch are the loader's own memory, which
    the next batch overwrites, unless they are compiled. A shuffled epoch may be in parts: ``torch.tensor_split`` cuts
    each batch into so many `shards`, and those in `own` are made, one after the other, as if they were batches.

    Args:
        samples: the data set.
        batch_size: samples per batch; the last batch has the rest.
        mean: one number per channel or column, after scaling; None for inputs that are not normalised.
        std: same as mean.
        device: of the batches.
        sampler: returns the places of the samples of a shuffled epoch, from targets, number and generator.
        crop: a random part of each image of a shuffled epoch, instead of the centre; of encoded images.
        augmentation: of the images of a shuffled epoch.
        mirrored: (N,) bool on the CPU, the images that are mirrored in the first shuffled epoch; in the next one it is
            the others, and so on by turns. None: the augmentation draws a side each time.
        policy: of these images, after the augmentation.
        moved: moves the targets along with augmented images, by the augmentation and its draws.
        channels_last: memory format of the batches, for convolutions on tensor cores and AMX.
        stream: leave the data set in the host's memory and gather batches ahead of their use; else it is moved to the
            device as it is. The batches are the same.
        compile: make augmented batches of full size by one compiled loop, if there is no policy.
        shards: equal parts of each batch of a shuffled epoch, of 2 samples or more where there are several.
        own: numbers of the parts that are made, in their order.
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
        crop: RandomResizedCrop | None = None,
        augmentation: CropFlip | None = None,
        mirrored: Tensor | None = None,
        policy: Policy | None = None,
        moved: Callable[[Tensor, CropFlip, Draws], Tensor] | None = None,
        channels_last: bool = False,
        stream: bool = False,
        compile: bool = False,  # noqa: A002 - the name of the key
        shards: int = 1,
        own: range = range(1),
    ) -> None:
        self.batch_size, self.augmentation, self.policy, self.moved = batch_size, augmentation, policy, moved
        self._sampler, self._given, self._shards, self._own = sampler, samples.targets, shards, own
        self._mirrored = mirrored
        self._largest = -(-min(batch_size, max(len(samples.targets), 1)) // shards)
        shape = samples.inputs.shape[1:]
        self._layout = layout = torch.channels_last if channels_last and len(shape) == 3 else torch.contiguous_format
        self.store: HostDataset | DeviceDataset
        if stream := stream or isinstance(samples.inputs, EncodedImages):
            self.store = HostDataset(samples, self._largest, device, layout, crop)
        else:
            self.store = DeviceDataset(samples, self._largest, device, layout)
            if crop:
                raise ValueError("only encoded images can be cropped at random and resized")
        self._crop = crop
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
        compiled = compile and augmentation is not None and policy is None and moved is None
        self._compiled = torch.compile(self._assemble, dynamic=False, options=ONE_LOOP) if compiled else None
        self._places = torch.arange(self._largest, device=device)

    def __len__(self) -> int:
        return steps_per_epoch(len(self.targets), self.batch_size, self._shards)

    def size(self, step: int) -> int:
        """Return the number of samples, in all parts, of a batch of a shuffled epoch."""
        return min(
            self.batch_size, _shuffled(len(self.targets), self.batch_size, self._shards) - step * self.batch_size
        )

    def epoch(
        self, order: torch.Generator, augmentation: torch.Generator, skip: int = 0, number: int = 1
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Return the batches of one shuffled pass, the epoch `number` from 1, without the first `skip`, or the own
        parts of each.

        All randomness comes from the two CPU generators: the sampler's from `order`, and the draws of each batch from
        `augmentation` as it is made. Skipped batches are drawn but not made, so that an epoch can be resumed inside.

        A single sample left over at the end is left out of this epoch: batch norm cannot normalise one value. With
        parts, so is a last batch with a part of fewer than two.
        """
        return _made(self.pending(order, augmentation, skip, number))

    def pending(
        self, order: torch.Generator, augmentation: torch.Generator, skip: int = 0, number: int = 1
    ) -> Generator[tuple[Batch, Tensor], None, None]:
        """Do as :meth:`epoch`, but return batches that a compiled loop makes before they are made."""
        size = _shuffled(len(self._given), self.batch_size, self._shards)
        rows = self._sampler(self._given, size, order)
        chunks = self._chunks(rows)
        parts = [chunk.tensor_split(self._shards)[shard] for chunk in chunks[skip:] for shard in self._own]
        seeds: list[int] = []
        if self._crop:  # for all parts now, since batches are decoded before they are asked for
            drawn = torch.randint(2**63 - 1, (len(chunks), self._shards), generator=augmentation)
            seeds = drawn[skip:, list(self._own)].flatten().tolist()
        flips = None if self._mirrored is None else self._mirrored[rows] ^ (number % 2 == 0)
        draws = self._draws([len(chunk) for chunk in chunks], augmentation, flips)
        for _ in range(skip * len(self._own) if self.augmentation else 0):
            next(draws)
        return self._make(parts, draws, seeds)

    def batches(self, share: Callable[[int], range] = range) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples in order, without augmentation; or of N batches those whose numbers are in `share(N)`."""
        chunks = self._chunks(torch.arange(len(self.targets)))
        yield from _made(self._make([chunks[number] for number in share(len(chunks))], None))

    def _draws(
        self, sizes: Sequence[int], generator: torch.Generator, flips: Tensor | None
    ) -> Iterator[tuple[Draws, int]]:
        """Draw for each batch of these sizes when it is reached, and yield the augmentation of each own part.

        That is the draws of crop and flip, and the seed of the policy. If there are `flips`, (samples of the epoch,)
        bool, they take the place of those that are drawn.
        """
        assert self.augmentation is not None
        given = None if flips is None else iter(torch.split(flips, list(sizes)))
        for size in sizes:
            draws = self.augmentation.sample(size, generator)
            if given is not None:
                draws = draws._replace(flip=next(given))
            seeds = [self.policy.sample(generator) if self.policy else 0 for _ in range(self._shards)]
            yield from ((draws.part(self._shards, shard), seeds[shard]) for shard in self._own)

    def _chunks(self, indices: Tensor) -> Sequence[Tensor]:
        """Return the indices of each batch; all are sent to the device at once."""
        return torch.split(indices.to(self.store.index_device), self.batch_size)

    def _make(
        self, chunks: Sequence[Tensor], drawn: Iterator[tuple[Draws, int]] | None, seeds: Sequence[int] = ()
    ) -> Generator[tuple[Batch, Tensor], None, None]:
        device, augmentation, compiled = self.targets.device, self.augmentation, self._compiled if drawn else None
        whole = sum(len(chunk) * self._shards == self.batch_size for chunk in chunks) if compiled else 0
        stored = self._stored(chunks, seeds, whole)
        for number, (chunk, (inputs, rows)) in enumerate(zip(chunks, stored, strict=True)):
            targets = self.targets[chunk.to(device, non_blocking=True)]
            if augmentation and drawn:
                draws, seed = next(drawn)
                if compiled and number < whole:
                    yield Pending(self._batch.shape, partial(compiled, inputs, rows, draws.to(device))), targets
                    continue
                if self._canvas is None:
                    self._canvas = augmentation.canvas(inputs, self._largest)
                inputs = augmentation.apply(inputs, draws, self._canvas)
                if self.moved:
                    targets = self.moved(targets, augmentation, draws.to(device))
                if self.policy:
                    inputs = self.policy.apply(inputs, seed)
            batch = self._batch[: len(chunk)].copy_(inputs)
            if self.scale is not None and self.shift is not None:
                batch.mul_(self.scale).add_(self.shift)
            yield batch, targets

    def _stored(self, chunks: Sequence[Tensor], seeds: Sequence[int], whole: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each batch stored inputs on the device, and its rows in them: at first so many compiled ones."""
        if isinstance(store := self.store, DeviceDataset):
            for chunk in chunks[:whole]:
                yield store.inputs, store.locate(chunk)
            chunks = chunks[whole:]
        for inputs in store.fetch(chunks, seeds):
            yield inputs, self._places

    def _assemble(
        self, images: Tensor, rows: Tensor, draws: Draws, partner: Tensor | None = None, blend: Blend | None = None
    ) -> Tensor:
        """Return a batch in a form that compiles to one loop, see :class:`Pending`.

        In new memory: a copy to memory of another format than the loop's would be a second loop.
        """
        made = self._normalised(images, rows, draws)
        if partner is not None and blend is not None:
            made = blend.mix(made, self._normalised(images, rows[partner], draws.of(partner)))
        return made.contiguous(memory_format=self._layout)

    def _normalised(self, images: Tensor, rows: Tensor, draws: Draws) -> Tensor:
        assert self.augmentation is not None
        assert self.scale is not None
        assert self.shift is not None
        return self.augmentation.gather(images, rows, draws) * self.scale[..., :1] + self.shift[..., :1]


def _made(batches: Iterable[tuple[Batch, Tensor]]) -> Generator[tuple[Tensor, Tensor], None, None]:
    for batch, targets in batches:
        yield plain(batch), targets


def steps_per_epoch(samples: int, batch_size: int, shards: int = 1) -> int:
    """Return the number of batches of a shuffled epoch, each in so many parts."""
    return -(-_shuffled(samples, batch_size, shards) // batch_size)


def _shuffled(samples: int, batch_size: int, shards: int) -> int:
    """Return the number of samples of a shuffled epoch."""
    rest = samples % batch_size
    return samples - rest if 0 < rest < 2 * shards and rest < samples else samples
