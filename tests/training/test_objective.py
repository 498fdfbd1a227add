"""The terms of the loss against sums by hand, for every strategy, with their floor and their compiled path."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from vicinal.config.schema import TrainerConfig
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing import CutMix, InputMixup, ManifoldMixup, MixPlan, Mixup, mixed_forward
from vicinal.tasks import CLASSIFICATION
from vicinal.training.hardware import Hardware
from vicinal.training.learner import Learner
from vicinal.training.objective import Objective
from vicinal.training.schedules import constant

Compose = Callable[..., Experiment]
Make = Callable[..., Mixup]

CLASSES, SMOOTHING = 5, 0.1
STRATEGIES: dict[str, Make] = {
    "input": partial(InputMixup, 1.0),
    "manifold": partial(ManifoldMixup, 1.0, ["0", "2"]),
    "cutmix": partial(CutMix, 1.0, per_sample=True),
}
each_strategy = pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES)
TINY = (
    "model=mlp",
    "model.hidden=[16]",
    "dataset.train_size=130",
    "dataset.val_size=50",
    "trainer.batch_size=30",
    "trainer.epochs=2",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "wandb.images=0",
)


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, CLASSES))


def make_learner(model: nn.Module, strategy: Mixup, compiled: bool = False) -> Learner:
    settings = TrainerConfig(epochs=4, batch_size=7, label_smoothing=SMOOTHING, channels_last=False)
    hardware = Hardware(torch.device("cpu"), "fp32", 1, compiled)
    return Learner(model, partial(SGD, lr=0.1), constant, strategy, settings, hardware, steps_per_epoch=1)


def batches(strategy: Mixup, count: int) -> Iterator[tuple[Tensor, Tensor, MixPlan]]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        images = torch.randn(7, 3, 8, 8, generator=generator)
        yield images, torch.randint(CLASSES, (7,), generator=generator), strategy.sample(images.shape, generator)


@each_strategy
@pytest.mark.parametrize(("mixed", "clean"), [(1.0, 1.0), (0.3, 0.0), (0.5, 2.0)])
def test_steps_by_hand(make: Make, mixed: float, clean: float) -> None:
    """Two passes, the mixed one first, and the gradient of their weighted sum."""
    model, strategy = make_model(), make(mixed_weight=mixed, clean_weight=clean)
    own = copy.deepcopy(model)
    learner = make_learner(model, strategy)
    for images, labels, plan in batches(strategy, 3):
        output = learner.step(images, labels, plan)
        logits = mixed_forward(own, images, plan)
        loss = mixed * plan.loss(logits, labels, SMOOTHING)
        if clean:
            loss = loss + clean * nn.functional.cross_entropy(own(images), labels, label_smoothing=SMOOTHING)
        gradients = torch.autograd.grad(loss, list(own.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(own.parameters(), gradients, strict=True):
                weight.sub_(gradient, alpha=0.1)
        torch.testing.assert_close(output.loss, loss.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(output.outputs, logits.detach(), rtol=1e-5, atol=1e-5)
        assert torch.equal(output.score, CLASSIFICATION.score(plan, output.outputs, labels))
        for name, value in own.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    assert int(model.get_buffer("1.num_batches_tracked")) == (6 if clean else 3)


def test_the_usual_weights_are_one_pass_and_no_product() -> None:
    passes = 0
    loss = torch.tensor(2.0)

    def forward(images: Tensor, plan: MixPlan) -> Tensor:
        nonlocal passes
        passes += 1
        return torch.zeros(2, 3)

    plan, labels = MixPlan(torch.ones(2), torch.arange(2)), torch.tensor([0, 1])
    assert Objective(CLASSIFICATION, lambda *_: loss)(forward, torch.zeros(2, 1), labels, plan).loss is loss
    assert passes == 1
    assert Objective(CLASSIFICATION, lambda *_: loss, 0.5, 2.0)(forward, torch.zeros(2, 1), labels, plan).loss == 5
    assert passes == 3


@pytest.mark.parametrize("words", ["mixup=input", "mixup=manifold mixup.layers=[hidden1]", "mixup=cutmix"])
def test_the_floor_is_that_of_both_terms(compose: Compose, words: str) -> None:
    """A perfect model reaches it: each term is at the entropy of its own targets; the ceiling stays the mixed one's."""
    common = (*TINY, *words.split(), "mixup.alpha=1", "trainer.label_smoothing=0.1")
    plain, weighted = compose(*common), compose(*common, "mixup.mixed_weight=0.5", "mixup.clean_weight=2")
    smoothed = [0.91, *[0.01] * 9]
    clean = -sum(p * math.log(p) for p in smoothed)
    rows = []
    for experiment in (plain, weighted):
        run(experiment)
        rows.append([json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()])
    for before, after in zip(*rows, strict=True):
        assert after["train/loss_floor"] == pytest.approx(0.5 * before["train/loss_floor"] + 2 * clean, rel=1e-6)
        assert after["train/acc1_ceiling"] == before["train/acc1_ceiling"]
        assert after["mixing/target_entropy"] == before["mixing/target_entropy"]
        assert after["train/loss"] > after["train/loss_floor"]


def test_the_floor_of_patchup_is_that_of_its_three_terms(compose: Compose) -> None:
    """They are twice the loss to the mixed target, so the floor is twice as high too."""
    floors = []
    for words in ((), ("mixup.mixed_weight=1",)):
        experiment = compose(*TINY, "model=cnn", "mixup=patchup", "mixup.block=3", *words)
        run(experiment)
        rows = [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]
        assert all(0 < row["train/loss_floor"] < row["train/loss"] for row in rows)
        floors.append([row["train/loss_floor"] for row in rows])
    assert floors[0] == pytest.approx([2 * floor for floor in floors[1]], rel=1e-6)


def test_the_keys_are_neutral_at_their_defaults(compose: Compose) -> None:
    for strategy in ("input", "manifold", "cutmix"):
        plain = compose(f"mixup={strategy}")
        neutral = compose(f"mixup={strategy}", "mixup.clean_weight=0", "mixup.mixed_weight=1")
        other = compose(f"mixup={strategy}", "mixup.clean_weight=1")
        assert plain.run_id == neutral.run_id != other.run_id
    assert compose("mixup=none").run_id == compose("mixup=none", "mixup.clean_weight=1").run_id


@pytest.mark.slow
@each_strategy
def test_both_passes_are_compiled(make: Make) -> None:
    """One graph per block that is mixed and one for all other passes, the clean one among them."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    strategy = make(clean_weight=1.0)
    models = [make_model() for _ in range(2)]
    learners = [make_learner(model, strategy, compiled) for model, compiled in zip(models, (False, True), strict=True)]
    graphs = set()
    for images, labels, plan in batches(strategy, 8):
        graphs |= {plan.layer, None}
        eager, compiled = (learner.step(images, labels, plan) for learner in learners)
        torch.testing.assert_close(compiled.loss, eager.loss, rtol=1e-3, atol=1e-4)
    assert learners[1].graphs == len(graphs)
    assert counters["stats"]["unique_graphs"] == len(graphs)
    for weight, expected in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)
