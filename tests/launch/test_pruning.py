"""When a run is stopped, against Optuna's pruners, and what a run that is stopped leaves."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from vicinal.launch.pruning import ENOUGH, ETA, PARTS, asha, median, stopper

EPOCHS = 27
Rows = list[dict[str, float]]


def curves(seed: int, count: int = 25) -> list[Rows]:
    """Random walks."""
    draws, runs = random.Random(seed), []
    for _ in range(count):
        value, rows = 0.0, []
        for _ in range(EPOCHS):
            value += draws.gauss(0, 1)
            rows.append({"val/s": value})
        runs.append(rows)
    return runs


def theirs(pruner: optuna.pruners.BasePruner, runs: list[Rows], higher: bool) -> list[int]:
    """The epochs after which Optuna stops runs that come one after the other."""
    study = optuna.create_study(
        direction="maximize" if higher else "minimize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    ends = []
    for rows in runs:
        trial = study.ask()
        for epoch, row in enumerate(rows[:-1], 1):
            trial.report(row["val/s"], epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                ends.append(epoch)
                break
        else:
            trial.report(rows[-1]["val/s"], EPOCHS)
            study.tell(trial, rows[-1]["val/s"])
            ends.append(EPOCHS)
    return ends


def ours(rule: Callable[..., bool], runs: list[Rows], higher: bool) -> list[int]:
    done: list[Rows] = []
    for rows in runs:
        stops = (
            epoch for epoch in range(1, EPOCHS) if rule(rows[:epoch], done, key="val/s", higher=higher, epochs=EPOCHS)
        )
        done.append(rows[: next(stops, EPOCHS)])
    return [len(rows) for rows in done]


@pytest.fixture(autouse=True)
def silent() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_asha_stops_as_optunas_does(seed: int, higher: bool) -> None:
    runs = curves(seed)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=EPOCHS // PARTS, reduction_factor=ETA)
    ends = ours(asha, runs, higher)
    assert ends == theirs(pruner, runs, higher)
    assert set(ends) == {3, 9, 27}


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_median_stops_as_optunas_does(seed: int, higher: bool) -> None:
    runs = curves(seed)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=ENOUGH, n_warmup_steps=EPOCHS // PARTS)
    ends = ours(median, runs, higher)
    assert ends == theirs(pruner, runs, higher)
    assert len(set(ends)) > 2


def test_a_run_is_compared_with_the_others_of_its_search(tmp_path: Path) -> None:
    """By their files, so that any process can do it; a run that is none of them is let alone."""
    sweep = tmp_path / "sweeps" / "s"
    sweep.mkdir(parents=True)
    entries = []
    for number, score in enumerate((0.9, 0.5)):
        folder = tmp_path / "runs" / f"r-000000000{number}-s0"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "val/s": score}) + "\n")
        run = {"run_id": f"000000000{number}-s0", "cell_id": f"000000000{number}", "seed": 0, "name": "r"}
        entries.append({**run, "folder": folder.name, "values": {}})
    (sweep / "sweep.json").write_text(json.dumps({"swept": [], "runs": entries}))
    stop = stopper(sweep, "0000000001-s0", 9, "asha", "val/s", True)
    assert stop is not None
    assert stop([]) is None
    assert stop([{"val/s": 0.5}]) == "stopped at epoch 1 of 9 by asha"
    assert stop([{"val/s": 0.95}]) is None
    assert stop([{"val/s": 0.5}] * 9) is None  # there is nothing left to save
    assert stopper(sweep, "0000000002-s0", 9, "asha", "val/s", True) is None
    assert stopper(tmp_path, "0000000001-s0", 9, "asha", "val/s", True) is None
