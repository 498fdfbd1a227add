"""Folders say what a run is about: options, alpha and what the command line has set; and nothing secret."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vicinal.experiment import Experiment
from vicinal.runs.names import run_name, short

Compose = Callable[..., Experiment]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "digits-cnn-input-alpha0.2"),
        ("mixup=cutmix mixup.alpha=0.50 seed=4", "digits-cnn-cutmix-alpha0.5"),
        ("mixup=none mixup.alpha=0.5", "digits-cnn-none"),
        ("optimizer.lr=5e-2 trainer.epochs=3", "digits-cnn-input-alpha0.2-lr0.05-epochs3"),
        ("model=preact_resnet18 model.width=8 seed=2", "digits-preact_resnet18-input-alpha0.2-width8"),
        ("optimizer=adamw optimizer.lr=0.001", "digits-cnn-input-alpha0.2-lr0.001-adamw"),
        ("mixup=reference/fastai", "digits-cnn-reference_fastai-alpha0.4"),
        ("mixup={alpha:1,prob:0.5}", "digits-cnn-input-alpha1-prob0.5"),
        ("mixup=manifold mixup.layers=[input,block1]", "digits-cnn-manifold-alpha2-layers_input_block1"),
        ("trainer.precision=bf16 trainer.ema_decay=null", "digits-cnn-input-alpha0.2-precision_bf16-ema_decay_null"),
        ("+optimizer.maximize=true ++scheduler.min_lr=0.1", "digits-cnn-input-alpha0.2-maximize_true-min_lr0.1"),
        ("trainer.threads=1 trainer.log_every=5 dataset.root=x wandb.tags=[a] busy=skip", "digits-cnn-input-alpha0.2"),
        ("experiment=mnist_cnn", "mnist-cnn-input-alpha0.5"),
        ("dataset.augment=false dataset.crop_padding=2", "digits-cnn-input-alpha0.2-augment_false"),
    ],
)  # fmt: skip
def test_a_name_says_what_was_asked_for(words: str, name: str, compose: Compose) -> None:
    experiment = compose(*words.split())
    assert experiment.name == name
    assert experiment.folder.path.name == f"{name}-{experiment.run_id}"


def test_a_name_does_not_depend_on_the_seed_and_an_existing_folder_is_found(compose: Compose) -> None:
    first = compose("optimizer.lr=0.05", "seed=1")
    assert first.name == compose("optimizer.lr=0.05", "seed=2").name
    first.folder.path.mkdir(parents=True)
    other = compose("trainer.epochs=30", "seed=1", "optimizer.lr=0.05")
    assert other.name == "digits-cnn-input-alpha0.2-epochs30-lr0.05"
    assert other.folder.path == first.folder.path


def test_keys_of_one_name_are_told_apart() -> None:
    assert short(["a.x", "b.x", "b.y"]) == {"a.x": "a.x", "b.x": "b.x", "b.y": "y"}
    settings = {"mixup": {"alpha": 0.2}, "model": {"alpha": 3}}
    assert run_name({}, settings, ["model.alpha=3"]) == "custom-custom-custom-mixup.alpha0.2-model.alpha3"


def test_a_name_is_bounded_and_safe() -> None:
    settings = {"dataset": {"note": "../" * 99, "other": "é\n/" * 5, **{f"key_number_{i}": i for i in range(20)}}}
    name = run_name({"dataset": "own"}, settings, [f"dataset.{key}=1" for key in settings["dataset"]])
    assert re.fullmatch(r"own-custom-custom-note[.][A-Za-z0-9_.-]{1,80}-key_number_0_0", name)
    assert len(name) <= 80


def test_no_secret_is_in_a_name(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hidden-value")
    settings = {"dataset": {"api_key": "abcdefgh", "note": "hidden-value", "auth": {"token": "abcdefgh"}}}
    words = ["dataset.api_key=abcdefgh", "dataset.note=hidden-value", "dataset.auth.token=abcdefgh"]
    assert run_name({}, settings, words) == "custom-custom-custom-note_SOME_TOKEN"
