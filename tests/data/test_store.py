"""Copies to a GPU, seen from the host by stand-ins for streams and events; tests/test_gpu.py has the bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from vicinal.data import Samples
from vicinal.data.store import AHEAD, HostDataset, SideCopies

CPU, GPU = torch.device("cpu"), torch.device("cuda")
Said = list[tuple[object, ...]]


class Stream:
    """Notes what it is asked for."""

    def __init__(self, name: str, said: Said) -> None:
        self.name, self.said = name, said

    def record_event(self) -> str:
        self.said.append((self.name, "event"))
        return "copied"

    def wait_event(self, event: str) -> None:
        self.said.append((self.name, "waits for", event))


class Batch:
    """Notes where it is copied, and for whom its memory is kept."""

    def __init__(self, said: Said) -> None:
        self.said = said

    def to(self, device: torch.device, non_blocking: bool) -> Batch:
        self.said.append(("copy to", device, non_blocking))
        return self

    def record_stream(self, stream: Stream) -> None:
        self.said.append(("memory is kept for", stream.name))


def test_a_batch_is_copied_on_a_side_stream_and_the_computing_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    said: Said = []

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        said.append(("on", stream.name))
        yield
        said.append(("off", stream.name))

    monkeypatch.setattr("torch.cuda.Stream", lambda device: Stream("side", said))
    monkeypatch.setattr("torch.cuda.stream", on)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: Stream("computing", said))
    copies = SideCopies(GPU)
    copy, event = copies.start(Batch(said))  # type: ignore[arg-type]
    assert said == [("on", "side"), ("copy to", GPU, True), ("side", "event"), ("off", "side")]
    said.clear()
    assert copies.ready(copy, event) is copy
    assert said == [("computing", "waits for", "copied"), ("memory is kept for", "computing")]


def test_nothing_is_copied_on_a_cpu() -> None:
    batch = torch.zeros(2)
    copy, event = SideCopies(CPU).start(batch)
    assert (copy is batch, event) == (True, None)
    assert SideCopies(CPU).ready(copy, event) is batch


class Late:
    """An event: the copy is made when somebody waits for it, at the latest."""

    def __init__(self, batch: Tensor) -> None:
        self.batch, self.copy = batch, torch.empty_like(batch)

    def synchronize(self) -> None:
        self.copy.copy_(self.batch)


class LateCopies(SideCopies):
    """Copies that are as late as they may be, so that memory that is overwritten too early is seen."""

    def start(self, batch: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        event = Late(batch)
        return event.copy, event  # type: ignore[return-value]

    def ready(self, copy: Tensor, event: torch.cuda.Event | None) -> Tensor:
        return copy


def test_staged_memory_is_not_overwritten_before_it_is_copied() -> None:
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)
    host = HostDataset(Samples(images, torch.arange(60)), 4, CPU, torch.contiguous_format)
    host._copies = LateCopies(CPU)
    chunks = torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(4)
    for _ in range(2):  # the second epoch begins with what the first has staged
        batches = list(host.fetch(chunks))
        copied = len(batches) - (AHEAD + 1)  # nobody has waited for the last ones
        for batch, chunk in zip(batches[:copied], chunks, strict=False):
            assert batch.flatten().tolist() == chunk.tolist()
