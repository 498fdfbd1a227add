"""Is a step right? Logits and gradient, against the CPU in float64, on inputs drawn again at each call."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import SGD

from benchmarks.suite.bench import Bar, Bench, same_work
from vicinal.config.schema import TrainerConfig
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, NoMix, Strategy
from vicinal.training.hardware import Hardware
from vicinal.training.learner import Learner
from vicinal.training.schedules import constant

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
CPU = "the CPU in float64"
ZERO = Bar(0, at_least=False)


def strategies(bench: Bench) -> None:
    """One step of each strategy: logits and gradient, against the CPU in float64."""
    for precision in ("fp32", "bf16"):
        for name, strategy in STRATEGIES.items():
            step_against_cpu(bench, name, strategy, precision)
    step_against_cpu(bench, "input", STRATEGIES["input"], "tf32")


def compiled(bench: Bench) -> None:
    """Steps of compiled networks."""
    step_against_cpu(bench, "manifold at layer1", STRATEGIES["manifold at layer1"], "fp32", compiled=True)
    if not bench.quick:
        for name in ("input", "manifold at layer1", "cutmix"):
            step_against_cpu(bench, name, STRATEGIES[name], "bf16", compiled=True)


def step_against_cpu(bench: Bench, name: str, strategy: Strategy, precision: str, *, compiled: bool = False) -> None:
    """The worst of a few draws of weights, images, labels and plan, of one in a rehearsal; their seeds are kept."""
    title = f"{name}, {precision}{', compiled' * compiled}: error of a step"
    seeds = [int.from_bytes(os.urandom(4), "big") for _ in range(1 if bench.rehearses else DRAWS)]
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
        logits = ours.step(there, labels.to(device), plan.to(device)).outputs
    finally:
        torch.backends.cudnn.allow_tf32 = before
    same_work(not ours.stayed_eager, "nothing was compiled")
    reference = make_learner(exact, strategy, Hardware(torch.device("cpu"), "fp32", 1))
    expected = reference.step(images.double(), labels, plan).outputs
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
    """Return all weights in one row."""
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Distance over length, in float64; NaN or infinite where ours is not finite."""
    expected = expected.cpu().double()
    return float((ours.cpu().double() - expected).norm() / expected.norm())


def fp16(bench: Bench) -> None:
    """Half precision: the unscaled gradient is right, and a step whose gradient overflows moves no weight."""
    step_against_cpu(bench, "input", STRATEGIES["input"], "fp16")
    moved, scale = fp16_overflow(bench.device)
    bench.check("fp16: weights that a step with an overflow moves", "", moved, ZERO)
    bench.check("fp16: scale after it, less half of the scale before", "", abs(scale - 0.5), ZERO)


def fp16_overflow(device: torch.device) -> tuple[float, float]:
    """Count the weights that a step with an infinite scaled gradient moves; return the factor of the scale too."""
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
