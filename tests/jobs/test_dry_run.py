"""States and estimates of runs, against folders written by hand."""

import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.experiment import Experiment
from vicinal.jobs.dry_run import Past, State, describe, duration, show
from vicinal.jobs.provenance import run_metadata
from vicinal.launch.grid import Job
from vicinal.runs import checkpoint

from ..data.box_files import write_voc
from ..outcome import OUTCOME

Compose = Callable[..., Experiment]
Train = Callable[..., tuple[int, str, str]]


def past_run(experiment: Experiment, took: float, device: str = "cpu", **more: Any) -> None:
    """Leave a ``result.json`` behind, as a run does that took so long."""
    hardware = {"device": device, "precision": "fp32", "threads": 1}
    complete(experiment, **{"seconds": {"total": took}, "hardware": hardware} | more)


def begin(experiment: Experiment, epochs: int) -> None:
    """Leave a checkpoint behind after so many epochs."""
    experiment.folder.path.mkdir(parents=True)
    rows = [{"epoch": epoch + 1} for epoch in range(epochs)]
    checkpoint.save(experiment.folder.checkpoint, {"training": {"history": {"rows": rows}}})


def complete(experiment: Experiment, **more: Any) -> None:
    folder = experiment.folder
    folder.path.mkdir(parents=True)
    for file in (folder.config, folder.environment, folder.metrics, folder.checkpoint):
        file.touch()
    folder.complete({**run_metadata(experiment), **OUTCOME, "epochs": experiment.trainer.epochs, "versions": {}} | more)


def test_the_five_states_of_a_run(compose: Compose) -> None:
    new, partial, failed, running, done = (compose(f"seed={seed}", "trainer.epochs=30") for seed in range(5))
    begin(partial, 12)
    begin(failed, 6)
    failed.folder.fail({"run_id": failed.run_id}, "the loss is not finite")
    complete(done)
    assert State.of(new) == State("new", 1.0)
    assert State.of(partial) == State("12 of 30 epochs", 1 - 12 / 30)
    assert State.of(failed) == State("failed", 1 - 6 / 30)
    assert State.of(done) == State("done", None)
    with running.folder.lock(wait=False):
        assert State.of(running) == State(f"running: process {os.getpid()} on {platform.node()}", 1.0)
    again = [compose(f"seed={seed}", "trainer.epochs=30", "rerun=true") for seed in range(5)]
    assert [State.of(each).left for each in again] == [1.0] * 5
    assert State.of(again[4]).text == "done, trained again"


def test_a_run_whose_last_epoch_is_done_is_not_done_yet(compose: Compose) -> None:
    run = compose("trainer.epochs=3")
    begin(run, 3)
    assert State.of(run) == State("3 of 3 epochs", 0.0)


def test_the_estimate_is_the_median_of_runs_that_differ_in_mixing_and_optimizer_alone(compose: Compose) -> None:
    alike = {
        "seed=1": 10.0,
        "mixup=manifold": 14.0,
        "optimizer=adamw scheduler=onecycle seed=2": 11.0,
        "mixup=none seed=3 trainer.log_every=7 wandb.mode=offline": 30.0,
    }
    others = {
        "trainer.batch_size=32": 100.0,
        "dataset.train_size=100": 1.0,
        "model=mlp": 2.0,
        "trainer.precision=bf16": 3.0,
        "trainer.ema_decay=0.9": 4.0,
    }
    for words, seconds in {**alike, **others}.items():
        past_run(compose(*words.split()), seconds)
    past_run(compose("seed=9"), 1.0, device="cuda")
    run = compose("seed=0")
    assert Past(run.folder.path.parent).seconds(run) == statistics.median(alike.values()) == 12.5


def test_the_estimate_is_scaled_by_epochs_unless_there_are_runs_of_as_many(compose: Compose) -> None:
    past_run(compose("trainer.epochs=10"), 50.0)
    past_run(compose("trainer.epochs=20"), 140.0)
    run = compose("trainer.epochs=40")
    past = Past(run.folder.path.parent)
    assert past.seconds(run) == statistics.median([50 * 4, 140 * 2])
    past_run(compose("trainer.epochs=40", "seed=1"), 300.0)
    assert Past(run.folder.path.parent).seconds(run) == 300.0


@pytest.mark.parametrize(
    "damage",
    [{"epochs": 0}, {"epochs": "3"}, {"seconds": None}, {"seconds": {"total": -1.0}}, {"config": []}, {"hardware": 1}],
)
def test_a_damaged_result_is_no_estimate(damage: dict[str, Any], compose: Compose) -> None:
    run = compose("seed=0")
    past_run(compose("seed=1"), 8.0, **damage)
    assert Past(run.folder.path.parent).seconds(run) is None
    (run.folder.path.parent / "x").mkdir()
    (run.folder.path.parent / "x/result.json").write_text('{"status": "comp')
    past_run(compose("seed=2"), 8.0)
    assert Past(run.folder.path.parent).seconds(run) == 8.0


def test_one_run_is_described_in_words(compose: Compose) -> None:
    run = compose("trainer.epochs=30")
    assert describe(run) == "new"
    past_run(compose("trainer.epochs=30", "seed=1"), 600.0)
    assert describe(run) == "new, about 10 min left"
    begin(run, 12)
    assert describe(run) == "12 of 30 epochs, about 6 min left"
    complete(compose("trainer.epochs=30", "seed=2"))
    assert describe(compose("trainer.epochs=30", "seed=2")) == "done"


def listed(capsys: pytest.CaptureFixture[str], *experiments: Experiment) -> tuple[list[list[str]], str]:
    show([Job((f"mixup.alpha={index}",), each) for index, each in enumerate(experiments)])
    printed = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed if line.startswith("│")], printed[-1]


def test_the_grid_is_listed_and_what_is_left_is_summed(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (compose(f"mixup.alpha=0.{index}", "trainer.epochs=10") for index in (1, 2, 3))
    rows, total = listed(capsys, first, second, third)
    assert total == "3 of 3 runs are left; no run like them has been completed, so how long they take is not known"
    assert [row[-2:] for row in rows] == [["new", "-"]] * 3

    past_run(compose("seed=7", "trainer.epochs=10"), 100.0)
    begin(second, 5)
    complete(third)
    rows, total = listed(capsys, first, second, third)
    assert rows == [
        [first.folder.path.name, "0.1", "0", "new", "2 min"],
        [second.folder.path.name, "0.2", "0", "5 of 10 epochs", "50 s"],
        [third.folder.path.name, "0.3", "0", "done", "-"],
    ]
    assert total == "2 of 3 runs are left: about 2 min, one after another"
    rows, total = listed(capsys, first, compose("model=mlp", "trainer.epochs=10"))
    assert total == "2 of 2 runs are left: at least 2 min, one after another"
    assert listed(capsys, third)[1] == "all 1 runs are done"
    assert not list(first.folder.path.parents[1].glob("sweeps"))


@pytest.mark.parametrize("words", [("mixup=none",), ("mixup=none,input", "-m")])
def test_keys_without_effect_are_named(words: tuple[str, ...], train: Train) -> None:
    code, out, err = train(*words, "mixup.alpha=0.3", "dry_run=true")
    assert (code, err) == (0, "")
    assert out.count("mixup.alpha=0.3 has no effect with vicinal.mixing.NoMix") == 1


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("dataset.imbalance_ratio=100", ["dataset.imbalance_ratio=100 has no effect with dataset.imbalance=none"]),
        ("dataset.imbalance_ratio=20 dataset.imbalance=step", []),
        (
            "trainer.focal_gamma=5 trainer.class_weights_beta=0.9 trainer.loss=bce trainer.bce_threshold=null",
            [
                "trainer.class_weights_beta=0.9 has no effect with trainer.class_weights=none",
                "trainer.focal_gamma=5 has no effect with trainer.loss=bce",
            ],
        ),
        (
            "trainer.bce_threshold=0.3",
            ["trainer.bce_threshold=0.3 has no effect with trainer.loss=ce of dataset.task=classification"],
        ),
        ("scheduler=multistep trainer.epochs=3", ["scheduler.milestones=[100,150] has no effect in 3 epochs"]),
        ("scheduler=multistep scheduler.milestones=[2,150] trainer.epochs=3", []),
    ],
)
def test_what_is_asked_for_and_has_no_effect_is_said(
    compose: Callable[..., Experiment], words: str, lines: list[str]
) -> None:
    assert sorted(compose(*words.split()).ineffective_keys()) == lines


@pytest.mark.parametrize("words", [(), ("seed=0,1", "-m")])
def test_a_cut_that_the_run_refuses_is_refused_in_a_dry_run(
    words: tuple[str, ...], train: Train, tmp_path: Path
) -> None:
    folder = write_voc(tmp_path / "voc")
    given = ("dataset=voc", f"dataset.folder={folder}", "dataset.origin=0", "dataset.image_size=32", "dry_run=true")
    code, _, errors = train(*given, "dataset.train_size=6", *words)
    assert code != 0
    assert errors.strip().splitlines()[-1] == "error: dataset.train_size=6: must be null, 5 or from 1 to 4"
    assert train(*given, "dataset.train_size=4", *words)[0] == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (5969, "99 min"),
        (5971, "1 h 40 min"),
        (48 * 3600 - 31, "47 h 59 min"),
        (48 * 3600, "2 d 0 h"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text
