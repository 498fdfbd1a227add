"""Options, recipes and data sets in a folder of the user's own, with code of their own, work as ours do."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.config.schema import CONF

Train = Callable[..., tuple[int, str, str]]
SMALL = ["trainer.epochs=1", "trainer.threads=1", "trainer.precision=fp32", "dataset.train_size=128"]
FILES = {
    "my/mixup/halves.yaml": "_target_: own_halves.Halves\nstrength: 0.5\nprob: 1.0\n",
    "my/experiment/mine.yaml": "# @package _global_\ndefaults: [override /mixup: halves, override /dataset: own]\n",
    "my/experiment/grid.yaml": "# @package _global_\nhydra:\n  sweeper:\n    params:\n      mixup: none,halves\n",
    "code/own_halves.py": """
from vicinal.mixing import InputMixup

class Halves(InputMixup):
    def __init__(self, strength: float, prob: float = 1.0) -> None:
        super().__init__(alpha=strength, prob=prob)
""",
    "code/own_digits.py": "from vicinal.data.sources import digits\n\n\ndef load(note: str):\n    return digits()\n",
}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "my/dataset").mkdir()
    digits = (CONF / "dataset/digits.yaml").read_text()
    text = digits.replace("vicinal.data.sources.digits", "own_digits.load") + "note: mine\n"
    (tmp_path / "my/dataset/own.yaml").write_text(text)
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)
    monkeypatch.syspath_prepend(tmp_path / "code")
    for name in ("own_halves", "own_digits"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("outputs/runs/*/result.json")]
    assert all(result["status"] == "completed" for result in found)
    return {result["run_id"]: result for result in found}


def settings(folder: Path, *keys: str) -> list[tuple[Any, ...]]:
    mixups = [{"mixup": result["choices"]["mixup"], **result["config"]["mixup"]} for result in results(folder).values()]
    return sorted(tuple(each.get(key, "-") for key in keys) for each in mixups)


def test_a_single_run_of_an_own_recipe(train: Train, tmp_path: Path) -> None:
    code, _, err = train("--config-dir", "my", "experiment=mine", *SMALL)
    assert (code, err) == (0, "")
    [result] = results(tmp_path).values()
    assert (result["name"].split("-")[:3], result["config"]["mixup"]["strength"]) == (["own", "cnn", "halves"], 0.5)
    assert result["config"]["dataset"]["note"] == "mine"


def test_own_options_are_crossed_with_ours_and_frozen(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ["mixup=none,halves", "mixup.strength=0.4,0.8", *SMALL, "-m"]
    from vicinal.jobs import run as job

    real = job._work

    def work(*arguments: Any) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "my", ignore_errors=True)  # when the first job trains, all are composed
        return real(*arguments)

    monkeypatch.setattr(job, "_work", work)
    code, printed, err = train("hydra.searchpath=[my]", *grid)
    assert (code, err) == (0, "")
    assert "4 combinations are 3 different runs" in printed
    assert settings(tmp_path, "mixup", "strength") == [("halves", 0.4), ("halves", 0.8), ("none", "-")]


def test_the_content_of_an_option_counts_and_not_where_it_is(train: Train, tmp_path: Path) -> None:
    def asked(folder: str) -> str:
        code, printed, err = train(*SMALL, "dry_run=true", "--config-dir", folder, "mixup=halves")
        assert (code, err) == (0, "")
        return printed

    first = asked("my")
    shutil.copytree(tmp_path / "my", tmp_path / "elsewhere/theirs")
    assert asked("elsewhere/theirs") == first
    file = tmp_path / "my/mixup/halves.yaml"
    file.write_text("# a comment\n" + file.read_text())
    assert asked("my") == first
    file.write_text(file.read_text().replace("0.5", "0.6"))
    assert asked("my") != first


def test_a_run_of_own_options_is_reproduced_without_their_folder(train: Train, tmp_path: Path) -> None:
    from vicinal.jobs.reproduce import reproduce

    grid = ["mixup=none,halves", "mixup.strength=0.4", *SMALL, "-m"]
    assert train("--config-dir", "my", *grid)[0] == 0
    shutil.rmtree(tmp_path / "my")
    [run] = tmp_path.glob("outputs/runs/*-none-*")  # strength has no effect on it, and no option here has such a key
    assert reproduce(run).verdict() == "bit-identical"


def test_an_own_recipe_that_is_a_sweep_says_so_and_can_be_made_one_job(train: Train, tmp_path: Path) -> None:
    code, printed, err = train("experiment=grid", "--config-dir", "my", *SMALL)
    line = "error: experiment=grid: is a sweep, which needs -m; hydra.sweeper.params=null makes it one job\n"
    assert (code, printed, err) == (1, "", line)
    assert not list(tmp_path.glob("outputs/*"))
    code, printed, err = train("experiment=grid", "--config-dir", "my", *SMALL, "dry_run=true", "-m")
    assert (code, err, printed.count("│ new")) == (0, "", 2)
    code, printed, err = train(
        "experiment=grid", "hydra.sweeper.params=null", "dry_run=true", "--config-dir", "my", *SMALL
    )
    assert (code, err, printed.count(": new")) == (0, "", 1)


def test_values_to_sweep_over_without_a_recipe_are_named(train: Train) -> None:
    _, _, err = train("hydra.sweeper.params={seed: '0,1'}")
    reason = "is a sweep, which needs -m; hydra.sweeper.params=null makes it one job"
    assert err == f"error: hydra.sweeper.params={{seed:0,1}}: {reason}\n"


@pytest.mark.parametrize("sweep", [(), ("seed=0,1", "-m")])
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--config-dir", "nowhere"], "Additional config directory '{tmp_path}/nowhere' not found"),
        (
            ["hydra.searchpath=[nowhere]"],
            "hydra.searchpath=nowhere: there is no such folder or package of configs",
        ),
        (
            ["hydra.searchpath=[pkg://nowhere]"],
            "hydra.searchpath=nowhere: there is no such folder or package of configs",
        ),
        (
            ["hydra.searchpath=[my]", "mixup=halvs"],
            "mixup=halvs: no such option; did you mean halves? allowed: "
            + ", ".join(
                [
                    *sorted({"halves", *(file.stem for file in (CONF / "mixup").glob("*.yaml"))} - {"base"}),
                    *sorted(f"{file.parent.name}/{file.stem}" for file in (CONF / "mixup").glob("*/*.yaml")),
                ]
            ),
        ),
    ],
)
def test_a_missing_folder_or_option_is_one_line(
    train: Train, tmp_path: Path, words: list[str], line: str, sweep: tuple[str, ...]
) -> None:
    code, printed, err = train(*words, *sweep)
    assert (code, printed, err) == (1, "", f"error: {line.format(tmp_path=tmp_path)}\n")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("sweep", [(), ("seed=0,1", "-m")])
def test_a_file_that_another_hides_is_named(train: Train, tmp_path: Path, sweep: tuple[str, ...]) -> None:
    (tmp_path / "my/mixup/input.yaml").write_text("_target_: nowhere.Nothing\n")
    code, printed, err = train("hydra.searchpath=[my]", "dry_run=true", *sweep)
    line = f"my/mixup/input.yaml is not used: {CONF}/mixup/input.yaml has the same name and comes first"
    assert (code, err, printed.splitlines()[0]) == (0, "", line)
    assert line not in train("hydra.searchpath=[my]", "mixup=cutmix", "dry_run=true", *sweep)[1]


def test_a_broken_file_that_is_not_chosen_stops_nothing(train: Train, tmp_path: Path) -> None:
    (tmp_path / "my/mixup/broken.yaml").write_bytes(b"\xff: [")
    (tmp_path / "my/mixup/list.yaml").write_text("- a\n")
    words = ["hydra.searchpath=[my]", "mixup=none,halves", "mixup.strength=0.4,0.8", "dry_run=true", "-m"]
    assert train(*words)[0] == 0


def test_an_option_in_a_folder_is_crossed_and_its_keys_are_known(train: Train, tmp_path: Path) -> None:
    """A key that only it has is accepted beside the others, as that of any option."""
    (tmp_path / "my/mixup/house").mkdir()
    (tmp_path / "my/mixup/halves.yaml").rename(tmp_path / "my/mixup/house/halves.yaml")
    words = ["--config-dir=my", "mixup=glob([house/*,reference/t*])", "mixup.strength=0.4,0.8", "dry_run=true", "-m"]
    code, printed, err = train(*words)
    assert (code, err, printed.count("│ new")) == (0, "", 4)
    assert [name for name in ("house/halves", "reference/timm", "reference/torchvision") if name not in printed] == []


@pytest.mark.parametrize("folder", ["--config-dir=my", "hydra.searchpath=[my]"])
def test_a_glob_finds_own_options_too(train: Train, folder: str) -> None:
    others = "transmix,between_class,logmel/*,ssmix,classmix,instance_paste,c_mixup"  # of other networks and tasks
    code, printed, err = train(folder, f"mixup=glob(*,exclude=[{others}])", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    assert [name for name in ("cutmix", "halves", "input", "manifold", "none") if f"│ {name} " not in printed] == []


def test_options_in_a_package_are_crossed_too(train: Train, tmp_path: Path) -> None:
    package = tmp_path / "code/own_package"
    shutil.copytree(tmp_path / "my", package)
    for folder in (package, package / "mixup"):
        (folder / "__init__.py").touch()
    words = ["hydra.searchpath=[pkg://own_package]", "mixup=none,halves", "mixup.strength=0.4,0.8"]
    code, printed, err = train(*words, "dry_run=true", "-m")
    assert (code, err, printed.count("│ new")) == (0, "", 3)


@pytest.mark.slow
def test_the_workers_of_a_parallel_sweep_find_them(train: Train, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "code"), os.environ.get("PYTHONPATH", "")]))
    words = ["--config-dir", "my", "mixup=none,halves", "mixup.strength=0.4,0.8", *SMALL, "hydra/launcher=parallel"]
    code, _, err = train(*words, "hydra.launcher.n_jobs=2", "-m", "output_dir='${now:outputs}'")
    assert (code, err) == (0, "")
    assert settings(tmp_path, "mixup", "strength") == [("halves", 0.4), ("halves", 0.8), ("none", "-")]
