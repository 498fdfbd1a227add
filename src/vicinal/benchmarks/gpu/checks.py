"""Is it right? Each check is a number held against a limit, on inputs that are drawn anew each time it is called."""

from __future__ import annotations

import copy
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

from vicinal.benchmarks.bench import Bar, Bench
from vicinal.benchmarks.timing import Spread
from vicinal.benchmarks.trainings import Run, Silent, synthetic
from vicinal.config import TrainerConfig
from vicinal.job import run
from vicinal.memory import needs
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, NoMix, Strategy
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


def strategies(bench: Bench) -> None:
    """One step of each strategy: logits and gradient, against the CPU in float64."""
    for precision in ("fp32", "bf16"):
        for name, strategy in STRATEGIES.items():
            strategy_against_cpu(bench, name, strategy, precision)
    if bench.device.type == "cuda":
        worst = max(step_error(STRATEGIES["input"], "fp32", bench, tf32=True) for _ in range(DRAWS))
        _row(
            bench,
            "input, fp32 with TF32 in convolutions: error of a step",
            "the CPU in float64",
            worst,
            TOLERANCES["tf32"],
        )


def strategy_against_cpu(bench: Bench, name: str, strategy: Strategy, precision: str) -> None:
    """The worst of a few draws of weights, images, labels and plan."""
    worst = max(step_error(strategy, precision, bench) for _ in range(DRAWS))
    _row(bench, f"{name}, {precision}: error of a step", "the CPU in float64", worst, TOLERANCES[precision])


def step_error(
    strategy: Strategy, precision: str, bench: Bench, *, compiled: bool = False, tf32: bool = False
) -> float:
    """Largest relative error, in the Euclidean norm, of the logits and of the gradient of one step."""
    model, exact, images, labels = _drawn()
    plan = strategy.sample(images.shape, fresh())
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        ours = make_learner(model, strategy, Hardware(bench.device, precision, 1, compiled))
        layout = torch.channels_last
        there = images.to(bench.device, memory_format=layout)
        _, logits = ours.step(there, labels.to(bench.device), plan.to(bench.device))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    reference = make_learner(exact, strategy, Hardware(torch.device("cpu"), "fp32", 1))
    _, expected = reference.step(images.double(), labels, plan)
    return max(relative_error(logits, expected), relative_error(gradient(model), gradient(exact)))


def fresh() -> torch.Generator:
    """A generator that nobody has seen."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))


def make_learner(model: nn.Module, strategy: Strategy, hardware: Hardware, **settings: Any) -> Learner:
    """A learner by plain SGD with a constant rate, for whole batches of :data:`BATCH`."""
    config = TrainerConfig(epochs=1, batch_size=BATCH, compile=hardware.compile, **settings)
    return Learner(model, partial(SGD, lr=0.01), constant, strategy, config, hardware, steps_per_epoch=1)


def gradient(model: nn.Module) -> Tensor:
    """Of all weights, in one row."""
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Distance over length, in float64; NaN where ours is not finite, which no limit holds for."""
    expected = expected.double().cpu()
    return float((ours.double().cpu() - expected).norm() / expected.norm())


def waits(bench: Bench) -> None:
    """Steps of the real loop, loader and bookkeeping included, in which the host waits for the device."""
    for mixup in ("none", "input", "manifold", "cutmix"):
        for more in ((), ("mixup.per_sample=true",)) if mixup == "cutmix" else ((),):
            waits_of(bench, f"mixup={mixup}", *more, "trainer.compile=false")
    if bench.device.type == "cuda":  # a CPU takes a minute to compile, and there is nothing to wait for
        waits_of(bench, "mixup=input", "trainer.compile=true")


def waits_of(bench: Bench, *words: str) -> None:
    """Count the calls of an epoch that torch says synchronise, without its first steps and its last look."""
    steps = 8 if bench.quick else 70  # the mixing statistics are folded every 64 batches
    run = small_run(bench, steps, *words, "trainer.log_every=1000")
    run.epoch()
    watch = Watch(run, steps)
    run.epoch(watch)
    if watch.places:
        bench.extra.setdefault("waits", {})[" ".join(words)] = watch.places
    _row(bench, f"waits for the device in {steps} steps, {' '.join(words)}", "", float(len(watch.places)), 0)


class Watch(Silent):
    """Notes where the host waits, from the end of the first step of an epoch to that of the last but one."""

    def __init__(self, run: Run, steps: int) -> None:
        super().__init__()
        self.places: list[str] = []
        self._steps, self._done = steps, 0
        self._watches = run.hardware.device.type == "cuda"
        self._catcher = warnings.catch_warnings(record=True, action="always")
        self._caught: list[warnings.WarningMessage] = []

    def after_step(self, training: Training) -> None:
        self._done += 1
        if self._done == 1:
            self._caught = self._catcher.__enter__() or []
            if self._watches:
                torch.cuda.set_sync_debug_mode("warn")
        elif self._done == self._steps - 1:
            if self._watches:
                torch.cuda.set_sync_debug_mode("default")
            self._catcher.__exit__(None, None, None)
            self.places = [_place(each) for each in self._caught if "synchroniz" in str(each.message)]


def _place(warning: warnings.WarningMessage) -> str:
    return f"{re.sub(r'.*/(?=vicinal/|torch/)', '', warning.filename)}:{warning.lineno}"


def determinism(bench: Bench) -> None:
    """The same training twice, with ``trainer.deterministic=true``."""
    for words in (("mixup=manifold", "trainer.compile=false"), ("mixup=cutmix", "mixup.per_sample=true")):
        deterministic(bench, *words)


def deterministic(bench: Bench, *words: str) -> None:
    """Count the tensors in which two trainings of the same words differ."""
    first, second = (small_run(bench, 5, *DETERMINISTIC, *words) for _ in range(2))
    for each in (first, second):
        each.epoch()
        each.epoch()
    count = len(differences(first.training.state_dict(), second.training.state_dict()))
    _row(bench, f"deterministic training, {' '.join(words)}: tensors that differ", "the same once more", count, 0)


DETERMINISTIC = ("trainer.deterministic=true", "trainer.ema_decay=0.9", "trainer.clip_grad_norm=1")


def cuda_graphs(bench: Bench) -> None:
    """The same training with the kernels of a step launched as one recorded graph."""
    name, against = "trainer.compile=max: tensors that differ", "trainer.compile=true"
    for mixup in ("input", "manifold"):
        if bench.device.type != "cuda":
            bench.skip(f"{name}, mixup={mixup}", against, "a CPU has no CUDA graphs", Bar(0, at_least=False))
            continue
        states = []
        for compiled in ("true", "max"):
            run = small_run(bench, 12, *DETERMINISTIC, f"mixup={mixup}", f"trainer.compile={compiled}")
            run.epoch()
            states.append(run.training.state_dict())
        _row(bench, f"{name}, mixup={mixup}", against, len(differences(*states)), 0)


def resume(bench: Bench) -> None:
    """A training that is stopped inside its second epoch, saved, loaded and continued, against one that is not."""
    for words in (("mixup=manifold",), ("mixup=input", "trainer.precision=bf16")):
        resumed(bench, *words, "trainer.compile=false")


def resumed(bench: Bench, *words: str) -> None:
    """Count the tensors that differ at the end."""
    file = bench.folder / "checkpoint.pt"
    whole, stopped, continued = (small_run(bench, 5, *DETERMINISTIC, *words) for _ in range(3))
    whole.epoch()
    whole.epoch()
    stopped.epoch()
    with suppress(StoppedError):
        stopped.epoch(SaveAndStop(2, file))
    continued.training.load_state_dict(checkpoint.load(file))
    continued.epoch()
    count = len(differences(whole.training.state_dict(), continued.training.state_dict()))
    _row(bench, f"resumed training, {' '.join(words)}: tensors that differ", "one that was not stopped", count, 0)


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
    """Half precision: the unscaled gradient is right, and a step whose gradient overflows changes nothing."""
    worst = max(fp16_error(bench) for _ in range(DRAWS))
    _row(bench, "fp16 with its scaler: error of a step", "the CPU in float64", worst, TOLERANCES["fp16"])
    moved, scale = fp16_overflow(bench)
    _row(bench, "fp16: weights that a step with an overflow moves", "", moved, 0)
    _row(bench, "fp16: scale after it", "the scale before", scale, 0.5)


def fp16_error(bench: Bench) -> float:
    """As :func:`step_error`; the scaler has taken its scale out of the gradient before the optimizer's step."""
    model, exact, images, labels = _drawn()
    ours = make_learner(model, NoMix(), Hardware(bench.device, "fp16", 1))
    plan = NoMix().sample(images.shape, torch.Generator())
    there = images.to(bench.device, memory_format=torch.channels_last)
    _, logits = ours.step(there, labels.to(bench.device), plan.to(bench.device))
    _, expected = make_learner(exact, NoMix(), Hardware(torch.device("cpu"), "fp32", 1)).step(
        images.double(), labels, plan
    )
    return max(relative_error(logits, expected), relative_error(gradient(model), gradient(exact)))


def fp16_overflow(bench: Bench) -> tuple[float, float]:
    """How many weights a step moves whose scaled gradient is infinite, and what the scale is multiplied with."""
    model, _, images, labels = _drawn()
    learner = make_learner(model, NoMix(), Hardware(bench.device, "fp16", 1))
    too_large = 2.0**100
    learner.scaler.load_state_dict({**learner.scaler.state_dict(), "scale": too_large})
    before = _weights(model)
    plan = NoMix().sample(images.shape, torch.Generator())
    there = images.to(bench.device, memory_format=torch.channels_last)
    learner.step(there, labels.to(bench.device), plan.to(bench.device))
    return float((before != _weights(model)).sum()), learner.scaler.get_scale() / too_large


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


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


def _drawn() -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A network, the same in float64, images and labels."""
    generator = fresh()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = smooth_network()
    images = torch.randn(BATCH, 3, 32, 32, generator=generator)
    return model, copy.deepcopy(model).double(), images, torch.randint(CLASSES, (BATCH,), generator=generator)


def streaming(bench: Bench) -> None:
    """Batches of data that stay in the host's memory are those of data on the device."""
    loaders = [
        small_run(bench, 6, "mixup=none", f"trainer.stream={stream}", "trainer.compile=false").loaders.train
        for stream in ("false", "true")
    ]
    streams = [(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)) for _ in loaders]
    differ = 0
    for (ours, labels), (streamed, others) in zip(
        *(loader.epoch(*each) for loader, each in zip(loaders, streams, strict=True)), strict=True
    ):
        differ += not (torch.equal(ours, streamed) and torch.equal(labels, others))
    _row(bench, "streamed batches that differ", "resident ones", differ, 0)


def compiled(bench: Bench) -> None:
    """Compiled steps are right, and there is one graph per block, one more, one for evaluation, one for batches."""
    worst = step_error(STRATEGIES["manifold at layer1"], "fp32", bench, compiled=True)
    _row(bench, "manifold at layer1, fp32, compiled: error of a step", "the CPU in float64", worst, TOLERANCES["fp32"])
    graphs(bench)


def graphs(bench: Bench) -> None:
    """Graphs that an epoch of manifold mixup and an evaluation compile."""
    from torch._dynamo.utils import counters

    counters.clear()
    network = ("model=mlp", "model.hidden=[32,32]") if bench.quick else SMALL
    blocks = ["hidden1", "hidden2"] if bench.quick else ["layer1", "layer2"]
    words = (f"mixup.layers=[input,{','.join(blocks)}]", "trainer.compile=true", "trainer.eval_batch_size=64")
    run = small_run(bench, 24, "mixup=manifold", *words, network=network)
    run.epoch()
    evaluate(run.learner.evaluated, islice(run.loaders.test.batches(), 1), run.hardware, run.learner.evaluation)
    # One for each block, one for all other batches, one for evaluation, one for the making of augmented batches.
    _row(bench, "graphs of manifold mixup at two blocks", "", counters["stats"]["unique_graphs"], len(blocks) + 3)
    _row(bench, "breaks in them", "", len(counters["graph_break"]), 0)


def memory_peak(bench: Bench) -> None:
    """What a run takes at most is what a parallel sweep would have claimed for it, or less."""
    name, against = "peak memory of a run", "what a parallel sweep claims for it"
    quick = ("trainer.compile=false",) if bench.quick else ()
    job = synthetic(
        bench.folder,
        (4 if bench.quick else 20) * BATCH,
        *SMALL,
        f"trainer.batch_size={BATCH}",
        "trainer.epochs=2",
        *quick,
    )
    claim = needs(job, job.load_data())
    peak = run(job)["peak_memory"]
    if peak is None:
        bench.skip(name, against, "a run's peak is measured on a GPU alone", Bar(1, at_least=False))
        return
    bench.extra["memory"] = {"peak": peak, "claim": claim}
    bench.row(name, against, Spread.of([peak / claim]), bar=Bar(1, at_least=False))


SMALL = ("model=preact_resnet18", "model.width=16")


def small_run(bench: Bench, steps: int, *words: str, network: Sequence[str] = ()) -> Run:
    """A training of so many steps per epoch, of a small network where none is given."""
    network = network or (("model=cnn",) if bench.quick else SMALL)
    batch = 16 if bench.quick else BATCH
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


def _row(bench: Bench, name: str, against: str, value: float, limit: float) -> None:
    bench.row(name, against, Spread.of([value]), unit="", bar=Bar(limit, at_least=False))
