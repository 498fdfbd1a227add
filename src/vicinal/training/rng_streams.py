"""One seed, independent random streams: the draws of one part of a run do not shift those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vicinal.training.shards import WHOLE, Shards


class RngStreams:
    """The named random streams of a run.

    ``order``, ``augmentation`` and ``mixing`` are CPU generators that are passed to the code that draws. ``init`` and
    ``dropout`` are drawn by torch's own modules from the default generators, which :meth:`default` sets. Where batches
    are computed in parts, each part in `shards` has its own streams ``mixing`` and ``dropout``, with its number.

    Two strategies with the same seed start from the same weights and see the same samples, cropped and flipped in the
    same way, in the same order. So their difference is paired.
    """

    def __init__(self, seed: int, shards: Shards = WHOLE) -> None:
        self.seed, self._shards = seed, shards
        self.order = torch.Generator().manual_seed(derive(seed, "order"))
        self.augmentation = torch.Generator().manual_seed(derive(seed, "augmentation"))
        self.mixings = {
            shard: torch.Generator().manual_seed(derive(seed, shards.name("mixing", shard))) for shard in shards.own
        }
        """{own part: its generator}."""
        self._lent: dict[str, list[Tensor]] = {}
        self._read: Callable[[], dict[str, list[Tensor]]] = dict  # of the stream that is lent now
        self._borrower = ""  # its name
        self.begin_epoch()

    @property
    def mixing(self) -> torch.Generator:
        """The generator of the first own part: where batches are whole, of all."""
        return self.mixings[self._shards.own[0]]

    def begin_epoch(self) -> None:
        """Record where the order and the augmentation of an epoch begin: a loader draws an order at once."""
        self._epoch = {"order": self.order.get_state(), "augmentation": self.augmentation.get_state()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each stream; order and augmentation at the beginning of the running epoch."""
        mixings = {shard: generator.get_state() for shard, generator in self.mixings.items()}
        return {"epoch": self._epoch, "mixing": mixings, "lent": {**self._lent, **self._read()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken; a loader has to skip the batches that were already used."""
        self.order.set_state(state["epoch"]["order"])
        self.augmentation.set_state(state["epoch"]["augmentation"])
        for shard, generator in self.mixings.items():
            generator.set_state(state["mixing"][shard])
        names = ("init", *(self._shards.name("dropout", shard) for shard in self._shards.own))
        self._lent = {name: lent for name, lent in state["lent"].items() if name in names}
        self.begin_epoch()

    @contextmanager
    def default(self, name: str, device: torch.device | None = None) -> Iterator[None]:
        """Make torch's default generators, also of a GPU, the stream "init" or "dropout", where its last use ended."""
        gpus = [device] if device is not None and device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus, device_type="cuda"):
            self._lend(name, gpus)
            try:
                yield
                self._lent |= self._read()
            finally:
                self._read, self._borrower = dict, ""

    def change(self, name: str, device: torch.device | None = None) -> None:
        """Go over to another stream within :meth:`default`."""
        if name != self._borrower:
            self._lent |= self._read()
            self._lend(name, [device] if device is not None and device.type == "cuda" else [])

    def _lend(self, name: str, gpus: list[torch.device]) -> None:
        torch.manual_seed(derive(self.seed, name))
        if name in self._lent:
            cpu, *states = self._lent[name]
            torch.set_rng_state(cpu)
            for gpu, state in zip(gpus, states, strict=False):  # a run may continue on another kind of device
                torch.cuda.set_rng_state(state, gpu)
        self._read = lambda: {name: [torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in gpus)]}
        self._borrower = name


def derive(seed: int, name: str) -> int:
    """Return the seed of one stream, 63 bits of a hash: neighbouring seeds and names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
