"""Cost of mixing as a share of a training step, and the gain of compiling, if any."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.timing import Case, Spread
from benchmarks.suite.trainings import Run
from vicinal.errors import ConfigError

STRATEGIES = {"none": None, "input": Bar(3, at_least=False), "manifold": Bar(5, False), "cutmix": Bar(3, False)}


def measure(bench: Bench) -> None:
    """Time whole steps in turns, and mixing on its own too, since the difference drowns in the noise of the steps."""
    for width in (16,) if bench.quick else (64, 16):
        words = ("model=preact_resnet18", f"model.width={width}", f"trainer.threads={bench.threads}")
        runs = {name: Run(bench.folder, 128, f"mixup={name}", "mixup.alpha=1", *words) for name in STRATEGIES}
        about = f"preact_resnet18, width {width}, batch 128, {runs['none'].hardware.precision}"
        cases = [Case(name, partial(_step, run), bench.threads) for name, run in runs.items()]
        steps = bench.time(about, cases, rounds=9)
        tensors = hidden(runs["none"], {depth for run in runs.values() for depth in run.learner.strategy.depths})
        cases = [Case(f"{name} alone", partial(alone, run, tensors), bench.threads) for name, run in runs.items()]
        added = bench.time(f"{about}: mixing alone", cases, rounds=15, least=0.2)
        whole = steps.spread("none").median
        for name, bar in STRATEGIES.items():
            if bar is None:
                continue
            pairs = zip(added.seconds[f"{name} alone"], added.seconds["none alone"], strict=True)
            share = Spread.of([100 * (mixed - plain) / whole for mixed, plain in pairs])
            bench.row(f"{name}: what mixing adds", f"a step of {about}", share, unit="%", bar=bar)
            ratio = steps.ratio(name, "none")
            bench.row(f"{name}: whole steps", "mixup=none, in turns", ratio)
        if runs["none"].hardware.device.type == "cpu":
            compare_precisions(bench, about, runs["none"], *words)
            if not bench.quick:
                compare_compiled(bench, about, runs["none"], *words)


def compare_precisions(bench: Bench, about: str, auto: Run, *words: str) -> None:
    """Show whether ``trainer.precision=auto`` is the faster one on this CPU."""
    other = "fp32" if auto.hardware.precision == "bf16" else "bf16"
    run = Run(bench.folder, 128, "mixup=none", f"trainer.precision={other}", *words)
    cases = [Case(name, partial(_step, one), bench.threads) for name, one in (("auto", auto), (other, run))]
    ratio = bench.time(f"{about}: {other}", cases, rounds=9).ratio(other, "auto")
    bench.row(f"trainer.precision=auto: steps of {about}", f"trainer.precision={other}", ratio, bar=Bar(1))


def compare_compiled(bench: Bench, about: str, eager: Run, *words: str) -> None:
    """Show why ``trainer.compile=auto`` compiles nothing on a CPU."""
    what, against = f"eager steps of {about}", "trainer.compile=true"
    try:
        compiled = Run(bench.folder, 128, "mixup=none", against, *words)
    except ConfigError as reason:
        bench.skip(what, against, str(reason))
        return
    cases = [Case(name, partial(_step, run), bench.threads) for name, run in (("eager", eager), ("compiled", compiled))]
    bench.row(what, against, bench.time(f"{about}: compiled", cases, rounds=9).ratio("compiled", "eager"))


def _step(run: Run) -> None:
    images, labels = next(run.loaders.train.batches())
    run.learner.step(images, labels, run.learner.strategy.sample(images.shape, _generator(run)).to(images.device))


def _generator(run: Run) -> torch.Generator:
    return run.training.streams.mixing


def hidden(run: Run, depths: set[str]) -> dict[str | None, Tensor]:
    """Return the tensors that are mixed at each depth, in the type and layout that they really have."""
    images, _ = next(run.loaders.train.batches())
    inputs: dict[str | None, Tensor] = {None: images}
    blocks = dict(run.learner.model.named_modules())
    hooks = []
    for name in depths & set(blocks):

        def keep(module: object, args: object, output: Tensor, name: str = name) -> None:
            inputs[name] = output.detach().requires_grad_()

        hooks.append(blocks[name].register_forward_hook(keep))
    with run.hardware.autocast():
        run.learner.model(images)
    for hook in hooks:
        hook.remove()
    return inputs


def alone(run: Run, tensors: dict[str | None, Tensor]) -> None:
    """Decide, mix forward and backward, and the loss of given logits: without mixing, the loss alone is left."""
    labels = next(run.loaders.train.batches())[1]
    images = tensors[None]
    plan = run.learner.strategy.sample(images.shape, _generator(run)).to(images.device)
    mixed = plan.mix(tensors[plan.layer])
    if mixed.requires_grad and plan.active:
        torch.autograd.grad(mixed, tensors[plan.layer], torch.ones_like(mixed))
    logits = torch.zeros(len(labels), 10, device=images.device, requires_grad=True)
    torch.autograd.grad(plan.loss(logits, labels), logits)
