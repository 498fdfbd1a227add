"""Cost of tracking: a job with W&B against the same job without it; a step with its ledger against one without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.processes import Trainings
from benchmarks.suite.sweeping import write_mnist
from benchmarks.suite.timing import Case, Spread
from benchmarks.suite.trainings import Run
from vicinal.mixing import MixPlan
from vicinal.training.mixing_stats import MixingStats
from vicinal.training.state import TrainState

MODES = ("offline", "disabled")
BAR = Bar(2, at_least=False)
LEDGER = Bar(1, at_least=False)


def measure(bench: Bench) -> None:
    """Seconds of steps and evaluation in the job, W&B on against off; the whole process; mixing statistics."""
    _ledger(bench)
    count, epochs = (300, 1) if bench.quick else (20_000, 4)
    write_mnist(bench.folder / "mnist", count)
    mnist = f"experiment=mnist_cnn dataset.root={bench.folder / 'mnist'} dataset.val_size={count // 12}"
    jobs = {
        "the default job": ["trainer.epochs=2"] if bench.quick else [],
        f"mnist_cnn, {count} images": [*mnist.split(), f"trainer.epochs={epochs}"],
    }
    for name, words in jobs.items():
        _cost(bench, name, words, rounds=20 if words == [] else 5)


def _ledger(bench: Bench) -> None:
    """Epochs of the default job, whose steps are the shortest, with their ledger and without, in turns."""
    for name, words in {"input": [], "cutmix, per sample": ["mixup=cutmix", "mixup.per_sample=true"]}.items():
        epochs = 20 if bench.quick else 400
        run = Run(bench.folder, None, *words, f"trainer.epochs={2 * epochs + 4}", f"trainer.threads={bench.threads}")
        cases = [Case("with", run.epoch), Case("without", run.epoch, prepare=partial(_unnoted, run.training))]
        timings = bench.time(f"the default job, {name}: the ledger", cases, epochs)
        added = Spread(*(100 * (ratio - 1) for ratio in timings.ratio("with", "without")))
        bench.row(f"the default job, {name}: steps with the ledger", "without it", added, unit="%", bar=LEDGER)


class _Closed(MixingStats):
    """Record nothing."""

    def add(self, plan: MixPlan, labels: Tensor, shape: Sequence[int]) -> None:
        pass


def _unnoted(training: TrainState) -> None:
    [totals] = training.totals.values()
    totals.mixing_stats = _Closed((), training.counts, training.learner.objective, torch.device("cpu"))


def _cost(bench: Bench, name: str, words: Sequence[str], rounds: int) -> None:
    inside: dict[str, list[float]] = {mode: [] for mode in MODES}

    def case(mode: str) -> Callable[[], object]:
        trainings = Trainings(bench.folder, f"{name[:5]}-{mode}", *words, f"wandb.mode={mode}")

        def train() -> None:
            trainings()
            inside[mode].append(trainings.bare_seconds())

        return train

    cases = [Case(mode, case(mode)) for mode in MODES]
    timings = bench.time(f"{name}, W&B on and off", cases, rounds, warmup=0 if bench.quick else 1)
    kept = len(timings.seconds["offline"])
    pairs = zip(*(inside[mode][-kept:] for mode in MODES), strict=True)
    added = Spread.of([100 * (on / off - 1) for on, off in pairs])
    bench.row(f"{name}: steps and evaluation with W&B offline", "wandb.mode=disabled", added, unit="%", bar=BAR)
    whole = zip(*(timings.seconds[mode] for mode in MODES), strict=True)
    added = Spread.of([100 * (on / off - 1) for on, off in whole])
    bench.row(f"{name}: the whole process with W&B offline", "wandb.mode=disabled", added, unit="%")
