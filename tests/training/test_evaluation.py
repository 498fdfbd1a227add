"""The four metrics against torchmetrics and SciPy, and what an evaluation leaves alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from vicinal.training.evaluation import Metrics, evaluate
from vicinal.training.hardware import Hardware

CPU = torch.device("cpu")


def measure(logits: Tensor, labels: Tensor, cuts: list[int] | None = None) -> dict[str, float]:
    metrics = Metrics(CPU)
    inner = sorted(cuts or [])
    for start, end in zip([0, *inner], [*inner, len(labels)], strict=True):
        if start < end:
            metrics.update(logits[start:end], labels[start:end])
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
    expected = {"acc1": top1, "acc5": top5, "nll": nll, "ece": ece}
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-6)


def test_by_hand() -> None:
    """Confidences .7 (right) and .9 (wrong), far from every edge of the bins: ECE is the mean of .3 and .9."""
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.9, 0.06, 0.04]]).log()
    found = measure(logits, torch.tensor([0, 2]))
    nll = -(np.log(0.7) + np.log(0.04)) / 2
    assert found == pytest.approx({"acc1": 0.5, "acc5": 1.0, "nll": nll, "ece": 0.6}, rel=1e-6)


def test_a_confidence_of_one_has_its_own_bin() -> None:
    """Sure and wrong does not make up for unsure and right, as with torchmetrics."""
    logits = torch.tensor([[200.0, 0.0], [3.5, 0.0]])
    labels = torch.tensor([1, 0])
    ece = MulticlassCalibrationError(2, n_bins=15, norm="l1")(logits.softmax(1), labels).item()
    assert measure(logits, labels)["ece"] == pytest.approx(ece, rel=1e-6)
    assert ece == pytest.approx((1 + (1 - 1 / (1 + np.exp(-3.5)))) / 2, rel=1e-5)


def test_logits_that_are_no_numbers_give_no_number() -> None:
    found = measure(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))
    assert np.isnan(found["nll"])
    assert np.isnan(found["ece"])


def test_bf16_logits_are_judged_in_float32() -> None:
    logits = torch.randn(300, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(300) % 10
    assert measure(logits, labels) == measure(logits.float(), labels)


class Noisy(nn.Sequential):
    """Batch norm, dropout and a mode of its own in one part."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 4))


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_everything_as_it_was(training: bool) -> None:
    torch.manual_seed(0)
    model = Noisy().train(training)
    batches = [(torch.randn(5, 3, 2, 2), torch.randint(4, (5,))) for _ in range(3)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    scores = evaluate(model, batches, Hardware(CPU, "fp32", 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [training] * 5
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    # In evaluation mode: no dropout, running statistics.
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        normal = (images.flatten(1) - 0) / (1 + 1e-5) ** 0.5
        logits = normal @ model[3].weight.T + model[3].bias
    assert scores == pytest.approx(measure(logits, labels), rel=1e-5)


def test_the_evaluated_model_trains_on() -> None:
    """Nothing of inference mode sticks to the weights."""
    model = Noisy()
    evaluate(model, [(torch.randn(4, 12), torch.zeros(4, dtype=torch.int64))], Hardware(CPU, "fp32", 1))
    model(torch.randn(4, 12)).sum().backward()
    assert model[3].weight.grad is not None
