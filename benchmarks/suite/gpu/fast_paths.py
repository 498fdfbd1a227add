"""Is each fast path what its plain twin is? Gradients of partners, batches, copies, checkpoints."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench, same_work
from benchmarks.suite.gpu.step_checks import BATCH, STRATEGIES, TOLERANCES, ZERO, relative_error
from benchmarks.suite.gpu.training_checks import DETERMINISTIC, SMALL, differences, small_run
from vicinal.data import Pending
from vicinal.data.store import HostDataset
from vicinal.mixing import MixPlan
from vicinal.mixing.fields import HardMask
from vicinal.runs import checkpoint


def chosen_partners(bench: Bench) -> None:
    """The gradient of hidden features whose partners are known to be a permutation, against that of an index."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 16, 8, 8, generator=generator).to(bench.device, memory_format=torch.channels_last)
    upstream = torch.randn(x.shape, generator=generator).to(bench.device)
    known = STRATEGIES["manifold at layer3, per sample"].sample(x.shape, generator).to(bench.device)
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        if precision == "bf16" and bench.rehearses:
            continue
        for mask in (None, HardMask(x[:, :1] > 0)):
            plan = replace(known, mask=mask)
            ours, theirs = (mixed_gradient(each, x.to(dtype), upstream) for each in (plan, replace(plan, whose=None)))
            title = f"gradient of chosen partners, by {'lambda' if mask is None else 'a mask'}, {precision}, compiled"
            bench.check(title, "that of an index", relative_error(ours, theirs), Bar(TOLERANCES[precision], False))


def mixed_gradient(plan: MixPlan, x: Tensor, upstream: Tensor) -> Tensor:
    """Return the gradient of features that a plan mixes, compiled, as a network is."""
    torch.compiler.reset()
    x = x.clone().requires_grad_()
    torch.compile(plan.mix, dynamic=False)(x).backward(upstream.to(x.dtype))  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return x.grad


def mixed_as_made(bench: Bench) -> None:
    """Batches that one compiled loop makes and mixes, against those that are made, and then mixed by eager kernels."""
    for stream in ("false", "true"):
        for mixup in ("input", "cutmix"):
            mixed_as_made_of(bench, f"mixup={mixup}", "mixup.per_sample=true", f"trainer.stream={stream}")


def mixed_as_made_of(bench: Bench, *words: str) -> None:
    """The largest difference of a pixel, and the number of batches that were not made so."""
    torch.compiler.reset()
    loaders = [small_run(bench, 6, *words, f"trainer.compile={on}") for on in ("false", "true")]
    plans = torch.Generator().manual_seed(2)
    plain, pending = (
        run.loaders.train.pending(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)) for run in loaders
    )
    difference, others = 0.0, 0
    for (images, labels), (batch, same) in zip(plain, pending, strict=True):
        plan = loaders[0].learner.strategy.sample(images.shape, plans).to(bench.device)
        same_work(torch.equal(labels, same), "other batches")
        if isinstance(images, Pending) or not isinstance(batch, Pending) or (mask := plan.pixelwise) is None:
            others += 1
            continue
        error = (batch.mixed(plan.partner, mask) - plan.mix(images)).abs().max()
        difference = max(difference, float(error))
    title = f"batches mixed as they are made, {' '.join(words)}"
    bench.check(f"{title}: largest difference of a pixel", "made, then mixed", difference, Bar(1e-5, at_least=False))
    bench.check(f"{title}: batches that are not", "", others, ZERO)


def checkpoints(bench: Bench) -> None:
    """What is copied to the host, and written while training goes on, against a checkpoint that is written in line."""
    run = small_run(bench, 5, "mixup=manifold", "trainer.ema_decay=0.9", "trainer.compile=false", network=SMALL)
    run.epoch()
    in_line, beside = (bench.folder / f"{name}.pt" for name in ("in-line", "beside"))
    checkpoint.save(in_line, run.training.state_dict())
    copied = checkpoint.copied(run.training.state_dict())
    run.epoch()
    checkpoint.save(beside, copied)
    states = checkpoint.load(in_line), checkpoint.load(beside)
    bench.check("checkpoint beside the training: tensors that differ", "in line", len(differences(*states)), ZERO)
    moved = len(differences(states[0], run.training.state_dict()))
    same_work(moved > 0, "nothing was trained meanwhile")


def streaming(bench: Bench) -> None:
    """Batches of data that stay in the host's memory are those of data on the device."""
    resident, streamed = (
        small_run(bench, 6, "mixup=none", f"trainer.stream={stream}", "trainer.compile=false").loaders.train
        for stream in ("false", "true")
    )
    same_work(isinstance(streamed.store, HostDataset), "nothing is streamed")
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
    states = []
    for stream in ("false", "true"):  # copied while the steps before are computed
        run = small_run(bench, 12, *DETERMINISTIC, "mixup=input", f"trainer.stream={stream}", "trainer.compile=false")
        run.epoch()
        states.append(run.training.state_dict())
    count = len(differences(*states))
    bench.check("streamed training: tensors that differ", "resident data", count, ZERO)
