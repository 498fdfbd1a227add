"""Multi-label classification against scikit-learn's metrics, and losses of mixed targets against sums written out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from vicinal.data import RunData, Samples
from vicinal.data.inputs import Table
from vicinal.mixing import InputMixup, MixPlan
from vicinal.mixing.several import blend
from vicinal.mixing.zeta import ZetaMixup
from vicinal.tasks import MULTILABEL
from vicinal.tasks.metric import Totals

SEED = st.integers(0, 2**32)


def drawn(seed: int, n: int = 8, classes: int = 3) -> tuple[Tensor, Tensor, MixPlan]:
    """Logits, targets and a plan."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    targets = (torch.rand(n, classes, generator=generator) < 0.4).float()
    return logits, targets, MixPlan(torch.rand(n, generator=generator), torch.randperm(n, generator=generator))


def loss(plan: MixPlan, logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> float:
    settings: Any = None
    return float(MULTILABEL.loss(settings, None, 1)(plan, logits, targets, weight))


@given(seed=SEED, n=st.integers(1, 50), classes=st.integers(2, 5))
def test_equal_to_scikit_learn(seed: int, n: int, classes: int) -> None:
    logits, targets, _ = drawn(seed, n, classes)
    metrics, cut = Totals(MULTILABEL.computed, torch.device("cpu")), seed % n
    for part in (slice(None, cut), slice(cut, None)):
        metrics.update(MULTILABEL.read(logits[part]), targets[part])
    true, guess = targets.numpy().astype(int), (logits > 0).numpy().astype(int)
    y, z = targets.double().numpy(), logits.double().numpy()
    expected = {
        "f1": f1_score(true, guess, average="micro", zero_division=0),
        "f1_macro": f1_score(true, guess, average="macro", zero_division=0),
        "subset_acc": accuracy_score(true, guess),
        "cross_entropy": -(y * special.log_expit(z) + (1 - y) * special.log_expit(-z)).mean(),
    }
    assert metrics.compute() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@given(seed=SEED, weighted=st.booleans())
def test_the_loss_is_that_of_both_sets_by_lambda(seed: int, weighted: bool) -> None:
    """The binary cross-entropy is linear in the target: to the mixed target it is the mean of both by lambda."""
    logits, targets, plan = drawn(seed)
    weight = torch.rand(8, generator=torch.Generator().manual_seed(seed)) if weighted else None
    z = logits.double().numpy()

    def bce(y: Tensor) -> Any:
        own = y.double().numpy()
        return -(own * special.log_expit(z) + (1 - own) * special.log_expit(-z)).mean(axis=1)

    lam = plan.lam.double().numpy()
    losses = lam * bce(targets) + (1 - lam) * bce(targets[plan.partner])
    expected = np.mean(losses if weight is None else weight.double().numpy() * losses)
    assert loss(plan, logits, targets, weight) == pytest.approx(expected, rel=1e-5)


@given(seed=SEED)
def test_the_gradient_is_that_of_probabilities_and_mixed_targets(seed: int) -> None:
    logits, targets, plan = drawn(seed)
    logits.requires_grad_()
    settings: Any = None
    MULTILABEL.loss(settings, None, 1)(plan, logits, targets).backward()
    expected = (logits.detach().sigmoid() - plan.mix_targets(targets)) / logits.numel()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-7)


@given(seed=SEED)
def test_the_floor_is_the_least_loss_of_any_logits(seed: int) -> None:
    _, targets, plan = drawn(seed, n=3)
    floor = float(MULTILABEL.bounds(plan, targets, 3, None).floor.mean())
    least = optimize.minimize(
        lambda z: loss(plan, torch.from_numpy(z.reshape(3, 3)).float(), targets),
        np.zeros(9),
        method="L-BFGS-B",
        bounds=[(-30, 30)] * 9,
        jac=lambda z: (special.expit(z) - plan.mix_targets(targets).double().numpy().ravel()) / 9,
    ).fun
    assert floor == pytest.approx(least, abs=2e-3)
    logits = 3 * torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))
    assert loss(plan, logits, targets) >= floor - 1e-6


@given(seed=SEED)
def test_the_ceiling_is_the_best_score_of_any_prediction(seed: int) -> None:
    _, targets, plan = drawn(seed, n=5, classes=2)
    sets = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    scores = torch.stack([MULTILABEL.score(plan, one.expand(5, 2), targets) for one in sets])
    bounds = MULTILABEL.bounds(plan, targets, 2, None)
    torch.testing.assert_close(scores.amax(dim=0), bounds.ceiling, rtol=0, atol=1e-6)


def test_bounds_of_more_than_two_samples() -> None:
    _, targets, _ = drawn(0)
    several = blend(torch.full((8, 3), 1 / 3), torch.tensor([[1, 2]] * 8))
    bounds = MULTILABEL.bounds(several, targets, 3, None)
    mixed = several.mix_targets(targets)
    floor = torch.special.entr(mixed) + torch.special.entr(1 - mixed)
    torch.testing.assert_close(bounds.floor, floor.mean(dim=1))
    assert bool(bounds.ceiling.isnan().all())


@pytest.mark.parametrize("seed", range(5))
def test_a_class_that_all_members_have_takes_no_loss(seed: int) -> None:
    """Many weights sum to 1 up to rounding, which may be more."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(64, 3, generator=generator) < torch.tensor([1.1, 0.9, -1.0])).float()
    for strategy in (ZetaMixup(), InputMixup(1.0, members=5, per_sample=True)):
        plan = strategy.sample((64, 1, 4, 4), generator)
        floor = MULTILABEL.bounds(plan, targets, 3, None).floor
        mixed = plan.mix_targets(targets)[:, 1].double().clamp(0, 1)
        expected = (torch.special.entr(mixed) + torch.special.entr(1 - mixed)) / 3
        torch.testing.assert_close(floor.double(), expected, rtol=1e-4, atol=1e-5)


def test_captions() -> None:
    names = ("cat", "dog", "bird")
    assert MULTILABEL.caption([(1.0, [1, 1, 0])], names) == "cat, dog"
    assert MULTILABEL.caption([(1.0, [0, 0, 0])], names) == "none"
    assert MULTILABEL.caption([(0.73, [1, 1, 0]), (0.27, [0, 0, 1])], names) == "0.73 (cat, dog) + 0.27 (bird)"


@pytest.mark.parametrize(
    "targets", [torch.tensor([0, 1]), torch.zeros(2, 3), torch.tensor([[0.0, 0.5]]), torch.tensor([[0.0, torch.nan]])]
)
def test_targets_that_do_not_fit(targets: Tensor) -> None:
    part = Samples(torch.zeros(len(targets), 1), targets)
    message = "task must fit the targets: multilabel needs (N, 2) floats that are 0 or 1, got others in train"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MULTILABEL.refuse(RunData(part, None, part, ("a", "b"), None, None, given=Table(1)), (1,))
