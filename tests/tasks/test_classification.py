"""The metrics of classification against torchmetrics, SciPy and scikit-learn, and the score of a training step."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score, brier_score_loss
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from vicinal.mixing import MixPlan
from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.classification import Classification
from vicinal.tasks.metric import Totals

CPU = torch.device("cpu")


def measure(
    logits: Tensor, labels: Tensor, cuts: list[int] | None = None, task: Classification = CLASSIFICATION
) -> dict[str, float]:
    metrics = Totals(CLASSIFICATION.computed, CPU)
    inner = sorted(cuts or [])
    for start, end in zip([0, *inner], [*inner, len(labels)], strict=True):
        if start < end:
            metrics.update(task.read(logits[start:end]), labels[start:end])
    return metrics.compute()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    classes=st.integers(2, 12),
    samples=st.integers(1, 80),
    scale=st.sampled_from([0.01, 1.0, 5.0, 60.0]),  # from all but uniform to probabilities of exactly 1
    data=st.data(),
)
def test_equal_to_the_oracles(seed: int, classes: int, samples: int, scale: float, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator) * scale
    labels = torch.randint(classes, (samples,), generator=generator)
    cuts = data.draw(st.lists(st.integers(0, samples), max_size=5))
    found = measure(logits, labels, cuts)

    top1 = MulticlassAccuracy(classes, top_k=1, average="micro")(logits, labels).item()
    top5 = MulticlassAccuracy(classes, top_k=5, average="micro")(logits, labels).item() if classes > 5 else 1.0
    ece = MulticlassCalibrationError(classes, n_bins=15, norm="l1")(logits.softmax(1), labels).item()
    nll = -log_softmax(logits.double().numpy(), axis=1)[np.arange(samples), labels.numpy()].mean()
    brier = np.square(logits.double().softmax(1).numpy() - np.eye(classes)[labels.numpy()]).sum(axis=1).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and have no samples, which do not count
        balanced = balanced_accuracy_score(labels, logits.argmax(1))
    expected = {"acc1": top1, "acc5": top5, "nll": nll, "ece": ece, "brier": brier, "balanced_acc": balanced}
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-6)


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 12), scale=st.sampled_from([0.01, 1.0, 3.0]))
def test_networks_trained_by_sigmoids_are_scored_by_sigmoids(seed: int, classes: int, scale: float) -> None:
    """Against torchmetrics, with the probabilities written out: each sigmoid over their sum."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(60, classes, generator=generator)
    labels = torch.randint(classes, (60,), generator=generator)
    found = measure(logits, labels, task=CLASSIFICATION.trained_with("bce"))
    p = logits.double().sigmoid() / logits.double().sigmoid().sum(dim=1, keepdim=True)
    own = p.gather(1, labels[:, None])[:, 0]
    ece = MulticlassCalibrationError(classes, n_bins=15, norm="l1")(p.float(), labels).item()
    brier = (p - torch.eye(classes)[labels]).square().sum(dim=1).mean().item()
    assert found["nll"] == pytest.approx(-own.log().mean().item(), rel=1e-5, abs=1e-6)
    assert found["ece"] == pytest.approx(ece, rel=1e-4, abs=2e-6)
    assert found["brier"] == pytest.approx(brier, rel=1e-4, abs=1e-6)
    plain = measure(logits, labels)
    assert (found["acc1"], found["acc5"]) == (plain["acc1"], plain["acc5"])
    for loss in ("auto", "ce", "bce_softmax", "focal"):
        assert measure(logits, labels, task=CLASSIFICATION.trained_with(loss)) == plain


def test_a_network_that_has_learned_the_sigmoids_is_calibrated() -> None:
    """Of 1,000 samples of a point 800 have the first class: the binary cross-entropy is least at these log-odds."""
    share = torch.tensor([0.8, 0.15, 0.05])
    labels = torch.repeat_interleave(torch.arange(3), (1000 * share).round().long())
    logits = share.logit().expand(len(labels), 3)
    found = measure(logits, labels, task=CLASSIFICATION.trained_with("bce"))
    assert found["ece"] == pytest.approx(0, abs=1e-5)
    assert found["nll"] == pytest.approx(-(share * share.log()).sum().item(), rel=1e-5)
    assert measure(logits, labels)["ece"] == pytest.approx(0.145827, abs=1e-6)  # the softmax of log-odds is too sure


def test_by_hand() -> None:
    """Confidences 0.7 (right) and 0.9 (wrong), far from every edge of the bins: ECE is the mean of 0.3 and 0.9."""
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.9, 0.06, 0.04]]).log()
    found = measure(logits, torch.tensor([0, 2]))
    nll = -(np.log(0.7) + np.log(0.04)) / 2
    brier = ((0.3**2 + 0.2**2 + 0.1**2) + (0.9**2 + 0.06**2 + 0.96**2)) / 2
    expected = {"acc1": 0.5, "acc5": 1.0, "nll": nll, "ece": 0.6, "brier": brier, "balanced_acc": 0.5}
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_brier_score_is_that_of_scikit_learn(classes: int) -> None:
    """The sum over the classes, which for two classes is twice scikit-learn's own default."""
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(400, classes, generator=generator)
    labels = torch.randint(classes, (400,), generator=generator)
    probabilities = logits.double().softmax(1).numpy()
    expected = brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False)
    assert measure(logits, labels)["brier"] == pytest.approx(expected, rel=1e-6)


def test_the_ends_of_the_brier_score() -> None:
    sure = torch.tensor([[500.0, 0.0, 0.0], [0.0, 500.0, 0.0]])
    assert measure(sure, torch.tensor([0, 1]))["brier"] == 0
    assert measure(sure, torch.tensor([1, 2]))["brier"] == 2
    assert measure(torch.zeros(1, 4), torch.tensor([3]))["brier"] == 0.75


def test_a_confidence_of_one_has_its_own_bin() -> None:
    """Sure and wrong does not make up for unsure and right, as with torchmetrics."""
    logits = torch.tensor([[200.0, 0.0], [3.5, 0.0]])
    labels = torch.tensor([1, 0])
    ece = MulticlassCalibrationError(2, n_bins=15, norm="l1")(logits.softmax(1), labels).item()
    assert measure(logits, labels)["ece"] == pytest.approx(ece, rel=1e-6)
    assert ece == pytest.approx((1 + (1 - 1 / (1 + np.exp(-3.5)))) / 2, rel=1e-5)


def test_logits_that_are_no_numbers_give_no_number() -> None:
    found = measure(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))
    assert all(np.isnan(found[key]) for key in ("nll", "ece", "brier"))


def test_bf16_logits_are_judged_in_float32() -> None:
    logits = torch.randn(300, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(300) % 10
    assert measure(logits, labels) == measure(logits.float(), labels)


class TestScore:
    @given(batch=st.integers(1, 9), seed=st.integers(0, 2**32), active=st.booleans())
    def test_is_the_targets_weight_of_the_predicted_class(self, batch: int, seed: int, active: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        lam, partner = torch.rand(batch, generator=generator), torch.randperm(batch, generator=generator)
        plan = MixPlan(lam, partner, active=active)
        logits = torch.randn(batch, 7, generator=generator)
        labels = torch.randint(7, (batch,), generator=generator)
        expected = plan.targets(labels, 7).gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1)
        score = CLASSIFICATION.score(plan, logits, labels)
        assert score.dtype == torch.float32
        torch.testing.assert_close(score, expected, rtol=0, atol=1e-7)

    def test_by_hand(self) -> None:
        labels = torch.tensor([0, 1, 2, 2])
        plan = MixPlan(torch.tensor([0.75, 0.75, 0.75, 0.25]), torch.tensor([1, 0, 3, 2]))
        predicted = torch.tensor([0, 0, 2, 1])  # own label, partner's, both at once, neither
        assert CLASSIFICATION.score(plan, F.one_hot(predicted, 3).float(), labels).tolist() == [0.75, 0.25, 1, 0]


def test_captions() -> None:
    names = ["cat", "dog", "owl"]
    assert CLASSIFICATION.caption([(1.0, 1)], names) == "dog"
    assert CLASSIFICATION.caption([(0.734, 0), (0.266, 1)], names) == "0.73 cat + 0.27 dog"
    assert CLASSIFICATION.caption([(0.5, 2), (0.25, 1), (0.25, 0)], names) == "0.50 owl + 0.25 dog + 0.25 cat"
