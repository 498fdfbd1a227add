"""Whole runs on the embedded digits: what they are judged by, and that the same request gives the same bits."""

import copy
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vicinal import build
from vicinal.data import Loader
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.mixing import MixPlan
from vicinal.tasks import CLASSIFICATION
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.tracking.wandb.tracker import WandbTracker
from vicinal.training.evaluation import evaluate
from vicinal.training.learner import Learner
from vicinal.training.state import History
from vicinal.training.train_metrics import DivergedError

from .. import forked

Compose = Callable[..., Experiment]
ROOT = Path(__file__).parents[2]
STRATEGIES = ("none", "input", "manifold", "cutmix")
METRICS = tuple(metric.key for metric in CLASSIFICATION.computed)
TINY = (
    "dataset.train_size=200",
    "dataset.val_size=100",
    "trainer.batch_size=50",
    "trainer.precision=fp32",
    "trainer.threads=1",
)
MLP = ("model=mlp", "model.hidden=[32,32]", *TINY)


def read_rows(experiment: Experiment) -> list[dict[str, Any]]:
    return [json.loads(line) for line in experiment.folder.metrics.read_text().splitlines()]


def without_times(metrics: Path) -> str:
    text, count = re.subn(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", metrics.read_text())
    assert count == len(TIME_FIELDS) * len(text.splitlines())
    return text


def scores(row: dict[str, Any], prefix: str) -> dict[str, float]:
    return {name: row[f"{prefix}/{name}"] for name in METRICS}


def weights(experiment: Experiment) -> torch.nn.Module:
    model = build.make_model(experiment)
    checkpoint = torch.load(experiment.folder.checkpoint, weights_only=True)
    assert checkpoint["epoch"] == experiment.trainer.epochs
    model.load_state_dict(checkpoint["model"])
    return model


@pytest.mark.parametrize("extra", [[], ["trainer.ema_decay=0.8", "scheduler=constant"]], ids=["plain", "ema"])
def test_result_is_what_the_epochs_say(compose: Compose, extra: list[str]) -> None:
    experiment = compose(*MLP, "trainer.epochs=6", "optimizer.lr=0.5", *extra)
    result = run(experiment)
    rows = read_rows(experiment)
    assert experiment.folder.read_result() == result
    assert [(row["epoch"], row["step"]) for row in rows] == [(n, 4 * n) for n in range(1, 7)]

    validation = [row["val/acc1"] for row in rows]
    best = int(np.argmax(validation))  # the first of equals
    assert result["best_epoch"] == best + 1
    assert result["val"] == scores(rows[-1], "val")
    assert result["val_best"] == scores(rows[best], "val")
    assert result["test"]["last"] == scores(rows[-1], "test")
    # The weights of the best epoch were tested twice, then and at the end.
    assert result["test"]["best_val"] == scores(rows[best], "test")
    medians = {name: float(np.median([row[f"test/{name}"] for row in rows])) for name in METRICS}
    assert result["test"]["median10"] == pytest.approx(medians, rel=1e-12)

    assert result["status"] == "completed"
    assert result["epochs"] == 6
    assert result["config"] == experiment.settings()
    assert result["choices"] == experiment.choices
    assert (result["run_id"], result["cell_id"], result["seed"]) == (experiment.run_id, experiment.cell_id, 0)
    assert sum(row["seconds"] for row in rows) == pytest.approx(
        result["seconds"]["train"] + result["seconds"]["evaluation"], rel=1e-6
    )
    assert result["images_per_second"] == pytest.approx(6 * 200 / result["seconds"]["train"], rel=1e-6)

    tested = evaluate(CLASSIFICATION, weights(experiment), loaders(experiment).test.batches(), experiment.hardware)
    assert tested == result["test"]["last"]


def loaders(experiment: Experiment) -> Any:
    return build.make_loaders(experiment, build.load_data(experiment))


def test_median_is_over_the_last_ten_epochs_and_best_may_lie_before_them(compose: Compose) -> None:
    """A rate so small that the bits of the weights change and no prediction does: the first epoch stays the best."""
    words = (*MLP, "scheduler=constant", "optimizer.lr=1e-6")
    long, short = compose(*words, "trainer.epochs=13"), compose(*words, "trainer.epochs=1")
    result, first = run(long), run(short)
    rows = read_rows(long)
    assert ["test/acc1" in row for row in rows] == [False] * 3 + [True] * 10
    assert len({row["val/acc1"] for row in rows}) == 1
    assert len({row["val/nll"] for row in rows}) == 13
    assert result["best_epoch"] == 1
    assert result["test"]["best_val"] == first["test"]["last"] != result["test"]["last"]
    medians = {name: float(np.median([row[f"test/{name}"] for row in rows[3:]])) for name in METRICS}
    assert result["test"]["median10"] == pytest.approx(medians, rel=1e-12)
    assert (
        evaluate(CLASSIFICATION, weights(long), loaders(long).test.batches(), long.hardware) == result["test"]["last"]
    )


def test_best_weights_are_a_copy() -> None:
    history, model = History(), torch.nn.Linear(2, 1)
    kept = copy.deepcopy(model.state_dict())
    for epoch, acc1 in enumerate([0.5, 0.7, 0.7, 0.6], start=1):
        if epoch == 2:
            kept = copy.deepcopy(model.state_dict())
        history.add({"epoch": epoch, "val/acc1": acc1}, model, CLASSIFICATION)
        with torch.no_grad():
            model.weight += 1
    assert (history.best_epoch, history.last("val"), history.last("test")) == (2, {"acc1": 0.6}, None)
    assert all(torch.equal(history.best_weights[name], kept[name]) for name in kept)


def test_without_validation(compose: Compose) -> None:
    experiment = compose(*MLP, "trainer.epochs=2", "dataset.val_size=0")
    result = run(experiment)
    assert result["val"] is result["best_epoch"] is result["test"]["best_val"] is None
    rows = read_rows(experiment)
    assert not [key for row in rows for key in row if key.startswith("val/")]
    assert result["test"]["last"] == scores(rows[-1], "test")


def test_training_is_told_with_its_ceiling_and_floor(compose: Compose) -> None:
    experiment = compose(*MLP, "trainer.epochs=2", "mixup.alpha=1")
    run(experiment)
    for row in read_rows(experiment):
        assert row["train/acc1"] <= row["train/acc1_ceiling"] < 1
        assert 0 < row["train/loss_floor"] < row["train/loss"]


def test_captions_have_the_weights_of_the_loss(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """PatchUp's depend on the blocks, which are drawn for the features."""
    plans: list[MixPlan] = []
    shown: list[str] = []
    original = Learner.step

    def step(self: Learner, *args: Any) -> Any:
        output = original(self, *args)
        plans.append(output.plan)
        return output

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(WandbTracker, "mixed_images", lambda self, images, captions: shown.extend(captions))
    words = ("mixup=patchup", "mixup.layers=[input]", "mixup.block=1", "mixup.gamma=0.5", "model=mlp")
    run(compose(*words, "dataset.train_size=120", "trainer.batch_size=60", "trainer.epochs=1", "wandb.images=4"))
    assert [float(caption.split()[0]) for caption in shown] == pytest.approx(
        [float(plan.lam[row]) for plan in plans for row in range(2)], abs=0.0051
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("mixup=cutout", "mixup.size=4"), (1, 1)),  # what the square covers is nobody's
        (("mixup=input", "mixup.alpha=1", "mixup.members=3"), (2, 3)),
    ],
)
def test_a_caption_names_each_sample_once(
    words: tuple[str, ...], parts: tuple[int, int], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two batches of six, in which three members are often the same sample."""
    shown: list[str] = []
    monkeypatch.setattr(WandbTracker, "mixed_images", lambda self, images, captions: shown.extend(captions))
    few = (
        "dataset.train_size=12",
        "trainer.batch_size=6",
        "trainer.epochs=1",
        "wandb.images=12",
        "dataset.val_size=100",
    )
    run(compose(*MLP, *words, *few))
    found = [caption.split(" + ") for caption in shown]
    assert len(found) == 12
    assert (min(map(len, found)), max(map(len, found))) == parts
    for several in found:
        assert sum(float(part.split()[0]) for part in several if len(several) > 1) in (0, pytest.approx(1, abs=0.016))


def test_a_diverged_run_has_failed_at_a_step(compose: Compose) -> None:
    experiment = compose(*MLP, "trainer.epochs=3", "optimizer.lr=1e30", "mixup=none", "scheduler=constant")
    with pytest.raises(DivergedError) as caught:
        run(experiment)
    # Step 1 is computed on fresh weights; what it leaves behind overflows in the next.
    assert str(caught.value).startswith("the loss is not finite since step 2; the likely cause: the learning rate is ")
    result = json.loads(experiment.folder.result.read_text())
    assert (result["status"], result["error"]) == ("failed", str(caught.value))
    assert (result["run_id"], result["config"]) == (experiment.run_id, experiment.settings())
    assert experiment.folder.log.read_text().endswith(f"failed: {caught.value}\n")


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[str, str]]:
    """Hashes of the initial weights and of all images and labels, in the order of their use, since the last call."""
    seen = {"weights": hashlib.sha256(), "samples": hashlib.sha256()}
    make, epoch = Learner.__init__, Loader.pending

    def watched_make(self: Learner, model: torch.nn.Module, *args: Any, **keys: Any) -> None:
        for name, value in model.state_dict().items():
            seen["weights"].update(name.encode() + value.numpy().tobytes())
        make(self, model, *args, **keys)

    def watched_epoch(self: Loader, *args: Any, **keys: Any) -> Any:
        for images, labels in epoch(self, *args, **keys):
            seen["samples"].update(images.contiguous().numpy().tobytes() + labels.numpy().tobytes())
            yield images, labels

    monkeypatch.setattr(Learner, "__init__", watched_make)
    monkeypatch.setattr(Loader, "pending", watched_epoch)

    def read() -> tuple[str, str]:
        found = seen["weights"].hexdigest(), seen["samples"].hexdigest()
        seen.update(weights=hashlib.sha256(), samples=hashlib.sha256())
        return found

    return read


def test_strategies_are_paired(compose: Compose, witness: Callable[[], tuple[str, str]]) -> None:
    """The same weights and the same samples, cropped and flipped alike, under all; others with another seed."""
    found = {}
    for seed in (0, 1):
        for strategy in STRATEGIES:
            run(
                compose(
                    *TINY, f"mixup={strategy}", f"seed={seed}", "trainer.epochs=2", "dataset.augment=true",
                    "dataset.flip=true", "mixup.alpha=1",
                )
            )  # fmt: skip
            found[seed, strategy] = witness()
    (weights0,), (samples0,) = ({found[0, strategy][part] for strategy in STRATEGIES} for part in (0, 1))
    (weights1,), (samples1,) = ({found[1, strategy][part] for strategy in STRATEGIES} for part in (0, 1))
    assert weights0 != weights1
    assert samples0 != samples1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_request_gives_the_same_bits(compose: Compose, tmp_path: Path, strategy: str, precision: str) -> None:
    """With dropout and augmentation, in one process, one after the other."""
    words = (*TINY, f"mixup={strategy}", f"trainer.precision={precision}", "trainer.epochs=2", "dataset.augment=true")
    both = [compose(*words, f"output_dir={tmp_path / name}") for name in ("first", "second")]
    for experiment in both:
        run(experiment)
        torch.rand(7)  # what a process drew in between does not matter
    first, second = both
    assert first.run_id == second.run_id
    assert first.folder.path != second.folder.path
    assert without_times(first.folder.metrics) == without_times(second.folder.metrics)
    ours, theirs = weights(first).state_dict(), weights(second).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    other = compose(*words, "seed=1")
    run(other)
    assert without_times(other.folder.metrics) != without_times(first.folder.metrics)


@pytest.mark.slow
def test_two_processes_give_the_same_bits(compose: Compose, tmp_path: Path) -> None:
    words = [*TINY, "mixup=manifold", "trainer.epochs=2", "wandb.mode=disabled", "trainer.device=cpu"]
    command = [sys.executable, ROOT / "train.py", *words, f"output_dir={tmp_path / 'first'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    forked.run([*words, f"output_dir={tmp_path / 'second'}"], tmp_path).check_returncode()
    first, second = (compose(*words, f"output_dir={tmp_path / name}").folder for name in ("first", "second"))
    assert without_times(first.metrics) == without_times(second.metrics)
    own = compose(*words, f"output_dir={tmp_path / 'here'}")
    run(own)
    assert without_times(own.folder.metrics) == without_times(first.metrics)


def test_manifold_at_the_input_is_input_mixup(compose: Compose) -> None:
    words = (*TINY, "trainer.epochs=2", "mixup.alpha=0.7", "mixup.prob=0.8")
    plain = compose(*words, "mixup=input")
    manifold = compose(*words, "mixup=manifold", "mixup.layers=[input]")
    deep = compose(*words, "mixup=manifold", "mixup.layers=[block1]")
    for experiment in (plain, manifold, deep):
        run(experiment)
    assert without_times(manifold.folder.metrics) == without_times(plain.folder.metrics)
    assert without_times(deep.folder.metrics) != without_times(plain.folder.metrics)


@pytest.mark.parametrize("skipped", [True, False])
def test_a_training_says_that_what_it_wanted_compiled_was_not(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, skipped: bool
) -> None:
    if skipped:
        monkeypatch.setattr("torch.compile", lambda model, **options: model)
    run(compose(*MLP, "trainer.epochs=2", "trainer.compile=true"))
    said = "trainer.compile=True: torch compiled nothing of the model, which runs uncompiled"
    assert caplog.messages.count(said) == int(skipped)
