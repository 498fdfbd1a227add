"""Losses of classification against torch's own, timm's, and formulas that are written out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from vicinal.build import load_data, make_loaders, make_model
from vicinal.config.schema import TrainerConfig
from vicinal.errors import UserError
from vicinal.jobs.run import run
from vicinal.mixing import MixPlan
from vicinal.mixing.several import blend
from vicinal.runs import checkpoint
from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Loss,
    SoftmaxBinaryCrossEntropy,
    TwoHot,
    loss_of,
    weights_of_classes,
)

K = 5
COUNTS = torch.tensor([100, 40, 20, 5, 1])
SMOOTHING = st.sampled_from([0.0, 0.1, 1.0])
SEED = st.integers(0, 2**31 - 1)


def drawn(batch: int, seed: int, members: int = 2) -> tuple[MixPlan, Tensor, Tensor]:
    """A plan, labels and logits."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (batch,), generator=generator)
    logits = 3 * torch.randn(batch, K, generator=generator, dtype=torch.float64)
    weights = torch.rand(batch, members, generator=generator)
    weights /= weights.sum(dim=1, keepdim=True)
    partners = torch.stack([torch.randperm(batch, generator=generator) for _ in range(members - 1)], dim=1)
    plan = MixPlan(weights[:, 0], partners[:, 0]) if members == 2 else blend(weights, partners)
    return plan, labels, logits


def soft(plan: MixPlan, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    return (1 - smoothing) * plan.targets(labels, K).double() + smoothing / K


def factors(seed: int) -> Tensor:
    return torch.rand(K, generator=torch.Generator().manual_seed(seed + 1)) * 3


cases = given(batch=st.integers(1, 6), seed=SEED, smoothing=SMOOTHING, members=st.integers(2, 4))


@cases
def test_cross_entropy_with_class_weights_is_torch_s(batch: int, seed: int, smoothing: float, members: int) -> None:
    plan, labels, logits = drawn(batch, seed, members)
    weights = factors(seed)
    expected = F.cross_entropy(
        logits, soft(plan, labels), weights.double(), reduction="none", label_smoothing=smoothing
    ).mean()
    torch.testing.assert_close(CrossEntropy(smoothing, weights)(plan, logits, labels), expected, rtol=1e-5, atol=1e-6)


@cases
def test_binary_cross_entropy_is_torch_s(batch: int, seed: int, smoothing: float, members: int) -> None:
    plan, labels, logits = drawn(batch, seed, members)
    expected = F.binary_cross_entropy_with_logits(logits, soft(plan, labels, smoothing))
    torch.testing.assert_close(BinaryCrossEntropy(smoothing)(plan, logits, labels), expected, rtol=1e-5, atol=1e-6)


@cases
def test_that_of_a_softmax_is_torch_s(batch: int, seed: int, smoothing: float, members: int) -> None:
    plan, labels, logits = drawn(batch, seed, members)
    expected = F.binary_cross_entropy(logits.softmax(dim=1), soft(plan, labels, smoothing).clamp(max=1))
    loss = SoftmaxBinaryCrossEntropy(smoothing)
    torch.testing.assert_close(loss(plan, logits, labels), expected, rtol=1e-5, atol=1e-6)


def test_that_of_a_softmax_is_finite_where_a_class_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    plan = MixPlan(torch.tensor([0.5]), torch.tensor([0]))
    loss = SoftmaxBinaryCrossEntropy()(plan, logits, torch.tensor([1]))
    loss.backward()  # type: ignore[no-untyped-call]
    # -(log p_1 + log(1 - p_0) + log(1 - p_2)) / 3: the first two are about -200 and cut, or the smallest number's
    assert 60 < loss.item() < 67
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@given(batch=st.integers(1, 6), seed=SEED, threshold=st.sampled_from([0.0, 0.2, 0.5]), members=st.integers(2, 4))
def test_two_hot_is_timm_s(batch: int, seed: int, threshold: float, members: int) -> None:
    timm_loss = pytest.importorskip("timm.loss")
    plan, labels, logits = drawn(batch, seed, members)
    oracle = timm_loss.BinaryCrossEntropy(target_threshold=threshold, smoothing=0.0)
    torch.testing.assert_close(
        TwoHot(threshold=threshold)(plan, logits, labels), oracle(logits, plan.targets(labels, K)).to(logits.dtype)
    )


@cases
def test_focal_loss_is_its_formula(batch: int, seed: int, smoothing: float, members: int) -> None:
    plan, labels, logits = drawn(batch, seed, members)
    p = logits.softmax(dim=1)
    expected = (soft(plan, labels, smoothing) * (1 - p) ** 2 * -p.log()).sum(dim=1).mean()
    torch.testing.assert_close(Focal(smoothing)(plan, logits, labels), expected, rtol=1e-5, atol=1e-6)
    for gamma in (0.5, 1.0, 2.0):  # of a sample that is known for sure
        sure = torch.tensor([[30.0, 0.0, -1.0]], requires_grad=True)
        assert torch.isfinite(torch.autograd.grad(Focal(gamma=gamma).costs(sure)[0, 0], sure)[0]).all()
    plain = Focal(smoothing, gamma=0.0)(plan, logits, labels)
    torch.testing.assert_close(plain, CrossEntropy(smoothing)(plan, logits, labels), rtol=1e-5, atol=1e-6)


@given(batch=st.integers(1, 6), seed=SEED, tau=st.sampled_from([0.5, 1.0]))
def test_logits_are_adjusted_by_the_class_shares(batch: int, seed: int, tau: float) -> None:
    """Menon et al., equation 10: log(1 + sum over y' != y of (pi_y' / pi_y)^tau * exp(f_y' - f_y))."""
    _, labels, logits = drawn(batch, seed)
    plan = MixPlan(torch.ones(batch), torch.arange(batch), active=False)
    prior, rows = (COUNTS / COUNTS.sum()).double(), []
    for row, label in zip(logits, labels.tolist(), strict=True):
        others = [other for other in range(K) if other != label]
        ratios = [(prior[other] / prior[label]) ** tau * torch.exp(row[other] - row[label]) for other in others]
        rows.append(torch.log1p(torch.stack(ratios).sum()))
    loss = loss_of(TrainerConfig(logit_adjustment=tau), COUNTS, 1)
    torch.testing.assert_close(loss(plan, logits, labels), torch.stack(rows).mean(), rtol=1e-5, atol=1e-6)


def test_class_weights() -> None:
    """The formulas, and a mean of 1 over the training images; torch's weighted mean of a full pass is the same."""
    n = COUNTS.double()
    effective = (1 - 0.99) / (1 - 0.99**n)  # Cui et al., equation 3
    for kind, raw in {"inverse": 1 / n, "effective": effective}.items():
        weights = weights_of_classes(kind, COUNTS, 0.99).double()
        torch.testing.assert_close(weights / weights[0], raw / raw[0], rtol=1e-6, atol=0)
        assert (weights * n).sum() / n.sum() == pytest.approx(1, rel=1e-6)
    labels = torch.arange(K).repeat_interleave(COUNTS)
    logits = torch.randn(len(labels), K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = MixPlan(torch.ones(len(labels)), torch.arange(len(labels)), active=False)
    weights = weights_of_classes("inverse", COUNTS, 0.0)
    expected = F.cross_entropy(logits, labels, weights.double())
    torch.testing.assert_close(CrossEntropy(0.0, weights)(plan, logits, labels), expected, rtol=1e-6, atol=0)
    assert weights_of_classes("inverse", torch.tensor([2, 0]), 0.0).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("start", "first"), [(0.0, 1), (0.8, 161), (1.0, 201), (160, 161), (0.5, 101)], ids=lambda value: str(value)
)
def test_class_weights_begin_late(start: float, first: int) -> None:
    settings = TrainerConfig(epochs=200, class_weights="inverse", class_weights_from=start)
    weighted = [epoch for epoch in range(1, 201) if loss_of(settings, COUNTS, epoch).class_weights is not None]
    assert weighted == [*range(first, 201)]


@pytest.mark.parametrize(("epochs", "share"), [(100, 0.55), (50, 0.14), (300, 0.81), (400, 0.29), (10, 0.7)])
def test_a_share_of_the_epochs_is_rounded_once(epochs: int, share: float) -> None:
    settings = TrainerConfig(epochs=epochs, class_weights="inverse", class_weights_from=share)
    first = round(epochs * share) + 1
    weights = [loss_of(settings, COUNTS, epoch).class_weights for epoch in (first - 1, first)]
    assert [each is None for each in weights] == [True, False]


LOSSES: dict[str, Callable[..., Loss]] = {
    "ce": CrossEntropy,
    "bce": BinaryCrossEntropy,
    "bce_softmax": SoftmaxBinaryCrossEntropy,
}


@pytest.mark.parametrize(
    "loss",
    [
        BinaryCrossEntropy(),
        SoftmaxBinaryCrossEntropy(),
        Focal(),
        TwoHot(),
        CrossEntropy(class_weights=torch.tensor([1.0, 0.5, 2.0, 1.5, 3.0])),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("members", [2, 4])
def test_a_loss_of_bf16_logits_is_computed_in_float32(loss: Loss, members: int) -> None:
    plan, labels, logits = drawn(6, 1, members)
    logits = logits.bfloat16()
    found = loss(plan, logits, labels)
    assert found.dtype == torch.float32
    assert found.item() == loss(plan, logits.float(), labels).item()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_floor_is_what_a_minimiser_finds(name: str, smoothing: float, weighted: bool) -> None:
    plan, labels, _ = drawn(4, 3)
    loss = LOSSES[name](smoothing, factors(3) if weighted else None)
    floors = CLASSIFICATION.bounds(plan, labels, K, loss).floor
    for row, floor in enumerate(floors.tolist()):
        single = MixPlan(plan.lam[[row, row]], torch.tensor([1, 0]))
        pair = labels[[row, int(plan.partner[row])]]

        def value(numbers: Any, single: MixPlan = single, pair: Tensor = pair) -> tuple[float, Any]:
            logits = torch.tensor(numbers).expand(2, K).clone().requires_grad_()
            only = torch.tensor([2.0, 0.0])  # the mean of two, of which the second does not count
            result = loss(single, logits, pair, only)
            (gradient,) = torch.autograd.grad(result, logits)
            return result.item(), gradient.sum(dim=0).numpy()

        found = minimize(value, torch.zeros(K).double().numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 500})
        assert found.fun == pytest.approx(floor, abs=2e-4)


def test_floors_that_are_known_without_mixing_alone() -> None:
    plan, labels = MixPlan(torch.full((3,), 0.3), torch.tensor([1, 0, 2])), torch.tensor([0, 1, 2])
    assert CLASSIFICATION.bounds(plan, labels, K, Focal()).floor.isnan().tolist() == [True, True, False]
    unmixed = MixPlan(torch.ones(3), torch.arange(3), active=False)
    assert CLASSIFICATION.bounds(unmixed, labels, K, Focal()).floor.tolist() == [0, 0, 0]
    assert CLASSIFICATION.bounds(plan, labels, K, TwoHot()).floor.tolist() == [0, 0, 0]
    weights = torch.tensor([1.0, 3.0])
    entropy = -(0.95 * math.log(0.95) + 0.05 * math.log(0.05))
    assert CLASSIFICATION.clean_floor(torch.tensor([3, 1]), CrossEntropy(0.1)) == pytest.approx(entropy, rel=1e-6)
    own, other = 0.95 * weights, 0.05 * weights.flip(0)
    by_class = -(own * (own / (own + other)).log() + other * (other / (own + other)).log())
    found = CLASSIFICATION.clean_floor(torch.tensor([3, 1]), CrossEntropy(0.1, weights))
    assert found == pytest.approx((0.75 * by_class[0] + 0.25 * by_class[1]).item(), rel=1e-6)


WORDS = [
    "trainer.loss=bce optimizer.lr=1",
    "trainer.loss=bce optimizer.lr=2 trainer.bce_threshold=null trainer.label_smoothing=0.1",
    "trainer.loss=bce_softmax optimizer.lr=1 mixup=manifold",
    "trainer.loss=focal trainer.focal_gamma=1",
    "trainer.class_weights=effective trainer.class_weights_from=0.5",
    "trainer.logit_adjustment=1 mixup=patchup",
]


@pytest.mark.parametrize("words", WORDS)
def test_each_trains_and_has_an_identity_of_its_own(compose: Any, words: str) -> None:
    """From chance, and no floor is above the loss; a key that its switch leaves without effect changes nothing."""
    common = ("dataset.train_size=200", "dataset.val_size=100", "trainer.epochs=3", "model=mlp", "tracker=none")
    plain, experiment = compose(*common), compose(*common, *words.split())
    assert experiment.run_id != plain.run_id
    idle = ("trainer.focal_gamma=3", "trainer.class_weights_beta=0.5", "trainer.bce_threshold=0.3")
    assert compose(*common, *idle).run_id == plain.run_id
    run(experiment)
    rows = [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]
    assert rows[-1]["val/acc1"] > 0.3
    assert all(("train/loss_floor" in row) == ("focal" not in words) for row in rows)
    assert all(row.get("train/loss_floor", 0) < row["train/loss"] for row in rows)


def test_a_run_is_scored_as_it_is_trained(compose: Any) -> None:
    sigmoids = {loss: compose(f"trainer.loss={loss}").task.sigmoid for loss in CLASSIFICATION.losses}
    assert sigmoids == {"ce": False, "bce": True, "bce_softmax": False, "focal": False}
    words = ("trainer.loss=bce", "trainer.epochs=1", "model=mlp", "tracker=none", "dataset.imbalance=step")
    experiment = compose(*words, "dataset.imbalance_ratio=4", "dataset.train_size=200", "trainer.precision=fp32")
    result = run(experiment)
    model = make_model(experiment).eval()
    model.load_state_dict(checkpoint.load(experiment.folder.checkpoint, checkpoint.WEIGHTS)["model"])
    data = load_data(experiment)
    with torch.inference_mode():
        logits = torch.cat([model(images.clone()) for images, _ in make_loaders(experiment, data).test.batches()])
    p = logits.double().sigmoid()
    nll = -(p / p.sum(dim=1, keepdim=True)).log()[torch.arange(len(p)), data.test.targets].mean().item()
    assert result["test"]["last"]["nll"] == pytest.approx(nll, rel=1e-5)


def test_sigmoids_have_no_prior(compose: Any) -> None:
    with pytest.raises(UserError, match=r"^trainer\.logit_adjustment=1: must be 0 with trainer\.loss=bce"):
        compose("trainer.loss=bce", "trainer.logit_adjustment=1")
    compose("trainer.loss=bce_softmax", "trainer.logit_adjustment=1")


def test_a_threshold_above_all_weights_is_to_be_smaller(compose: Any) -> None:
    words = ("trainer.bce_threshold=0.6", "mixup=input", "mixup.law=constant", "mixup.partner=other_class")
    with pytest.raises(UserError, match=r"^trainer\.bce_threshold=0\.6: must be smaller, or null: .* no whole labels"):
        compose("trainer.loss=bce", *words)


SAME = r"^trainer\.bce_threshold=0: must be larger, or null: all samples of a batch would have the same whole labels"


@pytest.mark.parametrize(
    "words",
    ["mixup=zeta", "mixup=one_of +mixup.strategies.zeta._target_=vicinal.mixing.zeta.ZetaMixup +mixup.weights.zeta=0 "],
)
def test_targets_that_say_nothing_are_refused(compose: Any, words: str) -> None:
    with pytest.raises(UserError, match=SAME):
        compose("trainer.loss=bce", *words.split())
    for threshold in ("null", "0.3"):
        compose("trainer.loss=bce", f"trainer.bce_threshold={threshold}", *words.split())


def test_whole_labels_are_not_smoothed(compose: Any) -> None:
    with pytest.raises(UserError, match=r"^trainer\.label_smoothing=0\.1: must be 0 with trainer\.loss=bce"):
        compose("trainer.loss=bce", "trainer.label_smoothing=0.1")
