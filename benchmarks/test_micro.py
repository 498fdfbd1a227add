"""Microseconds of the parts that every step pays for: pytest benchmarks -n 0 (see also scripts/benchmark.py)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.suite.loading import our_loader
from benchmarks.suite.synthetic import images
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, NoMix, Strategy
from vicinal.tasks import CLASSIFICATION
from vicinal.training.evaluation import Metrics

SHAPE = (128, 3, 32, 32)
CPU = torch.device("cpu")
STRATEGIES = {
    "none": NoMix(),
    "input": InputMixup(1.0),
    "manifold": ManifoldMixup(1.0, ["layer1", "layer2"]),
    "cutmix": CutMix(1.0),
    "input per sample": InputMixup(1.0, per_sample=True),
    "cutmix per sample": CutMix(1.0, per_sample=True),
}

Benchmark = Callable[..., Any]
"""pytest-benchmark's fixture."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("augmented", [True, False])
def test_batch_of_the_loader(benchmark: Benchmark, augmented: bool):
    loader = our_loader(images(10_000), CPU, augmented=augmented)
    streams = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    state = {"batches": iter(())}

    def batch():
        made = next(state["batches"], None)
        if made is None:
            state["batches"] = loader.epoch(*streams)
            made = next(state["batches"])
        return made

    made, labels = benchmark(batch)
    assert made.shape[1:] == (3, 32, 32)
    assert len(made) == len(labels)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_plan(benchmark: Benchmark, strategy: Strategy):
    assert len(benchmark(strategy.sample, SHAPE, torch.Generator().manual_seed(0)).lam) == 128


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_mix(benchmark: Benchmark, strategy: Strategy, layout: torch.memory_format):
    plan = strategy.sample(SHAPE, torch.Generator().manual_seed(0))
    batch = torch.randn(SHAPE).contiguous(memory_format=layout)
    assert benchmark(plan.mix, batch, torch.empty_like(batch)).shape == SHAPE


def test_metrics_of_a_batch(benchmark: Benchmark):
    metrics, logits, labels = Metrics(CLASSIFICATION.metrics, CPU), torch.randn(500, 10), torch.randint(10, (500,))
    benchmark(lambda: metrics.update(CLASSIFICATION.read(logits), labels))
    assert metrics.compute()["nll"] > 0
