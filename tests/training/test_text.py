"""Training on sentences: saliency by torch's own gradient, losses written out, and a run that is resumed to the bit."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.huggingface_files import write_folder
from vicinal.config.schema import TrainerConfig
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing import ManifoldMixup, MixPlan, Strategy
from vicinal.mixing.text import SSMix
from vicinal.models.text import KimCNN, TextTransformer
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.batch_context import BatchContext
from vicinal.training.hardware import Hardware
from vicinal.training.learner import Learner

IDS = torch.tensor([[2, 3, 4, 5, 6, 0], [7, 8, 0, 0, 0, 0], [9, 2, 5, 0, 0, 0]])
LABELS = torch.tensor([0, 1, 2])
CPU = Hardware(torch.device("cpu"), "fp32", 1, False)


def learner(model: nn.Module, strategy: Strategy) -> Learner:
    constant = lambda optimizer, **_: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # noqa: E731
    return Learner(model, partial(torch.optim.SGD, lr=0.1), constant, strategy, TrainerConfig(), CPU, 1)


def cnn() -> KimCNN:
    torch.manual_seed(0)
    return KimCNN(12, 6, 3, width=5, filters=4, dropout=0.0)


@pytest.mark.parametrize("make", [cnn, lambda: TextTransformer(12, 6, 3, width=8, depth=1, heads=2)])
def test_the_saliency_of_a_word_is_the_norm_of_the_gradient_by_its_vector(make: Callable[[], nn.Module]) -> None:
    model = make()
    context = BatchContext(learner(model, SSMix()), torch.ones(3), 1)(IDS, LABELS, 1, 0)
    assert model.training
    model.eval()
    vectors: Tensor = model.embedding(IDS).detach().requires_grad_()
    model.embedding.register_forward_hook(lambda module, args, output: vectors)
    nn.functional.cross_entropy(model(IDS), LABELS).backward()
    assert vectors.grad is not None
    torch.testing.assert_close(context.saliency, vectors.grad.square().sum(dim=2).sqrt())
    assert context.images is IDS


@pytest.mark.parametrize("layer", ["embedding", "pooled"])
def test_the_loss_and_gradient_of_mixed_vectors(layer: str) -> None:
    """wordMixup and senMixup (arXiv 1905.08941, section 3) as sums that are written out."""
    ours, theirs = cnn(), cnn()
    lam, partner = torch.tensor([0.3, 0.8, 0.6]), torch.tensor([1, 2, 0])
    taught = learner(ours, ManifoldMixup(1.0, [layer]))
    loss = taught.step(IDS, LABELS, MixPlan(lam, partner, layer=layer)).loss

    def mixed(x: Tensor) -> Tensor:
        weight = lam.view(-1, *[1] * (x.dim() - 1))
        return weight * x + (1 - weight) * x[partner]

    vectors = theirs.embedding(IDS)
    pooled = theirs.pooled(mixed(vectors)) if layer == "embedding" else mixed(theirs.pooled(vectors))
    log_p = theirs.head(pooled).log_softmax(dim=1)
    rows = torch.arange(3)
    expected = -(lam * log_p[rows, LABELS] + (1 - lam) * log_p[rows, LABELS[partner]]).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, weight in theirs.named_parameters():
        assert weight.grad is not None
        stepped = ours.get_parameter(name)
        torch.testing.assert_close(stepped.detach(), (weight - 0.1 * weight.grad).detach(), rtol=1e-4, atol=1e-6)


def test_the_loss_of_ssmix_has_the_sentences_themselves_too() -> None:
    model, strategy = cnn(), SSMix(share=0.4)
    taught = learner(model, strategy)
    context = BatchContext(taught, torch.ones(3), 1)(IDS, LABELS, 1, 0)
    plan = strategy.sample(IDS.shape, torch.Generator().manual_seed(3), context)
    assert plan.active
    with torch.no_grad():
        clean, log_p = (model(ids).log_softmax(dim=1) for ids in (IDS, plan.mix(IDS)))
    rows = torch.arange(3)
    pair = plan.lam * log_p[rows, LABELS] + (1 - plan.lam) * log_p[rows, LABELS[plan.partner]]
    expected = -pair.mean() - clean[rows, LABELS].mean()
    torch.testing.assert_close(taught.step(IDS, LABELS, plan).loss, expected)


def write(folder: Path) -> None:
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for part, size in (("train", 24), ("test", 6)):
        rows = []
        for number in range(size):
            length = int(torch.randint(2, 9, (), generator=generator))
            found = torch.randint(20, (length,), generator=generator).tolist()
            rows.append(f"{number % 3}\t{' '.join(f'word{word}' for word in found)} word{20 + number % 3}\n")
        (folder / f"{part}.tsv").write_text("label\ttext\n" + "".join(rows))


def record(experiment: Experiment) -> tuple[object, ...]:
    folder = experiment.folder
    result = json.loads(folder.result.read_bytes())
    for name in ("seconds", "images_per_second", "wandb", "checksum"):
        del result[name]
    rows = re.sub(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", folder.metrics.read_text())
    return result, rows, folder.checkpoint.read_bytes(), folder.predictions.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("mixup=ssmix", "mixup.per_sample=true", "mixup.prob=0.7"),
        ("mixup=manifold", "model=text_transformer", "model.width=8", "model.heads=2", "mixup.law=folded"),
        ("mixup=manifold", "model=huggingface", "dataset.tokenizer=net"),
        ("mixup=ssmix", "mixup.ends=1", "model=huggingface", "dataset.tokenizer=net"),
    ],
    ids=["ssmix", "transformer", "pretrained", "pretrained-ssmix"],
)
def test_a_run_that_was_interrupted_is_the_run_that_was_not(
    compose: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data")
    write_folder(tmp_path / "net")  # of two classes, so that a new classifier is drawn
    tiny = (
        *("dataset=tsv", "dataset.root=data", "dataset.val_size=6", "dataset.length=10", "output_dir=outputs"),
        *("trainer.epochs=2", "trainer.batch_size=6", "trainer.precision=fp32", "trainer.threads=1"),
    )
    run(experiment := compose(*tiny, *words))
    whole = record(experiment)
    assert len(whole[0]["test"]["last"]) >= 5  # type: ignore[index]
    shutil.rmtree(experiment.folder.path)
    original, steps = Learner.step, []

    def step(self: Learner, *args: object) -> object:
        output = original(self, *args)  # type: ignore[arg-type]
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        return output

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(SystemExit):
        run(compose(*tiny, *words))
    run(compose(*tiny, *words))
    assert len(steps) == 6
    assert record(experiment) == whole


def test_the_whole_loss_is_the_same_at_any_length(compose: Callable[..., Experiment], tmp_path: Path) -> None:
    """Padding to a larger dataset.length is no part of a training: the same steps, to rounding."""
    write(tmp_path / "data")
    words = ("dataset=tsv", f"dataset.root={tmp_path / 'data'}", "dataset.val_size=6", "trainer.epochs=2")
    losses = []
    for length in (9, 30):
        experiment = compose(*words, f"dataset.length={length}", "trainer.precision=fp32", "trainer.threads=1")
        run(experiment)
        losses.append([json.loads(line)["train/loss"] for line in experiment.folder.metrics.read_text().splitlines()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
