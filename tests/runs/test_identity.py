"""Which keys make another run: every key of the schema is asked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data.test_imagefolder import write_tree
from vicinal.analysis.cells import effective
from vicinal.config.identity import identity_values
from vicinal.config.schema import (
    GROUPS,
    SCHEMAS,
    Config,
    DatasetConfig,
    TrainerConfig,
    WandbConfig,
    key,
)
from vicinal.experiment import Experiment
from vicinal.runs.names import cell_id, run_id

Compose = Callable[..., Experiment]

SOUND = ["dataset=diabetes", "dataset.inputs=audio", "+dataset.rate=8000", "+dataset.length=8000", "model=speech_cnn"]
WORDS = ["dataset=diabetes", "dataset.inputs=tokens", "+dataset.vocabulary=50", "+dataset.length=10", "model=kim_cnn"]
WORDS += ["mixup=none"]
"""Requests for a network of other inputs; none of their data are read."""
TREE = ["dataset=imagefolder", "dataset.root={tree}", "dataset.image_size=16", "dataset.val_size=4"]
PARTS = [*TREE, "dataset.augment=true", "dataset.crop=resized"]
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
    "dataset.imbalance": ([], ["dataset.imbalance=step"]),
    "dataset.imbalance_ratio": (["dataset.imbalance=step"], ["dataset.imbalance_ratio=20"]),
    "dataset.label_noise": ([], ["dataset.label_noise=0.1"]),
    "dataset.label_noise_kind": (["dataset.label_noise=0.1"], ["dataset.label_noise_kind=asymmetric"]),
    "trainer.eval_batch_size": ([], ["trainer.eval_batch_size=77"]),
    "dataset.sampler": ([], ["dataset.sampler=class_balanced"]),
    "dataset.augment": ([], ["dataset.augment=true"]),
    "dataset.crop_padding": (["dataset.augment=true"], ["dataset.crop_padding=2"]),
    "dataset.resize": (TREE, ["dataset.resize=20"]),
    "dataset.crop": (PARTS, ["dataset.crop=padded"]),
    "dataset.crop_scale": (PARTS, ["dataset.crop_scale=[0.5,1]"]),
    "dataset.crop_ratio": (PARTS, ["dataset.crop_ratio=[1,1]"]),
    "dataset.crop_fill": (["dataset.augment=true"], ["dataset.crop_fill=reflect"]),
    "dataset.flip": (["dataset.augment=true"], ["dataset.flip=alternating"]),
    "dataset.rotate": (["dataset.augment=true"], ["dataset.rotate=true"]),
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
    "optimizer.norm_bias_lr": (["model=preact_resnet18"], ["optimizer.norm_bias_lr=2"]),
    "scheduler.anneal_strategy": (["scheduler=onecycle"], ["scheduler.anneal_strategy=linear"]),
    "scheduler._target_": (
        ["scheduler=constant"],
        ["scheduler._target_=vicinal.training.schedules.multistep"],
    ),
    "scheduler.warmup_epochs": ([], ["scheduler.warmup_epochs=0.5"]),
    "mixup._target_": ([], ["mixup._target_=vicinal.mixing.CutMix"]),
    "dataset.inputs": (
        ["dataset=diabetes"],
        ["dataset.inputs=image", "+dataset.channels=1", "+dataset.image_size=28", "model=cnn"],
    ),
    "dataset.task": (["dataset=diabetes"], ["dataset.task=multilabel"]),
    "dataset.features": (["dataset=diabetes"], ["dataset.features=9"]),
    "dataset.rate": (SOUND, ["++dataset.rate=4000"]),
    "dataset.length": (SOUND, ["++dataset.length=9000"]),
    "dataset.vocabulary": (WORDS, ["++dataset.vocabulary=60"]),
    "mixup.depth": ([], ["mixup.depth=block1"]),
    "mixup.alpha": ([], ["mixup.alpha=0.4"]),
    "mixup.prob": ([], ["mixup.prob=0.5"]),
    "mixup.per_sample": ([], ["mixup.per_sample=true"]),
    "mixup.mixed_weight": ([], ["mixup.mixed_weight=0.5"]),
    "mixup.clean_weight": ([], ["mixup.clean_weight=1"]),
    "mixup.members": ([], ["mixup.members=3"]),
    "mixup.layers": (["mixup=manifold"], ["mixup.layers=[input]"]),
    "mixup.law": ([], ["mixup.law=folded"]),
    "mixup.odd_sides": (["mixup=cutmix"], ["mixup.odd_sides=true"]),
    "mixup.beta": (["mixup.law=asymmetric"], ["mixup.beta=0.5"]),
    "mixup.low": (["mixup.law=uniform"], ["mixup.low=0.1"]),
    "mixup.high": (["mixup.law=truncated"], ["mixup.high=0.9"]),
    "mixup.lam": (["mixup.law=constant"], ["mixup.lam=0.3"]),
    "mixup.alpha_end": ([], ["mixup.alpha_end=1"]),
    "mixup.partner": ([], ["mixup.partner=roll"]),
    "mixup.group": (["mixup.partner=nearest"], ["mixup.group=4"]),
    "mixup.balance": (["mixup.partner=class_balanced"], ["mixup.balance=0.5"]),
    "mixup.bandwidth": (["dataset=diabetes", "mixup.partner=label_kernel"], ["mixup.bandwidth=2"]),
    "mixup.labels": ([], ["mixup.labels=majority"]),
    "mixup.label_weight": (["mixup.labels=constant"], ["mixup.label_weight=0.7"]),
    "mixup.kappa": (["mixup.labels=remix"], ["mixup.kappa=2"]),
    "mixup.tau": (["mixup.labels=remix"], ["mixup.tau=0.4"]),
    "mixup.window": ([], ["mixup.window=[0,0.5]"]),
    "mixup.taper": ([], ["mixup.taper=true"]),
    "mixup.together": (["mixup.clean_weight=1"], ["mixup.together=true"]),
    "trainer.epochs": ([], ["trainer.epochs=31"]),
    "trainer.batch_size": ([], ["trainer.batch_size=65"]),
    "trainer.eval_views": ([], ["trainer.eval_views=2"]),
    "trainer.device": (["trainer.device=auto"], ["trainer.device=cpu"]),
    "trainer.precision": (["trainer.precision=fp32"], ["trainer.precision=bf16"]),
    "trainer.threads": ([], ["trainer.threads=1"]),
    "trainer.channels_last": ([], ["trainer.channels_last=false"]),
    "trainer.compile": ([], ["trainer.compile=true"]),
    "trainer.deterministic": ([], ["trainer.deterministic=true"]),
    "trainer.shards": ([], ["trainer.shards=2"]),
    "trainer.label_smoothing": ([], ["trainer.label_smoothing=0.1"]),
    "trainer.loss": ([], ["trainer.loss=focal"]),
    "trainer.bce_threshold": (["trainer.loss=bce"], ["trainer.bce_threshold=0.2"]),
    "trainer.focal_gamma": (["trainer.loss=focal"], ["trainer.focal_gamma=1"]),
    "trainer.class_weights": ([], ["trainer.class_weights=inverse"]),
    "trainer.class_weights_beta": (["trainer.class_weights=effective"], ["trainer.class_weights_beta=0.9"]),
    "trainer.class_weights_from": (["trainer.class_weights=inverse"], ["trainer.class_weights_from=0.8"]),
    "trainer.logit_adjustment": ([], ["trainer.logit_adjustment=1"]),
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
    "tracker": "tracker=[wandb,csv]",
    "wandb.mode": "wandb.mode=offline",
    "wandb.project": "wandb.project=other",
    "wandb.entity": "wandb.entity=somebody",
    "wandb.name": "wandb.name=other",
    "wandb.group": "wandb.group=other",
    "wandb.notes": "wandb.notes=other",
    "wandb.tags": "wandb.tags=[a,b]",
    "wandb.images": "wandb.images=0",
}
OF_TREES = {
    "dataset.keep": "dataset.keep=encoded",
    "dataset.workers": "dataset.workers=3",
    "dataset.stage_to": "dataset.stage_to=disk",
    "dataset.decoder": "dataset.decoder=torchcodec",
}
"""Neutral keys of trees of images."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "tree")


def schema_keys() -> list[str]:
    groups: dict[str, type] = {**GROUPS, "trainer": TrainerConfig, "wandb": WandbConfig}
    keys = []
    for item in dataclasses.fields(Config):
        below = groups.get(item.name)
        keys += [item.name] if below is None else [f"{item.name}.{f.name}" for f in dataclasses.fields(below)]
    return keys


def test_every_key_of_the_schema_is_asked() -> None:
    assert not CHANGES.keys() & (NEUTRAL.keys() | OF_TREES.keys())
    assert sorted([*CHANGES, *NEUTRAL, *OF_TREES]) == sorted(schema_keys())
    assert len(schema_keys()) == 115


@pytest.mark.parametrize("key", CHANGES)
def test_what_can_change_a_result_is_another_cell(compose: Compose, tree: Path, key: str) -> None:
    needed, change = CHANGES[key]
    needed = [word.replace("{tree}", str(tree)) for word in needed]
    before, after = compose(*needed), compose(*(w for w in needed if not w.startswith(f"{key}=")), *change)
    assert before.cell_id != after.cell_id
    assert before.folder.path != after.folder.path


@pytest.mark.parametrize("key", OF_TREES)
def test_how_images_are_kept_is_the_same_cell(compose: Compose, tree: Path, key: str) -> None:
    needed = [word.replace("{tree}", str(tree)) for word in TREE]
    assert compose(*needed).cell_id == compose(*needed, OF_TREES[key]).cell_id


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


@pytest.mark.parametrize(
    "words",
    [
        ("mixup.law=uniform", "mixup.alpha=0.7"),
        ("mixup.low=0.1",),
        ("mixup.lam=0.3", "mixup.group=4", "mixup.bandwidth=3", "mixup.kappa=2", "mixup.tau=0.2"),
        ("mixup.label_weight=0.1", "mixup.together=true"),
        ("mixup=resizemix", "mixup.alpha=0.7", "mixup.law=folded", "mixup.low=0.2"),
    ],
)
def test_a_key_without_effect_beside_the_others_is_no_part_of_it(compose: Compose, words: tuple[str, ...]) -> None:
    """The first word chooses, and the others change nothing."""
    chosen = [word for word in words[:1] if word.startswith(("mixup=", "mixup.law="))]
    assert compose(*words).cell_id == compose(*chosen).cell_id
    assert any("has no effect" in line for line in compose(*words).ineffective_keys())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mixup=cutout mixup.size=3", "mixup=cutout mixup.size=3 mixup.partner=permutation"),
        ("mixup=moex", "mixup=moex mixup.label_weight=0.5"),
        ("mixup=random_erasing", "mixup=random_erasing mixup.prob=1"),
    ],
)
def test_the_default_of_one_strategy_is_a_choice_in_another(compose: Compose, one: str, other: str) -> None:
    assert compose(*one.split()).cell_id != compose(*other.split()).cell_id


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
        (["mixup=cutmix"], "mixup.labels=drawn"),
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


def test_a_key_that_is_added_later_leaves_the_runs_before_it_their_identity(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass
    class Later(DatasetConfig):
        later: float = key(0.0, "a share", low=0, high=1, since="0.2")

    before = compose()
    monkeypatch.setitem(GROUPS, "dataset", Later)
    assert compose().run_id == before.run_id
    assert compose("+dataset.later=0.0").run_id == before.run_id
    assert compose("+dataset.later=0.1").cell_id != before.cell_id
    assert compose("+dataset.later=0.1").dataset.identity()["later"] == 0.1


def test_runs_from_before_a_key_are_compared_as_if_they_had_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Later(DatasetConfig):
        label_noise: float = key(0.0, "share of wrong labels", low=0, high=1, since="0.2")

    monkeypatch.setitem(SCHEMAS, "dataset", Later)
    older = SimpleNamespace(config={"dataset": {"channels": 1}}, choices={})
    newer = SimpleNamespace(config={"dataset": {"channels": 1, "label_noise": 0.2}}, choices={})
    for run, share in ((older, "0"), (newer, "0.2")):
        found = effective(run)  # type: ignore[arg-type]
        assert (found["dataset.channels"], found["dataset.label_noise"]) == ("1", share)


def test_only_keys_that_are_added_later_are_left_out_at_their_default() -> None:
    @dataclasses.dataclass
    class Schema:
        old: int = key(3, "counts always")
        later: list[int] = key([1, 2], "counts when it is changed", since="0.2")  # noqa: RUF009
        silent: int = key(5, "counts never", neutral=True)

    assert identity_values(Schema, {"old": 3, "later": [1, 2], "silent": 6, "own": 7}) == {"old": 3, "own": 7}
    assert identity_values(Schema, {"old": 3, "later": [], "silent": 5}) == {"old": 3, "later": []}


GOLDEN = {
    "": "8b96dd7c05",
    "mixup=none": "4f0a5b43dd",
    "mixup=manifold": "c3e5147dc8",
    "mixup=cutmix": "a0add8394d",
    "dataset=cifar10 mixup=manifold optimizer=adam": "ba8610f8c7",
    "experiment=mnist_cnn": "ddad5f7419",
    "experiment=mnist_cnn dataset.augment=true": "7c2fed9fce",
}
"""Cells of released configs, whose runs are found again by these names alone."""


@pytest.mark.parametrize("words", GOLDEN)
def test_golden_cells(compose: Compose, words: str) -> None:
    assert compose("trainer.device=auto", *words.split()).cell_id == GOLDEN[words]


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
    uncropped = ("dataset.augment=true", "dataset.crop_padding=0")
    assert compose(*uncropped, "dataset.crop_fill=reflect").run_id == compose(*uncropped).run_id


def test_both_ways_to_write_a_square_are_one_run(compose: Compose) -> None:
    one, pair = compose("dataset.image_size=9"), compose("dataset.image_size=[9,9]")
    assert one.run_id == pair.run_id
    assert one.request()["dataset"] == pair.request()["dataset"]
    assert pair.config["dataset"]["image_size"] == 9
    others = {compose(f"dataset.image_size={size}").run_id for size in ("[9,10]", "[10,9]", "10")}
    assert len({one.run_id, *others}) == 4
    wide = compose("dataset.image_size=[9,10]")
    assert wide.sizes.arguments["image_size"] == (9, 10)
    assert wide.sizes.inputs.shape == (1, 9, 10)
    assert wide.effective["dataset"]["image_size"] == wide.config["dataset"]["image_size"] == [9, 10]
