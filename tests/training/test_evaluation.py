"""An evaluation changes nothing of the model, and gives the metrics of all batches together."""

import pytest
import torch
from torch import nn

from vicinal.tasks import CLASSIFICATION
from vicinal.tasks.metric import Totals
from vicinal.training.evaluation import evaluate
from vicinal.training.hardware import Hardware

CPU = torch.device("cpu")


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
    scores = evaluate(CLASSIFICATION, model, batches, Hardware(CPU, "fp32", 1))
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
    metrics = Totals(CLASSIFICATION.computed, CPU)
    metrics.update(CLASSIFICATION.read(logits), labels)
    assert scores == pytest.approx(metrics.compute(), rel=1e-5)


def test_the_evaluated_model_trains_on() -> None:
    """Nothing of inference mode sticks to the weights."""
    model = Noisy()
    evaluate(CLASSIFICATION, model, [(torch.randn(4, 12), torch.zeros(4, dtype=torch.int64))], Hardware(CPU, "fp32", 1))
    model(torch.randn(4, 12)).sum().backward()
    assert model[3].weight.grad is not None
