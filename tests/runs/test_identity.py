"""Which keys make another run: every key of the schema is asked."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from vicinal.config.schema import GROUPS, Config, TrainerConfig, WandbConfig
from vicinal.experiment import Experiment
from vicinal.runs.identity import cell_id, run_id

Compose = Callable[..., Experiment]

CHANGES: dict[str, tuple[list[str], list[str]]] = {
    "dataset._target_": (
        ["dataset=mnist"],
        ["dataset._target_=vicinal.data.sources.digits", "~dataset.name"],
    ),
    "dataset.channels": (["dataset.mean=null", "dataset.std=null"], ["dataset.channels=3"]),
    "dataset.image_size": ([], ["dataset.image_size=9"]),
    "dataset.classes": ([], ["dataset.classes=11"]),
    "dataset.mean": ([], ["dataset.mean=[0.5]"]),
    "dataset.std": ([], ["dataset.std=null"]),
    "dataset.val_size": ([], ["dataset.val_size=0"]),
    "dataset.train_size": ([], ["dataset.train_size=500"]),
    "dataset.split_seed": ([], ["dataset.split_seed=1"]),
    "trainer.eval_batch_size": ([], ["trainer.eval_batch_size=77"]),
    "dataset.augment": ([], ["dataset.augment=true"]),
    "dataset.crop_padding": (["dataset.augment=true"], ["dataset.crop_padding=2"]),
    "dataset.flip": (["dataset.augment=true"], ["dataset.flip=true"]),
    "model._target_": (
        ["~model.conv_dropout", "~model.hidden_dropout"],
        ["model._target_=vicinal.models.mlp.MLP"],
    ),
    "optimizer._target_": (["optimizer=adam"], ["optimizer._target_=torch.optim.AdamW"]),
    "optimizer.lr": ([], ["optimizer.lr=0.2"]),
    "optimizer.fused": ([], ["optimizer.fused=false"]),
    "optimizer.weight_decay": ([], ["optimizer.weight_decay=0"]),
    "optimizer.momentum": ([], ["optimizer.momentum=0.5"]),
    "optimizer.nesterov": ([], ["optimizer.nesterov=true"]),
    "optimizer.betas": (["optimizer=adam"], ["optimizer.betas=[0.9,0.99]"]),
    "optimizer.eps": (["optimizer=adam"], ["optimizer.eps=1e-6"]),
    "scheduler._target_": (
        ["scheduler=constant"],
        ["scheduler._target_=vicinal.training.schedules.multistep"],
    ),
    "scheduler.warmup_epochs": ([], ["scheduler.warmup_epochs=0.5"]),
    "mixup._target_": ([], ["mixup._target_=vicinal.mixing.CutMix"]),
    "mixup.alpha": ([], ["mixup.alpha=0.4"]),
    "mixup.prob": ([], ["mixup.prob=0.5"]),
    "mixup.per_sample": ([], ["mixup.per_sample=true"]),
    "mixup.mixed_weight": ([], ["mixup.mixed_weight=0.5"]),
    "mixup.clean_weight": ([], ["mixup.clean_weight=1"]),
    "trainer.epochs": ([], ["trainer.epochs=31"]),
    "trainer.batch_size": ([], ["trainer.batch_size=65"]),
    "trainer.device": (["trainer.device=auto"], ["trainer.device=cpu"]),
    "trainer.precision": (["trainer.precision=fp32"], ["trainer.precision=bf16"]),
    "trainer.threads": ([], ["trainer.threads=1"]),
    "trainer.channels_last": ([], ["trainer.channels_last=false"]),
    "trainer.compile": ([], ["trainer.compile=true"]),
    "trainer.deterministic": ([], ["trainer.deterministic=true"]),
    "trainer.label_smoothing": ([], ["trainer.label_smoothing=0.1"]),
    "trainer.clip_grad_norm": ([], ["trainer.clip_grad_norm=1"]),
    "trainer.ema_decay": ([], ["trainer.ema_decay=0.99"]),
}
"""Key: what must be chosen for it to have an effect, and the words that change it."""

NEUTRAL: dict[str, str] = {
    "busy": "busy=skip",
    "trainer.checkpoint_every": "trainer.checkpoint_every=5steps",
    "trainer.stream": "trainer.stream=true",
    "seed": "seed=5",
    "output_dir": "output_dir=elsewhere",
    "rerun": "rerun=true",
    "dry_run": "dry_run=true",
    "dataset.root": "dataset.root=/elsewhere",
    "dataset.cache_dir": "dataset.cache_dir=/elsewhere",
    "_choices_": "+_choices_.note=x",
    "trainer.log_every": "trainer.log_every=3",
    "trainer.clean_subset": "trainer.clean_subset=0",
    "wandb.mode": "wandb.mode=offline",
    "wandb.project": "wandb.project=other",
    "wandb.entity": "wandb.entity=somebody",
    "wandb.name": "wandb.name=other",
    "wandb.group": "wandb.group=other",
    "wandb.notes": "wandb.notes=other",
    "wandb.tags": "wandb.tags=[a,b]",
    "wandb.images": "wandb.images=0",
}


def schema_keys() -> list[str]:
    groups: dict[str, type] = {**GROUPS, "trainer": TrainerConfig, "wandb": WandbConfig}
    keys = []
    for item in dataclasses.fields(Config):
        below = groups.get(item.name)
        keys += [item.name] if below is None else [f"{item.name}.{f.name}" for f in dataclasses.fields(below)]
    return keys


def test_every_key_of_the_schema_is_asked() -> None:
    assert not CHANGES.keys() & NEUTRAL.keys()
    assert sorted([*CHANGES, *NEUTRAL]) == sorted(schema_keys())
    assert len(schema_keys()) == 59


@pytest.mark.parametrize("key", CHANGES)
def test_what_can_change_a_result_is_another_cell(compose: Compose, key: str) -> None:
    needed, change = CHANGES[key]
    before, after = compose(*needed), compose(*(w for w in needed if not w.startswith(f"{key}=")), *change)
    assert before.cell_id != after.cell_id
    assert before.folder.path != after.folder.path


@pytest.mark.parametrize("key", NEUTRAL)
def test_what_cannot_is_the_same_cell(compose: Compose, key: str) -> None:
    before, after = compose(), compose(NEUTRAL[key])
    assert before.config != after.config
    assert before.cell_id == after.cell_id
    assert (before.run_id == after.run_id) is (key != "seed")
    assert (before.folder.path.name == after.folder.path.name) is (key != "seed")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["mixup.alpha=1"], ["mixup.alpha=1.0"]),
        (["mixup.prob=1"], ["mixup.prob=1.0"]),
        (["optimizer.lr=1e-1"], ["optimizer.lr=0.1"]),
        (["scheduler.warmup_epochs=1"], ["scheduler.warmup_epochs=1.0"]),
        (["scheduler.min_lr=0"], ["scheduler.min_lr=0.0"]),
        (["dataset.mean=[0]"], ["dataset.mean=[0.0]"]),
        (["optimizer=adam", "optimizer.betas=[0,1e-1]"], ["optimizer=adam", "optimizer.betas=[0.0,0.1]"]),
        (["trainer.clip_grad_norm=2"], ["trainer.clip_grad_norm=2.0"]),
        (["model.conv_dropout=0"], ["model.conv_dropout=0.0"]),
        (["mixup=none"], ["mixup=none", "mixup.alpha=0.3", "mixup.prob=0", "mixup.per_sample=true"]),
        (["mixup=manifold"], ["mixup=manifold", "mixup.layers=[input,block1,block2]"]),
        (["mixup.alpha=1", "seed=3"], ["seed=3", "mixup.alpha=1"]),
    ],
)
def test_one_request_in_two_spellings(compose: Compose, one: list[str], other: list[str]) -> None:
    assert compose(*one).run_id == compose(*other).run_id


def test_seven_runs_not_eight(compose: Compose) -> None:
    ids = {
        compose(f"mixup={strategy}", f"mixup.alpha={alpha}").run_id
        for strategy in ("none", "input", "manifold", "cutmix")
        for alpha in (0.2, 0.4)
    }
    assert len(ids) == 7


def test_own_keys_of_a_component_count(compose: Compose) -> None:
    pairs: list[tuple[list[str], str]] = [
        ([], "model.conv_dropout=0.1"),
        (["mixup=cutmix"], "mixup.correct_lam=false"),
        (["mixup=manifold"], "mixup.layers=[input]"),
        (["scheduler=multistep"], "scheduler.gamma=0.2"),
        (["scheduler=cosine"], "scheduler.min_lr=1e-3"),
    ]
    for base, change in pairs:
        assert compose(*base).cell_id != compose(*base, change).cell_id, change


def test_readable_name(compose: Compose) -> None:
    experiment = compose("mixup=cutmix", "mixup.alpha=0.50", "seed=4")
    assert experiment.folder.path.name == f"digits-cnn-cutmix-alpha0.5-{experiment.cell_id}-s4"
    assert compose("mixup=none", "mixup.alpha=0.5").name == "digits-cnn-none"


def test_golden_identity() -> None:
    """The first ten digits of ``printf '{"a":{"b":[1,2.0],"c":null},"d":true}' | sha256sum``."""
    effective: dict[str, Any] = {"d": True, "a": {"c": None, "b": [1, 2.0]}}
    assert cell_id(effective) == "87caaa25c7"
    assert run_id("0123456789", 0) == "0123456789-s0"


def test_what_is_no_number_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        cell_id({"alpha": float("nan")})


def test_the_settings_of_an_augmentation_that_is_off_have_no_effect(compose):
    plain = compose("dataset.augment=false")
    assert compose("dataset.augment=false", "dataset.crop_padding=3", "dataset.flip=true").run_id == plain.run_id
