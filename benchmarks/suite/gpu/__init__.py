"""On a GPU: is it right, then how fast is it. The most important first, since a GPU may be at hand for minutes."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from benchmarks.suite.bench import Bench
from benchmarks.suite.budget import OutOfTime, noticed
from benchmarks.suite.gpu import fast_paths, recipe, speed, step_checks, training_checks

log = logging.getLogger(__name__)

Item = Callable[[Bench], object]

ITEMS: dict[str, Item] = {
    "strategies against the CPU": step_checks.strategies,
    "gradients of chosen partners": fast_paths.chosen_partners,
    "waits in a step": training_checks.waits,
    "determinism": training_checks.determinism,
    "resume": training_checks.resume,
    "checkpoints": fast_paths.checkpoints,
    "fp16": step_checks.fp16,
    "streaming": fast_paths.streaming,
    "compiled steps": step_checks.compiled,
    "batches mixed as they are made": fast_paths.mixed_as_made,
    "graphs": training_checks.graphs_of_strategies,
    "CUDA graphs": training_checks.cuda_graphs,
    "training, batch 128": partial(speed.training, batch=128),
    "training, batch 512": partial(speed.training, batch=512),
    "training with CUDA graphs, batch 128": partial(speed.training, batch=128, compile="max"),
    "training with CUDA graphs, batch 512": partial(speed.training, batch=512, compile="max"),
    "mixing in a step": speed.mixing_in_a_step,
    "mixing against others": speed.mixing_against_others,
    "making and mixing": speed.mixed_as_made,
    "loader": speed.loader,
    "small jobs": speed.small_jobs,
    "first step": speed.first_step,
    "CIFAR-10": recipe.cifar10,
}
"""Title and function of each, in the order of their importance."""


def measure(bench: Bench, items: Mapping[str, Item] = ITEMS) -> None:
    """All items that the budget leaves time for; one that fails does not stop the others.

    Raises:
        OutOfTime: the budget is used up; what did not fit has a row that says so.
    """
    if bench.device.type != "cuda" and not bench.quick:
        for title in items:
            bench.skip(title, "", "there is no CUDA device; --device cpu --quick rehearses it")
        return
    left = list(items)
    try:
        for title, item in items.items():
            log.info("-- %s", title)
            started = time.perf_counter()
            torch.set_num_threads(bench.threads)
            try:
                item(bench)
            except Exception as error:
                log.exception("%s failed", title)
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                bench.row(title, "", None, failed=reason)
            bench.extra.setdefault("seconds of items", {})[title] = time.perf_counter() - started
            left.remove(title)
            _tidy(bench)
    except OutOfTime:
        noticed()
        for title in left:
            bench.skip(title, "", "did not fit into the budget")
        raise


def _tidy(bench: Bench) -> None:
    """Leave nothing to the next item: graphs, memory, what a training has set for the process."""
    torch.compiler.reset()
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
