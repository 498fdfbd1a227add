"""Sweeps from the command line to their tables and files."""

import json
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from vicinal import main
from vicinal.tracking import TIME_FIELDS

SMALL = ["trainer.epochs=1", "trainer.threads=1", "trainer.precision=fp32", "dataset.train_size=128"]
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Train]:
    """``train.py`` in this process: exit code, stdout and stderr."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main sets it; this way it is taken back
    monkeypatch.setattr("vicinal.main.FULL_ERROR", False)
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.root.handlers[:], logging.root.level
    threads, on_term = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)

    def run(*words: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        code: object = 0
        try:
            main.main()
        except SystemExit as stop:
            code = stop.code
            if isinstance(code, str):  # as the interpreter does
                print(code, file=sys.stderr)
                code = 1
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    yield run
    GlobalHydra.instance().clear()
    logging.root.handlers[:], logging.root.level = handlers, level
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, on_term)


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/runs/*/result.json"))]


def summary(folder: Path) -> pd.DataFrame:
    """Of the latest sweep."""
    return pd.read_csv(max(folder.glob("outputs/sweeps/*/summary.csv")))


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(("│", "┃"))]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.glob("outputs/runs/*/*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def planned(printed: str) -> list[str]:
    """The folders that a dry run names."""
    return [line.rpartition("/")[2].removesuffix(": new") for line in printed.splitlines() if line.endswith(": new")]


@pytest.mark.slow
def test_strategies_against_alpha_are_seven_runs_and_are_trained_once(train: Train, tmp_path: Path) -> None:
    words = ["mixup=none,input,manifold,cutmix", "mixup.alpha=0.2,0.4", *SMALL, "-m"]
    code, first, err = train(*words)
    assert (code, err) == (0, "")
    assert "8 combinations are 7 different runs" in first
    assert len(list((tmp_path / "outputs/runs").iterdir())) == len(results(tmp_path)) == 7
    cells = summary(tmp_path)
    assert list(zip(cells["mixup"], cells["mixup.alpha"], strict=True)) == [
        ("none", "-"), ("input", "0.2"), ("input", "0.4"), ("manifold", "0.2"), ("manifold", "0.4"),
        ("cutmix", "0.2"), ("cutmix", "0.4"),
    ]  # fmt: skip
    assert cells["n"].tolist() == [1] * 7
    assert len(table(first)) == 8

    before = stamps(tmp_path)
    code, second, err = train(*words)
    assert (code, err) == (0, "")
    assert second.count("already completed: ") == 7
    assert stamps(tmp_path) == before
    assert table(second) == table(first)
    assert len(list(tmp_path.glob("outputs/sweeps/*/summary.csv"))) == 2


def test_the_same_number_written_twice_is_one_run(train: Train, tmp_path: Path) -> None:
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
    assert err == "error: 1 of 2 jobs failed; the reasons are below the table\n"
    by_lr = {run["config"]["optimizer"]["lr"]: run for run in results(tmp_path)}
    assert {lr: run["status"] for lr, run in by_lr.items()} == {1e30: "failed", 0.05: "completed"}
    reason = by_lr[1e30]["error"]
    assert re.match(r"the loss is not finite since step \d+ .*learning rate", reason)
    name = f"digits-cnn-input-alpha0.2-{by_lr[1e30]['cell_id']}"
    assert f"failed: {name}-s*: seed 0: {reason}" in printed.splitlines()
    assert summary(tmp_path)["failed"].fillna("").tolist() == [f"seed 0: {reason}", ""]
    log = (tmp_path / f"outputs/runs/{name}-s0/train.log").read_text()
    assert log.splitlines()[-1] == f"failed: {reason}"
    assert "Traceback" not in log + printed


@pytest.mark.slow
def test_a_sweep_can_stop_at_the_first_failure(train: Train, tmp_path: Path) -> None:
    code, _, err = train("optimizer.lr=1e30,0.05", *SMALL, "hydra.sweeper.max_batch_size=1", "-m")
    assert (code, err) == (1, "error: 2 of 2 jobs failed; the reasons are below the table\n")
    assert [run["status"] for run in results(tmp_path)] == ["failed"]
    assert summary(tmp_path)["failed"][1] == "seed 0: no result: not started, interrupted or killed"


def test_a_dry_run_trains_nothing_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    code, printed, err = train("mixup=none,input", "seed=range(2)", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    assert [re.sub(r"-[0-9a-f]{10}-", "-*-", name) for name in planned(printed)] == [
        "digits-cnn-none-*-s0",
        "digits-cnn-none-*-s1",
        "digits-cnn-input-alpha0.2-*-s0",
        "digits-cnn-input-alpha0.2-*-s1",
    ]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "cells", "seeds"),
    [
        ("experiment=alpha_sweep", [f"input-alpha{alpha}" for alpha in ("0", "0.1", "0.2", "0.4", "1", "2")], 3),
        ("experiment=alpha_sweep mixup.alpha=0.2,1 seed=range(2)", ["input-alpha0.2", "input-alpha1"], 2),
        ("experiment=alpha_sweep mixup.alpha=0.2 seed=5", ["input-alpha0.2"], 1),
        ("experiment=strategies", ["none", "input-alpha0.2", "manifold-alpha2", "cutmix-alpha1"], 3),
        ("experiment=strategies mixup=none,cutmix seed=0", ["none", "cutmix-alpha1"], 1),
    ],
)
def test_a_sweep_file_can_be_narrowed(words: str, cells: list[str], seeds: int, train: Train) -> None:
    code, printed, _ = train(*words.split(" "), "dry_run=true")
    assert code == 0
    names = planned(printed)
    assert len(names) == len(set(names)) == len(cells) * seeds
    assert list(dict.fromkeys(re.sub(r"-[0-9a-f]{10}-s\d+$", "", name) for name in names)) == [
        f"digits-cnn-{cell}" for cell in cells
    ]


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
    assert sorted(map(str, rewritten.pop("defaults"))) == sorted(map(str, config.pop("defaults")))
    assert rewritten == OmegaConf.merge(config, {"rerun": True})


@pytest.mark.slow
def test_the_config_of_a_run_can_be_swept(train: Train, tmp_path: Path) -> None:
    assert train(*SMALL)[0] == 0
    (run,) = (tmp_path / "outputs/runs").iterdir()
    back = ["--config-path", str(run), "--config-name", "config"]
    code, printed, err = train(*back, "mixup.alpha=0.2,0.4", "dry_run=true", "-m")
    assert (code, err) == (0, "")
    assert f"{run}: done" in printed
    assert [name.partition("-alpha0.4-")[0] for name in planned(printed)] == ["digits-cnn-input"]
