"""Are trainings right? The real loop on a few batches: bits, waits, graphs, streaming."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.trainings import Run, Silent
from vicinal.runs import checkpoint
from vicinal.tasks import CLASSIFICATION
from vicinal.training.evaluation import evaluate
from vicinal.training.state import TrainState

ZERO = Bar(0, at_least=False)
BATCH = 64
SMALL = ("model=preact_resnet18", "model.width=16")
"""A network with batch norm."""
DROPOUT = ("model=cnn",)
"""One that draws random numbers on the device, and is compiled in seconds."""
TINY = ("model=mlp", "model.hidden=[32,32]")
"""One for quick runs, in which a network need not be slow."""
DETERMINISTIC = ("trainer.deterministic=true", "trainer.ema_decay=0.9", "trainer.clip_grad_norm=1")


def waits(bench: Bench) -> None:
    """Steps of the real loop, loader and bookkeeping included, in which the host waits for the device."""
    for mixup in ("none", "input", "manifold", "cutmix"):
        waits_of(bench, f"mixup={mixup}", "trainer.compile=false")
    waits_of(bench, "mixup=cutmix", "mixup.per_sample=true", "trainer.compile=false")
    if bench.device.type == "cuda":
        waits_of(bench, "mixup=input", "trainer.compile=false", "trainer.precision=fp16")
        waits_of(bench, "mixup=input", "trainer.compile=true")


def waits_of(bench: Bench, *words: str) -> None:
    """Count the calls of an epoch that torch says synchronise, without its first step and its last look."""
    steps = 70  # the mixing statistics are folded every 64 batches
    run = small_run(bench, steps, *words, "trainer.log_every=1000", network=TINY if bench.rehearses else DROPOUT)
    run.epoch()
    with Watch(run.hardware.device, steps) as watch:
        run.epoch(watch)
    if watch.places:
        bench.extra.setdefault("waits", {})[" ".join(words)] = watch.places
    bench.check(f"waits for the device in {steps} steps, {' '.join(words)}", "", len(watch.places), ZERO)


class Watch(Silent):
    """Notes where the host waits, from the end of the first step of an epoch to that of the last but one.

    Args:
        device: that is waited for.
        steps: of the epoch.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        super().__init__()
        self._cuda, self._steps, self._done = device.type == "cuda", steps, 0
        self._catcher = warnings.catch_warnings(record=True, action="always")
        self._caught: list[warnings.WarningMessage] = []

    @property
    def places(self) -> list[str]:
        """File and line of each wait."""
        return [_place(each) for each in self._caught if "synchroniz" in str(each.message)]

    def after_step(self, training: TrainState) -> None:
        self._done += 1
        if self._done == 1:
            self._mode("warn")
        elif self._done == self._steps - 1:
            self._mode("default")

    def _mode(self, mode: str) -> None:
        if self._cuda:
            torch.cuda.set_sync_debug_mode(mode)

    def __enter__(self) -> Watch:
        caught = self._catcher.__enter__()
        assert caught is not None  # it records
        self._caught = caught
        return self

    def __exit__(self, *error: object) -> None:
        self._mode("default")
        self._catcher.__exit__(None, None, None)


def _place(warning: warnings.WarningMessage) -> str:
    return f"{re.sub(r'.*/(?=vicinal/|torch/)', '', warning.filename)}:{warning.lineno}"


def determinism(bench: Bench) -> None:
    """The same training twice, with ``trainer.deterministic=true``."""
    deterministic(bench, "mixup=manifold", "trainer.compile=false", network=SMALL)
    deterministic(bench, "mixup=manifold", "trainer.compile=false", network=DROPOUT)
    deterministic(bench, "mixup=cutmix", "mixup.per_sample=true", "trainer.compile=auto", network=DROPOUT)


def deterministic(bench: Bench, *words: str, network: Sequence[str]) -> None:
    """Count the tensors in which two trainings of the same words differ."""
    first, second = (small_run(bench, 5, *DETERMINISTIC, *words, network=network) for _ in range(2))
    for each in (first, second):
        each.epoch()
        each.epoch()
    count = len(differences(first.training.state_dict(), second.training.state_dict()))
    title = f"deterministic training, {' '.join((*network, *words))}: tensors that differ"
    bench.check(title, "the same once more", count, ZERO)


def cuda_graphs(bench: Bench) -> None:
    """The same training with the kernels of a step launched as one recorded graph."""
    for mixup in ("input", "manifold"):
        cuda_graphs_of(bench, f"mixup={mixup}")


def cuda_graphs_of(bench: Bench, *words: str) -> None:
    """Count the tensors that differ, and the graphs that were not recorded; a CPU trains twice without any."""
    from torch._dynamo.utils import counters

    modes = ("true", "max") if bench.device.type == "cuda" else ("false", "false")
    counters.clear()
    states = []
    for mode in modes:
        run = small_run(bench, 12, *DETERMINISTIC, *words, f"trainer.compile={mode}", network=DROPOUT)
        run.epoch()
        states.append(run.training.state_dict())
    title = f"trainer.compile=max, {' '.join(words)}"
    bench.check(f"{title}: tensors that differ", "trainer.compile=true", len(differences(*states)), ZERO)
    bench.check(f"{title}: CUDA graphs skipped", "", counters["inductor"]["cudagraph_skips"], ZERO)


def resume(bench: Bench) -> None:
    """A training that is stopped inside its second epoch, saved, loaded and continued, against one that is not."""
    resumed(bench, "mixup=manifold", "trainer.compile=false", network=SMALL)
    resumed(bench, "mixup=input", "trainer.compile=false", network=DROPOUT)


def resumed(bench: Bench, *words: str, network: Sequence[str]) -> None:
    """Count the tensors that differ at the end."""
    file = bench.folder / "checkpoint.pt"
    whole, stopped, continued = (small_run(bench, 5, *DETERMINISTIC, *words, network=network) for _ in range(3))
    whole.epoch()
    whole.epoch()
    stopped.epoch()
    with suppress(StoppedError):
        stopped.epoch(SaveAndStop(2, file))
    continued.training.load_state_dict(checkpoint.load(file))
    continued.epoch()
    count = len(differences(whole.training.state_dict(), continued.training.state_dict()))
    title = f"resumed training, {' '.join((*network, *words))}: tensors that differ"
    bench.check(title, "one that was not stopped", count, ZERO)


class StoppedError(Exception):
    """The training was stopped on purpose."""


class SaveAndStop(Silent):
    """Saves the training after some steps of an epoch, as a run that is asked to stop does, and ends the epoch."""

    def __init__(self, steps: int, file: Path) -> None:
        super().__init__()
        self._left, self._file = steps, file

    def after_step(self, training: TrainState) -> None:
        self._left -= 1
        if not self._left:
            checkpoint.save(self._file, training.state_dict())
            raise StoppedError


def graphs_of_strategies(bench: Bench) -> None:
    """Check the number of graphs, where blocks are mixed and where images are."""
    graphs(bench, "manifold")
    graphs(bench, "cutmix")


def graphs(bench: Bench, mixup: str) -> None:
    """Graphs that an epoch and an evaluation compile."""
    from torch._dynamo.utils import counters

    counters.clear()
    network = TINY if bench.quick else SMALL
    blocks = ["hidden1", "hidden2"] if bench.quick else ["layer1", "layer2"]
    layers = (f"mixup.layers=[input,{','.join(blocks)}]",) if mixup == "manifold" else ()
    words = (f"mixup={mixup}", *layers, "trainer.compile=true", "trainer.eval_batch_size=64")
    run = small_run(bench, 24, *words, network=network)
    run.epoch()
    batches = islice(run.loaders.test.batches(), 1)
    evaluate(CLASSIFICATION, run.learner.eval_model, batches, run.hardware, run.learner.eval_forward)
    # One for each block, one for all other batches, one for evaluation, one for the making of augmented batches, and
    # one more where only some of these are mixed as they are made, on a GPU.
    expected = (len(blocks) + run.learner.mixes_as_made if layers else 0) + 3
    found = counters["stats"]["unique_graphs"]
    bench.check(f"graphs of mixup={mixup}, off the {expected} that there must be", "", abs(found - expected), ZERO)
    bench.check(f"breaks in the graphs of mixup={mixup}", "", len(counters["graph_break"]), ZERO)


def small_run(bench: Bench, steps: int, *words: str, network: Sequence[str] = DROPOUT) -> Run:
    """A training of so many steps per epoch, of a small network."""
    batch = 8 if bench.quick else BATCH
    own = (f"trainer.batch_size={batch}", "trainer.threads=1")
    return Run(bench.folder, steps * batch, *network, *own, *words)


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Names of the tensors and numbers in which two states of a training differ; its clock is left out."""
    theirs = dict(_leaves(second))
    ours = dict(_leaves(first))
    return [name for name in ours.keys() | theirs.keys() if not _same(ours.get(name), theirs.get(name))]


def _leaves(state: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(state, Mapping):
        for key, value in state.items():
            if key != "clock":
                yield from _leaves(value, f"{name}.{key}")
    elif isinstance(state, Sequence) and not isinstance(state, str):
        for number, value in enumerate(state):
            yield from _leaves(value, f"{name}.{number}")
    else:
        yield name, state


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.cpu(), other.cpu())
    return one == other
