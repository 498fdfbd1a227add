"""What a grid is made of: configs as Hydra composes them, keys, names and ``sweep.json``."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vicinal.config import CONF, register
from vicinal.experiment import Experiment
from vicinal.grid import Composer, Job, compose, sweep_folder, swept_keys, value, write_sweep

Compose = Callable[..., Experiment]


def jobs(compose: Compose, *points: str) -> list[Job]:
    return [Job(tuple(point.split()), compose(*point.split())) for point in points]


@pytest.fixture
def loader() -> Iterator[ConfigLoaderImpl]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = GlobalHydra.instance().config_loader()
        assert isinstance(found, ConfigLoaderImpl)
        yield found


def master(loader: ConfigLoaderImpl, *words: str) -> DictConfig:
    return loader.load_configuration("config", list(words), RunMode.MULTIRUN)


POINTS = [
    "mixup=none mixup.alpha=0.2 seed=0",
    "mixup=none mixup.alpha=0.4 seed=1",
    "mixup=manifold mixup.layers=[input,block1] +optimizer.maximize=true",
    "mixup=manifold mixup.layers=null ++trainer.epochs=3",
    "mixup=cutmix ~mixup.correct_lam",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.9]",
    "experiment=mnist_cnn mixup=input optimizer=adamw optimizer.betas=[0.8,0.99] seed=2",
    "+optimizer.dampening=0.1 scheduler=onecycle model=mlp dataset.root='a_b,c=d'",
    "mixup={alpha:0.7,prob:0.5} wandb.tags=[x,y] output_dir=${oc.env:HOME}/o",
]


@pytest.mark.slow
@pytest.mark.parametrize("own", [(), ("hydra.sweeper.max_batch_size=2", "hydra.sweep.dir='a b'")])
def test_configs_are_what_hydra_composes(loader: ConfigLoaderImpl, own: tuple[str, ...]) -> None:
    base = master(loader, *own)
    points = [point.split() for point in POINTS]
    for words, config in compose(loader, base, points):
        expected = loader.load_sweep_config(base, list(words))
        for each in (config, expected):
            choices = each.hydra.runtime.choices
            del each.hydra.overrides.task, each.hydra.job.override_dirname  # which nothing here reads
            assert choices.optimizer == ("adamw" if "optimizer=adamw" in words else "sgd")
        assert OmegaConf.to_container(config) == OmegaConf.to_container(expected), words


@pytest.mark.slow
def test_a_launchers_configs_are_what_hydra_composes(loader: ConfigLoaderImpl) -> None:
    """All of them, what Hydra says of the job itself included, and though their options were composed before."""
    base = master(loader, "hydra.sweep.dir='a b'")
    composer = Composer(loader.get_search_path())
    for words in [point.split() for point in (*POINTS, *POINTS)]:
        ours, expected = (each.load_sweep_config(base, list(words)) for each in (composer, loader))
        assert OmegaConf.to_container(ours) == OmegaConf.to_container(expected), words
        assert ours.hydra.overrides.task == words
    other = master(loader, "hydra.sweep.dir=c")
    assert composer.load_sweep_config(other, ["seed=1"]).hydra.sweep.dir == "c"


def test_a_config_does_not_see_what_is_set_in_another(loader: ConfigLoaderImpl) -> None:
    points = [["mixup.alpha=0.9", "+optimizer.dampening=0.5"], ["seed=1"], ["mixup.alpha=0.3"]]
    first, second, third = (config for _, config in compose(loader, master(loader), points))
    assert [config.mixup.alpha for config in (first, second, third)] == [0.9, 0.2, 0.3]
    assert [config.seed for config in (first, second, third)] == [0, 1, 0]
    assert "dampening" not in second.optimizer


def test_hydra_composes_each_choice_of_options_once(loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *given: (calls.append(given[1]), real(*given))[1])
    points = [
        [f"mixup={name}", f"seed={seed}", f"optimizer.lr={lr}"]
        for name in ("none", "cutmix") for seed in range(5) for lr in (0.1, 0.2)
    ]  # fmt: skip
    assert len(list(compose(loader, master(loader), points))) == 20
    assert calls == [["mixup=none"], ["mixup=cutmix"]]


def test_swept_keys_are_those_that_differ_and_never_the_seed(compose: Compose) -> None:
    grid = jobs(
        compose,
        "trainer.epochs=1 mixup=input +mixup.layers=[input] seed=0",
        "trainer.epochs=1 mixup=cutmix +mixup.layers=[input,block1] seed=1",
    )
    assert swept_keys(grid) == ["mixup", "mixup.layers"]


@pytest.mark.parametrize(
    ("words", "key", "shown"),
    [
        ("mixup=none mixup.alpha=0.2", "mixup", "none"),
        ("mixup=none mixup.alpha=0.2", "mixup.alpha", "-"),
        ("mixup.alpha=1", "mixup.alpha", "1"),
        ("mixup.alpha=1.0", "mixup.alpha", "1"),
        ("mixup=manifold", "mixup.layers", "[input,block1,block2]"),
        ("trainer.clip_grad_norm=null", "trainer.clip_grad_norm", "null"),
        ("trainer.deterministic=true", "trainer.deterministic", "true"),
        ("optimizer=adamw optimizer.lr=1e-3", "optimizer.lr", "0.001"),
        ("optimizer=adamw", "optimizer.momentum", "-"),
        ("+optimizer.dampening=0.1", "optimizer.dampening", "0.1"),
        ("dataset.augment=false dataset.crop_padding=2", "dataset.crop_padding", "-"),
        ("dataset.augment=true dataset.crop_padding=2", "dataset.crop_padding", "2"),
    ],
)
def test_a_value_is_what_the_run_really_uses(words: str, key: str, shown: str, compose: Compose) -> None:
    assert value(compose(*words.split()), key) == shown


def test_the_same_runs_are_the_same_sweep_and_others_are_not(compose: Compose, tmp_path: Path) -> None:
    points = [f"mixup.alpha={alpha} seed={seed}" for alpha in (0.2, 0.4) for seed in (0, 1)]
    grid = jobs(compose, *points)
    folder = sweep_folder(grid)
    ids = sorted(job.experiment.run_id for job in grid)
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:10]
    assert folder == tmp_path / f"outputs/sweeps/alpha-{digest}"
    assert sweep_folder(grid[::-1]) == folder
    assert sweep_folder(jobs(compose, *(f"{point} wandb.mode=offline" for point in points))) == folder
    assert sweep_folder(grid[:3]) != folder
    other = folder.with_name(f"another-name-{digest}")
    other.mkdir(parents=True)
    assert sweep_folder(grid) == other


@pytest.mark.parametrize(
    ("points", "name"),
    [
        (["seed=0", "seed=1"], "seed"),
        (["mixup.alpha=1"], "single"),
        (["mixup=none", "mixup=input"], "mixup"),
        (["mixup=none mixup.alpha=0.2", "mixup=input mixup.alpha=0.4"], "mixup+alpha"),
        (["+optimizer.dampening=0", "+optimizer.dampening=0.1"], "dampening"),
        (["optimizer.lr=0.1 trainer.epochs=1", "optimizer.lr=0.2 trainer.epochs=2"], "lr+epochs"),
    ],
)
def test_a_sweep_is_named_by_its_keys(points: list[str], name: str, compose: Compose) -> None:
    assert re.fullmatch(re.escape(name) + "-[0-9a-f]{10}", sweep_folder(jobs(compose, *points)).name)


def test_a_name_is_bounded_and_safe_and_keys_of_one_name_are_told_apart(compose: Compose) -> None:
    experiments = compose("seed=0"), compose("seed=1")
    words = ["a.x", "b.x", "weird@/:*key", *(f"key_number_{index}" for index in range(20))]
    grid = [Job(tuple(f"{word}={i}" for word in words), each) for i, each in enumerate(experiments)]
    name = sweep_folder(grid).name
    assert name.startswith("a.x+b.x+weird_key+key_number_0+")
    assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,80}", name)


def test_sweep_json_says_what_was_asked_and_what_it_means(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "mixup=none,input", "-m", "wandb.tags=[hidden-value]"])
    monkeypatch.setenv("SOME_TOKEN", "hidden-value")
    grid = jobs(compose, "mixup=none mixup.alpha=0.4 seed=3", "mixup=input mixup.alpha=0.2 seed=3")
    folder = sweep_folder(grid)
    write_sweep(folder, grid)
    content = json.loads((folder / "sweep.json").read_text())
    assert content["command"] == ["train.py", "mixup=none,input", "-m", "wandb.tags=[<SOME_TOKEN>]"]
    assert content["swept"] == ["mixup", "mixup.alpha"]
    assert [run["values"] for run in content["runs"]] == [
        {"mixup": "none", "mixup.alpha": "-"},
        {"mixup": "input", "mixup.alpha": "0.2"},
    ]
    for run, job in zip(content["runs"], grid, strict=True):
        assert run["run_id"] == f"{run['cell_id']}-s{run['seed']}" == job.experiment.run_id
        assert folder.parents[1] / "runs" / run["folder"] == job.experiment.folder.path
        assert run["folder"] == f"{run['name']}-{run['run_id']}"
        assert run["overrides"] == list(job.overrides)
    inode = (folder / "sweep.json").stat().st_ino
    write_sweep(folder, grid)
    assert (folder / "sweep.json").stat().st_ino == inode
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_runs_of_a_sweep_that_lies_elsewhere_are_found(compose: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "some/place"
    grid = jobs(compose, "seed=0")
    write_sweep(folder, grid)
    [run] = json.loads((folder / "sweep.json").read_text())["runs"]
    assert folder.parents[1] / "runs" / run["folder"] == grid[0].experiment.folder.path
