"""What a grid is made of: keys, names and ``sweep.json``."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from vicinal.errors import ConfigError, UserError
from vicinal.experiment import Experiment
from vicinal.launch.grid import (
    Job,
    check_axes,
    sweep_folder,
    swept_keys,
    value,
    write_sweep,
    zip_groups,
    zipped_axes,
)

Compose = Callable[..., Experiment]


def jobs(compose: Compose, *points: str) -> list[Job]:
    return [Job(tuple(point.split()), compose(*point.split())) for point in points]


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


def axes(*words: str) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(words))


@pytest.mark.parametrize("words", [("seed=range(100000)",), ("seed=range(0,200,2)", "mixup.alpha=range(0,1,0.001)")])
def test_a_grid_may_have_a_hundred_thousand_jobs_and_no_more(words: tuple[str, ...]) -> None:
    check_axes(axes(*words))
    with pytest.raises(UserError, match=f": {200_000} jobs are too many for one sweep, which has at most 100000$"):
        check_axes(axes(*words, "mixup=none,input"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "mixup.alpha=range(0.1,0.4,0.1)",
            "has 4 values, 0.1 to 0.4, since fractions are rounded; write choice(0.1,0.2,0.3)",
        ),
        ("mixup.alpha=range(0,1,0.25)", ""),
        ("mixup.alpha=range(1,0,-0.25)", ""),
        ("seed=range(5)", ""),
    ],
)
def test_a_range_that_has_its_end_by_rounding_is_said(word: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    check_axes(axes(word))
    assert caplog.messages == ([f"{word}: {said} to leave the end out"] if said else [])


def test_a_dict_of_values_is_swept_key_by_key(compose: Compose) -> None:
    points = ["+mixup={alpha:0.2,prob:1}", "+mixup={alpha:0.4,prob:1}"]
    rows = jobs(compose, *points)
    assert swept_keys(rows) == ["mixup.alpha"]
    assert [value(job.experiment, "mixup.alpha") for job in rows] == ["0.2", "0.4"]
    mixed = jobs(compose, "mixup=none", "mixup={prob:0.5}", "mixup={prob:0.5,alpha:0.4}")
    assert swept_keys(mixed) == ["mixup", "mixup.prob", "mixup.alpha"]
    assert [value(job.experiment, "mixup.prob") for job in mixed] == ["-", "0.5", "0.5"]


def test_zipped_keys_go_together_and_the_others_stay_a_grid() -> None:
    words = ("mixup=input,manifold,cutmix", "trainer.epochs=3", "mixup.alpha=0.2,2,1", "seed=range(2)")
    zipped = zip_groups(["mixup", "mixup.alpha"])
    check_axes(axes(*words), zipped)
    assert zipped_axes(axes(*words), zipped) == [
        [f"mixup={strategy}", "trainer.epochs=3", f"mixup.alpha={alpha}", "seed=range(2)"]
        for strategy, alpha in (("input", "0.2"), ("manifold", "2"), ("cutmix", "1"))
    ]


@pytest.mark.parametrize("sign", ["+", "++"])
@pytest.mark.parametrize("keys", [["a", "b"], ["b", "a"]])
def test_a_key_that_is_added_or_forced_is_zipped_by_its_name(sign: str, keys: list[str]) -> None:
    words = (f"{sign}a=1,2", "b=3,4")
    check_axes(axes(*words), [keys])
    assert zipped_axes(axes(*words), [keys]) == [[f"{sign}a=1", "b=3"], [f"{sign}a=2", "b=4"]]


def test_several_zips_are_a_grid_of_each_other() -> None:
    words = ("a=1,2", "b=3,4", "c=range(3)", "d=5,6,7")
    found = zipped_axes(axes(*words), zip_groups([["a", "b"], ["c", "d"]]))
    assert found == [
        [f"a={a}", f"b={b}", f"c={c}", f"d={d}"] for a, b in ((1, 3), (2, 4)) for c, d in ((0, 5), (1, 6), (2, 7))
    ]


def test_the_size_of_a_zipped_grid_is_that_of_its_pairs() -> None:
    words = ("seed=range(1000)", "mixup.alpha=range(1000)")
    check_axes(axes(*words), [["seed", "mixup.alpha"]])
    with pytest.raises(UserError, match="1000000 jobs are too many"):
        check_axes(axes(*words))


@pytest.mark.parametrize("keys", ["mixup", ["mixup"], [["mixup"]], [["mixup", 1]], [["a", "b"], "c"], 3, {"a": "b"}])
def test_what_is_no_list_of_keys_is_no_zip(keys: object) -> None:
    with pytest.raises(ConfigError, match=r"^hydra.sweeper.zip=.*: must be a list of two or more keys"):
        zip_groups(keys)
