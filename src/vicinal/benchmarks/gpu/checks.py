"""Is it right? Each check is a number held against a limit, on inputs drawn again at each call."""

from __future__ import annotations

import copy
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from vicinal.benchmarks.bench import Bar, Bench, same_work
from vicinal.benchmarks.trainings import Run, Silent, synthetic
from vicinal.config import TrainerConfig
from vicinal.data.store import Streamed
from vicinal.job import run
from vicinal.memory import CONTEXT, needs
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy
from vicinal.runs import checkpoint
from vicinal.training.evaluation import evaluate
from vicinal.training.hardware import Hardware
from vicinal.training.learner import Learner
from vicinal.training.schedules import constant
from vicinal.training.state import Training

STRATEGIES: dict[str, Strategy] = {
    "none": NoMix(),
    "input": InputMixup(1.0),
    "input, per sample": InputMixup(1.0, per_sample=True),
    "manifold at layer1": ManifoldMixup(1.0, ["layer1"]),
    "manifold at layer3, per sample": ManifoldMixup(1.0, ["layer3"], per_sample=True),
    "cutmix": CutMix(1.0),
    "cutmix, per sample": CutMix(1.0, per_sample=True),
}
TOLERANCES = {"fp32": 1e-5, "bf16": 0.03, "fp16": 5e-3, "tf32": 5e-3}
"""Largest relative error of the logits and of the gradient of one step against the CPU in float64; fp32 is without
TF32, which torch leaves on in convolutions."""
DRAWS = 3
CLASSES, BATCH = 10, 64
ZERO = Bar(0, at_least=False)
CPU = "the CPU in float64"
SMALL = ("model=preact_resnet18", "model.width=16")
"""A network with batch norm."""
DROPOUT = ("model=cnn",)
"""One that draws random numbers on the device, and is compiled in seconds."""
DETERMINISTIC = ("trainer.deterministic=true", "trainer.ema_decay=0.9", "trainer.clip_grad_norm=1")


def strategies(bench: Bench) -> None:
    """One step of each strategy: logits and gradient, against the CPU in float64."""
    for precision in ("fp32", "bf16"):
        for name, strategy in STRATEGIES.items():
            step_against_cpu(bench, name, strategy, precision)
    step_against_cpu(bench, "input", STRATEGIES["input"], "tf32")


def step_against_cpu(bench: Bench, name: str, strategy: Strategy, precision: str, *, compiled: bool = False) -> None:
    """The worst of a few draws of weights, images, labels and plan; their seeds are kept."""
    title = f"{name}, {precision}{', compiled' * compiled}: error of a step"
    seeds = [int.from_bytes(os.urandom(4), "big") for _ in range(DRAWS)]
    bench.extra.setdefault("seeds", {})[title] = seeds
    errors = [step_error(strategy, precision, bench.device, seed, compiled) for seed in seeds]
    bench.check(title, CPU, worst(errors), Bar(TOLERANCES[precision], at_least=False))


def step_error(strategy: Strategy, precision: str, device: torch.device, seed: int, compiled: bool = False) -> float:
    """Largest relative error, in the Euclidean norm, of the logits and of the gradient of one step."""
    model, exact, images, labels, plan = drawn(strategy, seed)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        numbers = "fp32" if precision == "tf32" else precision
        ours = make_learner(model, strategy, Hardware(device, numbers, 1, compiled))
        there = images.to(device, memory_format=torch.channels_last)
        _, logits = ours.step(there, labels.to(device), plan.to(device))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    same_work(not ours.stayed_eager, "nothing was compiled")
    reference = make_learner(exact, strategy, Hardware(torch.device("cpu"), "fp32", 1))
    _, expected = reference.step(images.double(), labels, plan)
    return worst([relative_error(logits, expected), relative_error(gradient(model), gradient(exact))])


def worst(errors: Sequence[float]) -> float:
    """The largest; infinite if one is not finite, which ``max`` would pass over."""
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


def drawn(strategy: Strategy, seed: int) -> tuple[nn.Module, nn.Module, Tensor, Tensor, MixPlan]:
    """A network, the same in float64, images, labels and a plan."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = smooth_network()
    images = torch.randn(BATCH, 3, 32, 32, generator=generator)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return model, copy.deepcopy(model).double(), images, labels, strategy.sample(images.shape, generator)


def smooth_network() -> nn.Module:
    """Three blocks, layer1 to layer3, without kinks.

    A ReLU whose input rounds to the other side of 0 has another slope. That alone makes an error of up to 1e-2 in the
    gradient of preact_resnet18 in fp32, with logits that agree to 2e-6.
    """
    network = nn.Sequential()
    for number, (channels, wider) in enumerate(pairwise((3, 16, 32, 64)), start=1):
        convolution = nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False)
        network.add_module(f"layer{number}", nn.Sequential(convolution, nn.BatchNorm2d(wider), nn.SiLU()))
    network.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)))
    return network


def make_learner(model: nn.Module, strategy: Strategy, hardware: Hardware) -> Learner:
    """A learner by plain SGD with a constant rate, for whole batches of :data:`BATCH`; fused, as ``conf/`` has it."""
    config = TrainerConfig(epochs=1, batch_size=BATCH, compile=hardware.compile)
    make_optimizer = partial(SGD, lr=0.01, fused=True)
    return Learner(model, make_optimizer, constant, strategy, config, hardware, steps_per_epoch=1)


def gradient(model: nn.Module) -> Tensor:
    """Of all weights, in one row."""
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Distance over length, in float64; NaN or infinite where ours is not finite."""
    expected = expected.cpu().double()
    return float((ours.cpu().double() - expected).norm() / expected.norm())


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
    run = small_run(bench, steps, *words, "trainer.log_every=1000")
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

    def after_step(self, training: Training) -> None:
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

    def after_step(self, training: Training) -> None:
        self._left -= 1
        if not self._left:
            checkpoint.save(self._file, training.state_dict())
            raise StoppedError


def fp16(bench: Bench) -> None:
    """Half precision: the unscaled gradient is right, and a step whose gradient overflows moves no weight."""
    step_against_cpu(bench, "input", STRATEGIES["input"], "fp16")
    moved, scale = fp16_overflow(bench.device)
    bench.check("fp16: weights that a step with an overflow moves", "", moved, ZERO)
    bench.check("fp16: scale after it, less half of the scale before", "", abs(scale - 0.5), ZERO)


def fp16_overflow(device: torch.device) -> tuple[float, float]:
    """How many weights a step moves whose scaled gradient is infinite, and what the scale is multiplied with."""
    model, _, images, labels, plan = drawn(NoMix(), 0)
    learner = make_learner(model, NoMix(), Hardware(device, "fp16", 1))
    too_large = 2.0**100
    learner.scaler.load_state_dict({**learner.scaler.state_dict(), "scale": too_large})
    before = _weights(model).to(device)
    there = images.to(device, memory_format=torch.channels_last)
    learner.step(there, labels.to(device), plan.to(device))
    return float((before != _weights(model)).sum()), learner.scaler.get_scale() / too_large


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def streaming(bench: Bench) -> None:
    """Batches of data that stay in the host's memory are those of data on the device."""
    resident, streamed = (
        small_run(bench, 6, "mixup=none", f"trainer.stream={stream}", "trainer.compile=false").loaders.train
        for stream in ("false", "true")
    )
    same_work(isinstance(streamed.store, Streamed), "nothing is streamed")
    (ours, theirs) = (
        loader.epoch(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
        for loader in (resident, streamed)
    )
    same = [
        torch.equal(one, other) and torch.equal(labels, others)
        for (one, labels), (other, others) in zip(ours, theirs, strict=True)
    ]
    same_work(len(same) == 6, "not all batches")
    bench.check("streamed batches that differ", "resident ones", same.count(False), ZERO)


def compiled(bench: Bench) -> None:
    """Compiled steps are right, and there are no more graphs than there must be."""
    step_against_cpu(bench, "manifold at layer1", STRATEGIES["manifold at layer1"], "fp32", compiled=True)
    if not bench.quick:
        for name in ("input", "manifold at layer1", "cutmix"):
            step_against_cpu(bench, name, STRATEGIES[name], "bf16", compiled=True)
    graphs(bench, "manifold")
    graphs(bench, "cutmix")


def graphs(bench: Bench, mixup: str) -> None:
    """Graphs that an epoch and an evaluation compile."""
    from torch._dynamo.utils import counters

    counters.clear()
    network = ("model=mlp", "model.hidden=[32,32]") if bench.quick else SMALL
    blocks = ["hidden1", "hidden2"] if bench.quick else ["layer1", "layer2"]
    layers = (f"mixup.layers=[input,{','.join(blocks)}]",) if mixup == "manifold" else ()
    words = (f"mixup={mixup}", *layers, "trainer.compile=true", "trainer.eval_batch_size=64")
    run = small_run(bench, 24, *words, network=network)
    run.epoch()
    evaluate(run.learner.evaluated, islice(run.loaders.test.batches(), 1), run.hardware, run.learner.evaluation)
    # One for each block, one for all other batches, one for evaluation, one for the making of augmented batches.
    expected = (len(blocks) if layers else 0) + 3
    found = counters["stats"]["unique_graphs"]
    bench.check(f"graphs of mixup={mixup}, off the {expected} that there must be", "", abs(found - expected), ZERO)
    bench.check(f"breaks in the graphs of mixup={mixup}", "", len(counters["graph_break"]), ZERO)


def memory_peak(bench: Bench) -> None:
    """What a run's tensors and libraries take at most is what a parallel sweep would have claimed for it, or less."""
    name, against = "peak memory of a run", "what a parallel sweep claims for it, less CUDA's own"
    quick = ("trainer.compile=false",) if bench.quick else ()
    job = synthetic(
        bench.folder,
        (4 if bench.quick else 20) * BATCH,
        *SMALL,
        f"trainer.batch_size={BATCH}",
        "trainer.epochs=2",
        *quick,
    )
    claim = needs(job, job.load_data()) - CONTEXT
    peak = run(job)["peak_memory"]
    if peak is None:
        bench.skip(name, against, "a run's peak is measured on a GPU alone", Bar(1, at_least=False))
        return
    bench.extra["memory"] = {"peak": peak, "claim": claim}
    bench.check(name, against, peak / claim, Bar(1, at_least=False))


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
