"""One seed, independent random streams: the draws of one part of a run do not shift those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class RngStreams:
    """The named random streams of a run.

    ``order``, ``augmentation`` and ``mixing`` are CPU generators that are passed to the code that draws. ``init`` and
    ``dropout`` are drawn by torch's own modules from the default generators, which :meth:`default` sets.

    Two strategies with the same seed start from the same weights and see the same samples, cropped and flipped in the
    same way, in the same order. So their difference is paired.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.order = torch.Generator().manual_seed(derive(seed, "order"))
        self.augmentation = torch.Generator().manual_seed(derive(seed, "augmentation"))
        self.mixing = torch.Generator().manual_seed(derive(seed, "mixing"))
        self._lent: dict[str, list[Tensor]] = {}
        self._read: Callable[[], dict[str, list[Tensor]]] = dict  # of the stream that is lent now
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Record where the order and the augmentation of an epoch begin: a loader draws an order at once."""
        self._epoch = {"order": self.order.get_state(), "augmentation": self.augmentation.get_state()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each stream; order and augmentation at the beginning of the running epoch."""
        return {"epoch": self._epoch, "mixing": self.mixing.get_state(), "lent": {**self._lent, **self._read()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken; a loader has to skip the batches that were already used."""
        self.order.set_state(state["epoch"]["order"])
        self.augmentation.set_state(state["epoch"]["augmentation"])
        self.mixing.set_state(state["mixing"])
        self._lent = dict(state["lent"])
        self.begin_epoch()

    @contextmanager
    def default(self, name: str, device: torch.device | None = None) -> Iterator[None]:
        """Make torch's default generators, also of a GPU, the stream "init" or "dropout", where its last use ended."""
        gpus = [device] if device is not None and device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus, device_type="cuda"):
            torch.manual_seed(derive(self.seed, name))
            if name in self._lent:
                cpu, *states = self._lent[name]
                torch.set_rng_state(cpu)
                for gpu, state in zip(gpus, states, strict=False):  # a run may continue on another kind of device
                    torch.cuda.set_rng_state(state, gpu)
            self._read = lambda: {name: [torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in gpus)]}
            try:
                yield
                self._lent |= self._read()
            finally:
                self._read = dict


def derive(seed: int, name: str) -> int:
    """Return the seed of one stream, 63 bits of a hash: neighbouring seeds and names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
