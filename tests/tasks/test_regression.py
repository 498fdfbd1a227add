"""Regression against scikit-learn's metrics and ridge, and losses of mixed targets against sums written out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import Tensor
from torch.nn import functional as F

from vicinal.analysis.compare import compare
from vicinal.analysis.load import load_runs
from vicinal.build import load_data
from vicinal.data import RunData, Samples
from vicinal.data.inputs import Images, Table
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing import InputMixup, MixPlan
from vicinal.mixing.context import Context
from vicinal.tasks import MULTILABEL, REGRESSION
from vicinal.tasks.metric import Totals
from vicinal.tasks.regression import PENALTIES, Regression
from vicinal.training.batch_context import BatchContext

CPU = torch.device("cpu")
SEED = st.integers(0, 2**32)


def data(targets: Tensor, inputs: Tensor | None = None, unit: str = "") -> RunData:
    rows = torch.zeros(len(targets), 1) if inputs is None else inputs
    part, names = Samples(rows, targets), tuple(f"y{column}" for column in range(targets.shape[1]))
    kind = Table(rows.shape[1])
    mean, std = kind.statistics(part)
    return RunData(part, None, part, names, mean, std, unit=unit, given=kind)


def bound(targets: Tensor, **keys: Any) -> Regression:
    return REGRESSION.bind(data(targets, **keys), uneven=False)


def measure(outputs: Tensor, targets: Tensor, cut: int) -> dict[str, float]:
    metrics = Totals(REGRESSION.computed, CPU)
    for part in (slice(None, cut), slice(cut, None)):
        if len(targets[part]):
            metrics.update(outputs[part], targets[part])
    return metrics.compute()


@given(seed=SEED, n=st.integers(2, 60), outputs=st.integers(1, 4), shift=st.sampled_from([0.0, -3.0, 100.0]))
def test_equal_to_scikit_learn(seed: int, n: int, outputs: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(n, outputs, generator=generator) * 10 + shift
    predicted = y + torch.randn(n, outputs, generator=generator)
    found = measure(predicted, y, seed % n)
    true, guess = y.double().numpy(), predicted.double().numpy()
    expected = {
        "rmse": root_mean_squared_error(true, guess),
        "mae": mean_absolute_error(true, guess),
        "r2": r2_score(true, guess),
    }
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_targets_that_are_all_the_same(error: float) -> None:
    y = torch.full((5, 2), 7.0)
    y[:, 1] = torch.arange(5.0)
    predicted = y.clone()
    predicted[:, 0] += error
    assert measure(predicted, y, 2)["r2"] == pytest.approx(r2_score(y.numpy(), predicted.numpy()))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.0, 1e-8), (2000.0, 10.0), (1e6, 0.5), (-3e6, 2.0), (1.7e9, 1e3), (1e12, 1e6)]
)
def test_a_large_mean_leaves_the_scores_what_they_are(mean: float, std: float) -> None:
    """Against scikit-learn in float64, by the targets as float32 has them and predictions that are not rounded."""
    generator = torch.Generator().manual_seed(0)
    y = (mean + std * torch.randn(200, 2, generator=generator, dtype=torch.float64)).float()
    task = bound(y[:100])
    outputs = (y.double() - torch.tensor(task.mean)) / torch.tensor(task.std) + 0.3 * torch.randn(
        200, 2, generator=generator
    )
    outputs = outputs.float()
    guess = outputs.double().numpy() * np.array(task.std) + np.array(task.mean)
    evaluator = task.evaluator(CPU)
    for part in (slice(0, 120), slice(120, 200)):
        evaluator.update(task.read(outputs[part]), y[part])
    true = y.double().numpy()
    expected = {
        "rmse": root_mean_squared_error(true, guess),
        "mae": mean_absolute_error(true, guess),
        "r2": r2_score(true, guess),
    }
    assert evaluator.compute() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1e6, 0.5), (-1.7e9, 1e3)])
def test_mixed_targets_keep_their_digits_beside_a_large_mean(mean: float, std: float) -> None:
    """Of a perfect network, whose outputs are mixed in float64; float32 alone would be off by up to 0.1 deviations."""
    y = (mean + std * torch.randn(64, 1, generator=torch.Generator().manual_seed(1))).float()
    task, plan = bound(y), InputMixup(1.0, per_sample=True).sample((64, 3), torch.Generator().manual_seed(2))
    lam, exact = plan.lam.double()[:, None], (y.double() - torch.tensor(task.mean)) / torch.tensor(task.std)
    outputs = (lam * exact + (1 - lam) * exact[plan.partner]).float()
    settings: Any = type("Settings", (), {"loss": "mse"})
    assert task.loss(settings, None, 1)(plan, outputs, y).item() < 1e-10
    assert (task.score(plan, outputs, y) / task.std[0]).max().item() < 1e-5


@given(seed=SEED, kind=st.sampled_from(["auto", "mse", "mae", "huber"]), weighted=st.booleans())
def test_the_loss_is_of_mixed_targets_in_standard_deviations(seed: int, kind: str, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(8, 2, generator=generator) * torch.tensor([5.0, 0.1]) + torch.tensor([100.0, 0.0])
    task = bound(y)
    outputs, lam = torch.randn(8, 2, generator=generator), torch.rand(8, generator=generator)
    plan = MixPlan(lam, torch.randperm(8, generator=generator))
    weight = torch.rand(8, generator=generator) if weighted else None
    settings: Any = type("Settings", (), {"loss": kind})
    z = stats.zscore(y.double().numpy(), axis=0)
    mixed = lam.double().numpy()[:, None] * z + (1 - lam.double().numpy()[:, None]) * z[plan.partner.numpy()]
    error = np.abs(outputs.double().numpy() - mixed)
    of = {"mse": error**2, "mae": error, "huber": np.where(error < 1, error**2 / 2, error - 0.5)}
    losses = of["mse" if kind == "auto" else kind].mean(axis=1)
    expected = np.mean(losses if weight is None else weight.double().numpy() * losses)
    assert float(task.loss(settings, None, 1)(plan, outputs, y, weight)) == pytest.approx(expected, rel=1e-4)


@given(seed=SEED)
def test_mixed_targets_and_mixed_squared_errors_differ_by_a_constant(seed: int) -> None:
    """lam (f - a)^2 + (1 - lam) (f - b)^2 = (f - y~)^2 + lam (1 - lam) (a - b)^2: the same gradients."""
    generator = torch.Generator().manual_seed(seed)
    y, lam = torch.randn(6, 1, generator=generator), torch.rand(6, generator=generator)
    plan, task = MixPlan(lam, torch.randperm(6, generator=generator)), bound(y)
    settings: Any = type("Settings", (), {"loss": "mse"})
    outputs = torch.randn(6, 1, generator=generator)
    pair = plan.mean_loss(lambda part: F.mse_loss(outputs, task.standardised(part), reduction="none")[:, 0], y)
    z = task.standardised(y)[:, 0]
    constant = (lam * (1 - lam) * (z - z[plan.partner]) ** 2).mean()
    ours = task.loss(settings, None, 1)(plan, outputs, y)
    torch.testing.assert_close(ours + constant, pair, rtol=1e-4, atol=1e-5)


def test_a_sample_has_the_target_of_all_its_members() -> None:
    y = torch.tensor([[0.0], [0.0], [4.0]])
    plan = InputMixup(1.0, members=3).sample((3, 1), torch.Generator().manual_seed(0))
    indices = torch.tensor([[0, 1, 2], [1, 0, 1], [2, 0, 1]])
    plan = replace(plan, indices=indices, partner=indices[:, 1])
    for task, targets in ((bound(y), y), (MULTILABEL, (y > 0).float())):
        assert task.bounds(plan, targets, 1, None).same.tolist() == [0, 1, 0]


@given(seed=SEED, kind=st.sampled_from(["mse", "mae", "huber"]))
def test_the_floor_is_zero_and_is_reached(seed: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    y, lam = torch.randn(6, 2, generator=generator), torch.rand(6, generator=generator)
    plan, task = MixPlan(lam, torch.randperm(6, generator=generator)), bound(y)
    loss = task.loss(type("Settings", (), {"loss": kind})(), None, 1)  # type: ignore[arg-type]
    perfect = plan.mix_targets(task.standardised(y))
    bounds = task.bounds(plan, y, 2, loss)
    assert float(loss(plan, perfect, y)) == pytest.approx(float(bounds.floor.mean()), abs=1e-9)
    torch.testing.assert_close(task.score(plan, perfect, y), torch.zeros(6), rtol=0, atol=1e-5)
    assert torch.equal(bounds.same > 0, plan.partner == torch.arange(6))
    assert task.clean_floor(torch.zeros(0), loss) == 0


@given(seed=SEED, n=st.integers(2, 30))
def test_outputs_are_read_in_the_unit_of_the_targets(seed: int, n: int) -> None:
    y = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * 50 + 200
    task = bound(y, unit="EUR")
    torch.testing.assert_close(task.read(task.standardised(y)), y.double(), rtol=1e-4, atol=1e-3)
    assert [metric.unit for metric in task.metrics] == ["EUR", "EUR", ""]
    assert task.caption([(0.25, [1.0, 2.5]), (0.75, [3.0, 4.0])], ("a", "b")) == "0.25 x 1 2.5 + 0.75 x 3 4"


def test_a_target_that_never_changes_stays_finite() -> None:
    y = torch.cat([torch.full((4, 1), 3.0), torch.arange(4.0)[:, None]], dim=1)
    assert bound(y).std[0] == 1
    assert bound(y).standardised(y)[:, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bandwidth", [0.1, 0.5, 3.0])
def test_the_kernel_of_c_mixup_is_in_standard_deviations(bandwidth: float) -> None:
    """Partners of 200 equal samples against the normal density at the standardised targets (arXiv 2210.05775)."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(5, 1, generator=generator) * 80 + 150
    task, batch = bound(y), y.repeat(200, 1)
    learner: Any = type("Learner", (), {})()
    learner.strategy = InputMixup(1.0, partner="label_kernel", bandwidth=bandwidth)
    learner.settings = type("Settings", (), {"epochs": 1})
    learner.objective = type("Objective", (), {"task": task})
    context: Context = BatchContext(learner, torch.zeros(0), 1)(batch, batch, 1, 0)
    partner = learner.strategy.sample(batch.shape, generator, context).partner.view(200, 5) % 5
    z = stats.zscore(y.double().numpy()[:, 0])
    density = stats.norm.pdf(z[:, None], z, bandwidth)
    expected = density / density.sum(axis=1, keepdims=True)
    for row in range(5):
        found = np.bincount(partner[:, row].numpy(), minlength=5) / 200
        assert np.abs(found - expected[row]).max() < 4 * 0.5 / 200**0.5


@given(seed=SEED, outputs=st.integers(1, 2))
def test_the_baseline_is_ridge_regression(seed: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 4)) * [1, 100, 0.01, 5] + [0, 3, 0, 1]
    y = x @ rng.normal(size=(4, outputs)) + rng.normal(size=(40, outputs))
    train, test = (Samples(torch.from_numpy(x[part]).float(), torch.from_numpy(y[part]).float())
                   for part in (slice(0, 30), slice(30, 40)))  # fmt: skip
    kind = Table(4)
    mean, std = kind.statistics(train)
    whole = RunData(train, None, test, tuple("ab"[:outputs]), mean, std, given=kind)
    found = REGRESSION.bind(whole, uneven=False).baseline(whole)
    scaled = (x - x[:30].mean(axis=0)) / x[:30].std(axis=0)
    fitted = RidgeCV(alphas=PENALTIES).fit(scaled[:30], (y[:30] - y[:30].mean(axis=0)) / y[:30].std(axis=0))
    predicted = fitted.predict(scaled[30:]).reshape(10, outputs) * y[:30].std(axis=0) + y[:30].mean(axis=0)
    assert found is not None
    assert found["name"] == "ridge regression"
    assert found["test"]["rmse"] == pytest.approx(root_mean_squared_error(y[30:], predicted), rel=1e-4)
    assert found["test"]["r2"] == pytest.approx(r2_score(y[30:], predicted), rel=1e-3, abs=1e-4)
    assert REGRESSION.baseline(replace(whole, given=Images(1, 2))) is None


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1]), "task must fit the targets: regression needs (N, 1) floats, got (2,) train"),
        (torch.zeros(2, 3), "task must fit the targets: regression needs (N, 1) floats, got (2, 3) train"),
        (torch.tensor([[0.0], [torch.nan]]), "task must fit the targets: regression needs finite numbers in train"),
        (torch.tensor([[0.0], [-torch.inf]]), "task must fit the targets: regression needs finite numbers in train"),
    ],
)
def test_targets_that_do_not_fit(targets: Tensor, message: str) -> None:
    part = Samples(torch.zeros(2, 1), targets)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        REGRESSION.refuse(RunData(part, None, part, ("y",), None, None, given=Table(1)), (1,))


LINES = [
    ("trainer.loss=ce", "trainer.loss=ce: must be one of auto, mse, mae, huber with dataset.task=regression"),
    ("trainer.label_smoothing=0.1", "trainer.label_smoothing=0.1: must be 0: a sample of dataset.task=regression has"),
    ("trainer.class_weights=inverse", "trainer.class_weights=inverse: must be none: a sample of dataset.task="),
    ("trainer.logit_adjustment=1", "trainer.logit_adjustment=1: must be 0: a sample of dataset.task=regression has"),
    ("dataset.label_noise=0.1", "dataset.label_noise=0.1: must be 0: a sample of dataset.task=regression has not one"),
    ("dataset.imbalance=step", "dataset.imbalance=step: must be none: a sample of dataset.task=regression has not one"),
    ("dataset.sampler=class_balanced", "dataset.sampler=class_balanced: must be shuffle: a sample of dataset.task="),
    ("dataset.task=classification", "dataset.task=classification: must fit the targets: classification needs"),
    ("dataset.task=regresion", "dataset.task=regresion: did you mean regression? allowed: classification, multilabel"),
    ("dataset.val_size=300", "dataset.val_size=300: must be 0 or from 1 to 299"),
    ("dataset.features=9", "dataset._target_=vicinal.data.tables.diabetes: must return inputs of [9] each, not of"),
    ("model=cnn", "model._target_=vicinal.models.cnn.CNN: must take the arguments features, classes; for these data "),
    ("mixup=cutmix", "mixup._target_=vicinal.mixing.CutMix: CutMix mixes images, clips and the like (B, C, ...), and "
     "these inputs are rows (B, 10)"),
    ("mixup=c_mixup mixup.bandwidth=0", "mixup.bandwidth=0: must be a finite number in (0, 1000000]"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "message"), LINES, ids=[added for added, _ in LINES])
def test_a_wrong_command_is_refused_before_a_folder_is_made(
    compose: Callable[..., Experiment], tmp_path: Path, added: str, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_data(compose("dataset=diabetes", *added.split()))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "outputs/runs").exists()


def test_a_run_records_its_baseline_and_a_report_has_it(
    compose: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    experiment = compose("dataset=diabetes", "trainer.epochs=2", "mixup=none", "trainer.threads=1")
    with caplog.at_level("INFO"):
        run(experiment)
    result = json.loads(experiment.folder.result.read_bytes())
    recorded = result["baseline"]["test"]
    assert f"ridge regression on the same samples: test rmse {recorded['rmse']:.4f}" in caplog.text
    assert 50 < recorded["rmse"] < 60
    assert recorded.keys() == result["test"]["last"].keys() == {"rmse", "mae", "r2"}
    rows = [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]
    assert {"train/mae", "train/loss_floor"} <= rows[0].keys()
    assert "train/mae_ceiling" not in rows[0]
    notes = compare(load_runs(experiment.folder.path)).notes
    assert f"ridge regression on the same samples has a test RMSE of {recorded['rmse']:.4g}" in notes
