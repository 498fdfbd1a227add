"""Sweeps from the command line to their tables and files."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from vicinal.config.schema import CONF
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import run as job
from vicinal.runs import environment
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.learner import Learner

SMALL = ["trainer.epochs=1", "trainer.threads=1", "trainer.precision=fp32", "dataset.train_size=128"]
Train = Callable[..., tuple[int, str, str]]


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/runs/*/result.json"))]


def summary(folder: Path) -> pd.DataFrame:
    """Of the only sweep."""
    [file] = folder.glob("outputs/sweeps/*/report/summary.csv")
    return pd.read_csv(file)


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(("│", "┃"))]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.glob("outputs/runs/*/*") if path.is_file() and path.name != ".lock"]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds."""
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)


def planned(printed: str) -> list[list[str]]:
    """The rows of the table of a dry run."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table(printed) if line.startswith("│")]


def cells(printed: str) -> list[str]:
    """The cells of the runs that a dry run lists, each once, without the hash."""
    names = [row[0] for row in planned(printed)]
    assert len(names) == len(set(names))
    return list(dict.fromkeys(re.sub(r"-[0-9a-f]{10}-s\d+$", "", name) for name in names))


@contextmanager
def counted(owner: type, name: str) -> Iterator[list[None]]:
    """An item for each call of a method."""
    calls: list[None] = []
    original = getattr(owner, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(None)
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counting)
        yield calls


@pytest.mark.slow
def test_strategies_against_alpha_are_seven_runs_and_are_trained_once(train: Train, tmp_path: Path) -> None:
    words = ["mixup=none,input,manifold,cutmix", "mixup.alpha=0.2,0.4", *SMALL, "-m"]
    with counted(Learner, "step") as steps:
        code, first, err = train(*words)
    assert (code, err) == (0, "")
    assert "8 combinations are 7 different runs" in first
    assert len(list((tmp_path / "outputs/runs").iterdir())) == len(results(tmp_path)) == 7
    assert len(steps) == 7 * 2
    cells = summary(tmp_path)
    assert list(zip(cells["mixup"], cells["mixup.alpha"], strict=True)) == [
        ("none", "-"), ("input", "0.2"), ("input", "0.4"), ("manifold", "0.2"), ("manifold", "0.4"),
        ("cutmix", "0.2"), ("cutmix", "0.4"),
    ]  # fmt: skip
    assert cells["n"].tolist() == [1] * 7

    before = stamps(tmp_path)
    with counted(Learner, "step") as steps, counted(ConfigLoaderImpl, "load_configuration") as composed:
        code, second, err = train(*words)
    assert (code, err) == (0, "")
    assert steps == []
    assert len(composed) == 2 + 4  # by Hydra before there is a sweep, and for each of the options
    assert second.splitlines()[1] == "7 of 7 runs are completed already (rerun=true trains them again)"
    assert second.splitlines()[2:] == first[first.index("top-1 accuracy") :].splitlines()
    assert stamps(tmp_path) == before
    [sweep] = (tmp_path / "outputs/sweeps").iterdir()
    assert sweep.name.startswith("mixup+alpha-")


def test_only_what_is_not_completed_is_trained(train: Train, tmp_path: Path, unreported: None) -> None:
    assert train("mixup.alpha=0.2", *SMALL)[0] == 0
    before = stamps(tmp_path)
    with counted(Learner, "step") as steps:
        code, printed, err = train("mixup.alpha=0.2,0.4", *SMALL, "-m")
    assert (code, err, len(steps)) == (0, "", 2)
    assert "1 of 2 runs are completed already (rerun=true trains them again)\nfollow it in a browser: " in printed
    assert "/report/report.html\nLaunching 1 jobs locally" in printed
    assert before.items() <= stamps(tmp_path).items()
    with counted(Learner, "step") as steps:
        code, printed, err = train("mixup.alpha=0.2,0.4", *SMALL, "rerun=true", "-m")
    assert (code, err, len(steps)) == (0, "", 4)
    assert "completed already" not in printed


@pytest.mark.slow
def test_a_finished_sweep_imports_nothing_heavy(train: Train, tmp_path: Path) -> None:
    words = ["mixup=none,manifold", "seed=range(2)", *SMALL, "-m"]
    assert train(*words)[0] == 0
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    ended = subprocess.run(
        [sys.executable, "-c", code + "from vicinal.cli.train import main; main()", *words],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0
    assert "4 of 4 runs are completed already" in ended.stdout
    imported = set(ended.stderr.split())
    assert "vicinal.report.report" in imported
    libraries = {"wandb", "torchvision", "pandas", "matplotlib", "plotly", "scipy", "statsmodels", "sklearn", "sympy"}
    assert imported & {*libraries, "torch._dynamo"} == set()


def test_a_result_of_another_torch_is_used_and_that_is_said(
    train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("seed=0,1", *SMALL, "-m")[0] == 0
    real = environment.versions()
    monkeypatch.setattr(job, "versions", lambda packages: {**real, "torch": "9.9.9"})
    code, printed, err = train("seed=0,1", *SMALL, "-m")
    assert (code, err) == (0, "")
    [said] = [line for line in printed.splitlines() if "9.9.9" in line]
    assert re.search(
        r"2 runs, such as \S+-s0: made with torch \S+, here it would be 9\.9\.9: the last digits may differ$", said
    )


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_sweep_says_how_far_it_is_and_goes_on_in_its_folder(
    stop: BaseException, code: int, train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, real, sweeps = ["seed=range(3)", *SMALL, "-m"], job.run, []

    def second_is_interrupted(experiment: Experiment, sweep: str, *more: Any) -> dict[str, Any]:
        sweeps.append(sweep)
        if len(sweeps) == 2:
            raise stop
        return real(experiment, sweep, *more)

    monkeypatch.setattr(job, "run", second_is_interrupted)
    ended, printed, _ = train(*words)
    assert ended == code
    assert printed.splitlines()[-1] == "interrupted: 1 of 3 runs are completed; rerun the same command to resume"
    assert train(*words)[0] == 0
    [folder] = (tmp_path / "outputs/sweeps").iterdir()
    assert sweeps == [folder.name] * 4  # W&B's group
    assert [run["seed"] for run in results(tmp_path)] == [0, 1, 2]


def test_what_another_process_works_on_is_left_to_it(
    train: Train, tmp_path: Path, unreported: None, compose: Callable[..., Experiment]
) -> None:
    with compose(*SMALL, "seed=1").folder.lock(wait=False):
        code, printed, err = train("seed=range(2)", *SMALL, "busy=skip", "trainer.device=cpu", "-m")
        assert (code, err) == (0, "")
        assert "1 of 2 runs are not completed yet: other processes work on them" in printed
        worker = f"process {os.getpid()} on {platform.node()}"
        assert f"{worker} works on this run; skipped" in printed
        code, printed, _ = train("seed=range(2)", *SMALL, "dry_run=true", "trainer.device=cpu", "-m")
    assert code == 0
    assert [row[2] for row in planned(printed)] == ["done", f"running: {worker}"]
    assert [run["seed"] for run in results(tmp_path)] == [0]


def test_a_sweep_can_be_given_its_folder(train: Train, tmp_path: Path) -> None:
    code, _, err = train("seed=range(2)", *SMALL, "hydra.sweep.dir=a place/mine", "output_dir=o", "-m")
    assert (code, err) == (0, "")
    assert pd.read_csv(tmp_path / "a place/mine/report/summary.csv")["n"].tolist() == [2]
    assert not (tmp_path / "o/sweeps").exists()
    assert {path.name for path in (tmp_path / "a place/mine").iterdir()} == {"sweep.json", "jobs", "report"}


def test_a_sweep_is_not_replaced_by_another_one_in_its_folder(train: Train, tmp_path: Path) -> None:
    """The same grid and one with more values go on in it."""
    words = [*SMALL, "hydra.sweep.dir=mine", "-m"]
    assert train("mixup.alpha=0.2,0.4", *words)[0] == 0
    files = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    for more in ((), ("dry_run=true",), ("rerun=true",)):
        code, _, err = train("optimizer.lr=0.01,0.02,0.03", *words, *more)
        assert (code, err.count("\n")) == (1, 1)
        other = "is the folder of another sweep (swept: mixup.alpha; runs: 2, not in this one: 2)"
        assert err.endswith(f"mine: {other}; hydra.sweep.dir needs one of its own\n")
    assert {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()} == files
    assert len(results(tmp_path)) == 2
    assert train("mixup.alpha=0.2,0.4", *words)[0] == 0
    assert train("mixup.alpha=0.2,0.4,0.8", *words)[0] == 0
    assert pd.read_csv(tmp_path / "mine/report/summary.csv")["mixup.alpha"].tolist() == [0.2, 0.4, 0.8]
    assert len(results(tmp_path)) == 3


def test_another_sweeper_has_a_folder_too(train: Train, tmp_path: Path) -> None:
    code, _, err = train("seed=0,1", *SMALL, "hydra/sweeper=basic", "-m")
    assert (code, err) == (0, "")
    assert len(results(tmp_path)) == 2
    [folder] = (tmp_path / "outputs/sweeps").iterdir()
    assert re.match(r"\d{4}-\d\d-\d\d_", folder.name)


def test_every_character_of_a_folder_reaches_the_jobs(train: Train, tmp_path: Path, unreported: None) -> None:
    folder = 'it\'s "x"=1,2 [1] (2) {3} \\a:b tschüss'
    quoted = QuotedString(text=folder, quote=Quote.single).with_quotes()
    code, _, err = train("seed=range(2)", *SMALL, f"output_dir={quoted}", "-m")
    assert (code, err) == (0, "")
    [sweep] = (tmp_path / folder / "sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir()) == ["jobs", "report", "sweep.json"]


def test_the_same_number_written_twice_is_one_run(train: Train, tmp_path: Path, unreported: None) -> None:
    code, printed, _ = train("mixup.alpha=1,1.0", *SMALL, "-m")
    assert code == 0
    assert "2 combinations are 1 different runs" in printed
    assert len(results(tmp_path)) == 1


@pytest.mark.slow
def test_the_table_is_the_mean_and_deviation_of_the_result_files(train: Train, tmp_path: Path) -> None:
    code, printed, _ = train("mixup=none,input", "seed=range(2)", *SMALL, "-m")
    assert code == 0
    cells = summary(tmp_path)
    assert cells["n"].tolist() == [2, 2]
    for _, cell in cells.iterrows():
        runs = [run for run in results(tmp_path) if run["choices"]["mixup"] == cell["mixup"]]
        assert [run["seed"] for run in runs] == [0, 1]
        accuracies = {
            "val": [run["val"]["acc1"] for run in runs],
            "test/last": [run["test"]["last"]["acc1"] for run in runs],
            "test/best_val": [run["test"]["best_val"]["acc1"] for run in runs],
            "test/median10": [run["test"]["median10"]["acc1"] for run in runs],
        }
        shown = next(line for line in table(printed) if line.startswith(f"│ {cell['mixup']} "))
        for score, values in accuracies.items():
            mean, deviation = np.mean(values), np.std(values, ddof=1)
            assert cell[f"{score} mean"] == pytest.approx(mean, rel=1e-12)
            assert cell[f"{score} std"] == pytest.approx(deviation, rel=1e-12)
            assert f"{100 * mean:.2f} ± {100 * deviation:.2f}" in shown


@pytest.mark.slow
def test_a_failing_job_leaves_the_others_and_its_reason_in_three_places(train: Train, tmp_path: Path) -> None:
    code, printed, err = train("optimizer.lr=1e30,0.05", *SMALL, "-m")
    assert code == 1
    assert err == "error: 1 of 2 jobs failed; the reasons are in the table\n"
    by_lr = {run["config"]["optimizer"]["lr"]: run for run in results(tmp_path)}
    assert {lr: run["status"] for lr, run in by_lr.items()} == {1e30: "failed", 0.05: "completed"}
    reason = by_lr[1e30]["error"]
    assert re.match(r"the loss is not finite since step \d+; the likely cause: the learning rate", reason)
    name = f"digits-cnn-input-alpha0.2-lr1e+30-epochs1-precision_fp32-train_size128-{by_lr[1e30]['cell_id']}"
    heading = next(line for line in table(printed) if " failed " in line)
    column = [cell.strip() for cell in heading.split("┃")].index("failed")
    shown = " ".join(line.split("│")[column].strip() for line in table(printed) if "┃" not in line)
    assert " ".join(shown.split()) == f"seed 0: {reason}"
    assert summary(tmp_path)["failed"].fillna("").tolist() == [f"seed 0: {reason}", ""]
    log = (tmp_path / f"outputs/runs/{name}-s0/train.log").read_text()
    assert log.splitlines()[-1] == f"failed: {reason}"
    assert "Traceback" not in log + printed


@pytest.mark.slow
def test_a_sweep_can_stop_at_the_first_failure(train: Train, tmp_path: Path) -> None:
    code, _, err = train("optimizer.lr=1e30,0.05", *SMALL, "hydra.sweeper.max_batch_size=1", "-m")
    assert (code, err) == (1, "error: 1 of 2 jobs failed, 1 were not started; the reasons are in the table\n")
    assert [run["status"] for run in results(tmp_path)] == ["failed"]
    assert summary(tmp_path)["failed"][1] == "seed 0: never begun"


def test_a_dry_run_trains_nothing_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    code, printed, err = train("mixup=none,input", "seed=range(2)", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    assert [[re.sub(r"-[0-9a-f]{10}-", "-*-", row[0]), *row[1:]] for row in planned(printed)] == [
        ["digits-cnn-none-*-s0", "none", "0", "new", "-"],
        ["digits-cnn-none-*-s1", "none", "1", "new", "-"],
        ["digits-cnn-input-alpha0.2-*-s0", "input", "0", "new", "-"],
        ["digits-cnn-input-alpha0.2-*-s1", "input", "1", "new", "-"],
    ]
    assert printed.splitlines()[-1] == (
        "4 of 4 runs are left; no run like them has been completed, so how long they take is not known"
    )
    assert list(tmp_path.iterdir()) == []


def test_folders_are_told_apart_by_what_is_swept(train: Train, tmp_path: Path, unreported: None) -> None:
    more = [f"dataset.{name}=2" for name in ("split_seed", "crop_padding")]
    words = ["dataset.augment=true", "trainer.ema_decay=0.99", *more, "optimizer.lr=0.05,0.1", *SMALL, "-m"]
    code, _, err = train("model=mlp", *words)
    assert (code, err) == (0, "")
    [file] = (tmp_path / "outputs/sweeps").glob("lr-*/sweep.json")
    folders = [run["folder"] for run in json.loads(file.read_text())["runs"]]
    assert [name[:35] for name in folders] == [
        "digits-mlp-input-alpha0.2-lr0.05-au",
        "digits-mlp-input-alpha0.2-lr0.1-aug",
    ]
    assert sorted(folders) == sorted(path.name for path in (tmp_path / "outputs/runs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected", "seeds"),
    [
        ("experiment=alpha_sweep", [f"input-alpha{alpha}" for alpha in ("0", "0.1", "0.2", "0.4", "1", "2")], 3),
        ("experiment=alpha_sweep mixup.alpha=0.2,1 seed=range(2)", ["input-alpha0.2", "input-alpha1"], 2),
        ("experiment=alpha_sweep mixup.alpha=0.2 seed=5", ["input-alpha0.2"], 1),
        ("experiment=strategies", ["none", "input-alpha0.2", "manifold-alpha2", "cutmix-alpha1"], 3),
        ("experiment=strategies mixup=none,cutmix seed=0", ["none", "cutmix-alpha1"], 1),
    ],
)
def test_a_sweep_file_can_be_narrowed(words: str, expected: list[str], seeds: int, train: Train) -> None:
    code, printed, _ = train(*words.split(" "), "dry_run=true")
    assert code == 0
    assert cells(printed) == [f"digits-cnn-{cell}" for cell in expected]
    assert len(planned(printed)) == len(expected) * seeds


def rows(run: Path) -> list[list[str]]:
    """What ``metrics.jsonl`` says but the times, as it is written."""
    time = re.compile(rf'"(?:{"|".join(TIME_FIELDS)})": [^,}}]+')
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert all(len(time.findall(line)) == len(TIME_FIELDS) for line in lines)
    return [time.sub("", line).split(", ") for line in lines]


@pytest.mark.slow
def test_the_config_of_a_run_gives_the_run_again(train: Train, tmp_path: Path) -> None:
    assert train("mixup=manifold", "trainer.ema_decay=0.9", "scheduler.warmup_epochs=0.5", "seed=3", *SMALL)[0] == 0
    (run,) = (tmp_path / "outputs/runs").iterdir()
    (first,) = results(tmp_path)
    before, inode = rows(run), stamps(tmp_path)[str(run / "result.json")]
    config = OmegaConf.load(run / "config.yaml")

    back = ["--config-path", str(run), "--config-name", "config"]
    code, printed, err = train(*back)
    assert (code, err) == (0, "")
    assert printed.startswith(f"already completed: {run}")
    code, _, err = train(*back, "rerun=true")
    assert (code, err) == (0, "")
    (again,) = results(tmp_path)
    assert stamps(tmp_path)[str(run / "result.json")] != inode
    same = ("run_id", "cell_id", "seed", "choices", "val", "test", "best_epoch")
    assert [again[name] for name in same] == [first[name] for name in same]
    assert rows(run) == before
    rewritten = OmegaConf.load(run / "config.yaml")
    assert rewritten == OmegaConf.merge(config, {"rerun": True})


@pytest.mark.slow
def test_the_config_of_a_run_can_be_swept(train: Train, tmp_path: Path) -> None:
    assert train(*SMALL)[0] == 0
    (run,) = (tmp_path / "outputs/runs").iterdir()
    back = ["--config-path", str(run), "--config-name", "config"]
    code, printed, err = train(*back, "mixup.alpha=0.2,0.4", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    first, second = planned(printed)
    assert (first[0], first[3]) == (run.name, "done")
    assert (second[0].partition("-alpha0.4-")[0], second[3]) == ("digits-cnn-input", "new")


@pytest.mark.slow
def test_a_key_of_some_options_can_be_swept_across_all(train: Train, tmp_path: Path, unreported: None) -> None:
    words = ["mixup=none,fmix,manifold", "mixup.layers=[input,block1]", "mixup.decay=2"]
    code, printed, err = train(*words, *SMALL, "-m")
    assert (code, err) == (0, "")
    effect = {run["choices"]["mixup"]: run["config"]["mixup"] for run in results(tmp_path)}
    assert effect["manifold"]["layers"] == ["input", "block1"]
    assert effect["fmix"]["decay"] == 2
    notices = [line for line in printed.splitlines() if "has no effect" in line]
    assert notices == [
        "mixup.layers=[input,block1] has no effect with vicinal.mixing.NoMix",
        "mixup.decay=2 has no effect with vicinal.mixing.NoMix",
        "mixup.layers=[input,block1] has no effect with vicinal.mixing.fields.FMix",
        "mixup.decay=2 has no effect with vicinal.mixing.ManifoldMixup",
    ]


def test_a_value_that_is_the_default_is_shown_too(train: Train, tmp_path: Path) -> None:
    code, _, err = train("mixup.prob=0.5,1", "+optimizer.maximize=false", *SMALL, "-m")
    assert (code, err) == (0, "")
    assert summary(tmp_path)["mixup.prob"].tolist() == [0.5, 1.0]


def test_an_added_key_is_a_column(train: Train, tmp_path: Path) -> None:
    code, _, err = train("+optimizer.dampening=0,0.1", *SMALL, "-m")
    assert (code, err) == (0, "")
    assert summary(tmp_path)["optimizer.dampening"].astype(float).tolist() == [0.0, 0.1]


def test_a_recipe_that_is_a_sweep_is_not_swept(train: Train, tmp_path: Path) -> None:
    code, _, err = train("experiment=strategies,alpha_sweep", "-m")
    line = "error: experiment=strategies: this recipe is a sweep itself; run it alone, without -m\n"
    assert (code, err, list(tmp_path.iterdir())) == (1, line, [])


def test_the_flag_may_stand_anywhere(train: Train) -> None:
    code, printed, err = train("mixup.alpha=0.2,0.4", "-m", "dry_run=true")
    assert (code, err, len(planned(printed))) == (0, "", 2)


@pytest.mark.slow
def test_a_file_edited_during_a_sweep_does_not_change_its_later_jobs(tmp_path: Path) -> None:
    root = CONF.parent
    for part in ("conf", "src"):
        shutil.copytree(root / part, tmp_path / part)
    shutil.copy(root / "train.py", tmp_path)
    words = ["mixup.alpha=0.2,0.4", *SMALL, "trainer.epochs=20", "wandb.mode=disabled", "-m"]
    path = os.pathsep.join([str(tmp_path / "src"), *sys.path])  # before any other Vicinal, wherever the packages are
    with subprocess.Popen(
        [sys.executable, "train.py", *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        while not list(tmp_path.glob("outputs/runs/*/metrics.jsonl")):
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.01)
        (tmp_path / "conf/mixup/input.yaml").write_text("_target_: nowhere.Nothing\n")
        (tmp_path / "conf/model/cnn.yaml").unlink()
    assert process.returncode == 0
    assert sorted(run["config"]["mixup"]["alpha"] for run in results(tmp_path)) == [0.2, 0.4]


def test_nothing_is_left_to_choose_in_the_config_of_a_run(train: Train, tmp_path: Path) -> None:
    assert train(*SMALL)[0] == 0
    (run,) = (tmp_path / "outputs/runs").iterdir()
    code, _, err = train("--config-path", str(run), "--config-name", "config", "mixup=none")
    line = "error: mixup=none: the config is a resolved one, in which there is nothing left to choose\n"
    assert (code, err) == (1, line)


def test_data_that_cannot_be_had_costs_no_result(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(*SMALL)[0] == 0
    before = stamps(tmp_path)

    def gone(self: object) -> None:
        raise UserError("the data are gone")

    monkeypatch.setattr(job.build, "load_data", gone)
    assert train(*SMALL, "rerun=true") == (1, "", "error: the data are gone\n")
    assert stamps(tmp_path) == before


def test_weights_that_the_last_step_ruined_are_a_failure(train: Train, tmp_path: Path) -> None:
    words = ["model=mlp", "trainer.batch_size=128", "optimizer.lr=1e30", *SMALL]
    code, _, err = train(*words)
    assert (code, err.startswith("error: the loss is not finite in evaluation after step 1; ")) == (1, True)
    [result] = results(tmp_path)
    assert result["status"] == "failed"


def test_another_name_for_the_same_run_finds_its_folder(train: Train, tmp_path: Path) -> None:
    words = ["model.width=2", "model.depth=18", "dry_run=true", "-m"]
    code, first, _ = train("model=preact_resnet18", *words)
    (tmp_path / "outputs/runs" / planned(first)[0][0]).mkdir(parents=True)
    code, second, _ = train("model=preact_resnet34", *words)
    assert (code, planned(second)) == (0, planned(first))
    assert "preact_resnet18" in planned(first)[0][0]


def test_jobs_run_where_the_sweep_looks_whatever_a_place_is_made_of(
    train: Train, tmp_path: Path, unreported: None
) -> None:
    places = iter(range(100))
    OmegaConf.register_new_resolver("another", lambda: f"place{next(places)}", replace=True)
    words = ["output_dir='${another:}/${now:%H%M%S%f}'", "hydra.sweep.dir='sweep/${now:%H%M%S%f}'", *SMALL]
    code, printed, err = train(*words, "seed=0,1", "-m")
    assert (code, err, "not completed" in printed) == (0, "", False)
    [file] = tmp_path.glob("sweep/*/sweep.json")
    runs = [Path(run["folder"]) for run in json.loads(file.read_text())["runs"]]
    assert [run.parents[2].name for run in runs] == ["place0", "place1"]
    assert len({run.parents[1].name for run in runs}) == 1  # a time is one for all
    assert all((run / "result.json").exists() for run in runs)
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made == {"place0", "place1", "sweep"}
    assert [line for line in printed.splitlines() if "#0 : " in line] == [f"\t#0 : seed=0 {words[0]} {' '.join(SMALL)}"]


@pytest.mark.parametrize("words", [(), ("seed=0,1", "-m"), ("seed=0,1", "hydra/launcher=parallel", "-m")])
def test_jobs_do_not_leave_the_folder_in_which_paths_start(
    train: Train, tmp_path: Path, words: tuple[str, ...]
) -> None:
    line = "error: hydra.job.chdir=true: must be false; paths start in the folder where the command is typed\n"
    assert train("hydra.job.chdir=true", *words) == (1, "", line)
    assert not list(tmp_path.glob("*/*"))


def test_flags_may_stand_between_the_words(train: Train) -> None:
    code, printed, err = train("seed=7", "--config-name", "config", "mixup=none", "-m", "dry_run=true")
    assert (code, err, [row[0][-3:] for row in planned(printed)]) == (0, "", ["-s7"])
