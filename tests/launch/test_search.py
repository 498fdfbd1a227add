"""Searches from the command line: their trials, their end on new seeds, what stops them, and what is refused."""

import errno
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.experiment import Experiment
from vicinal.jobs import run as job
from vicinal.launch.journal import JOURNAL
from vicinal.launch.study import SharedStudy
from vicinal.runs.locks import held

from ..forked import Forked

SMALL = ["trainer.epochs=1", "trainer.threads=1", "trainer.precision=fp32", "dataset.train_size=128", "model=mlp"]
SPACE = ["mixup.alpha=tag(log,interval(0.05,8))", "optimizer.lr=interval(0.01,0.2)"]
SEARCH = ["hydra/sweeper=search", *SPACE, *SMALL, "hydra.sweeper.confirm=0", "-m"]
Train = Callable[..., tuple[int, str, str]]


def trials_of(n: int) -> str:
    return f"hydra.sweeper.trials={n}"


def record(folder: Path) -> dict[str, Any]:
    """Of the only search."""
    [file] = folder.glob("outputs/sweeps/*/search.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def results(folder: Path) -> dict[str, dict[str, Any]]:
    read = (json.loads(path.read_text()) for path in folder.glob("outputs/runs/*/result.json"))
    return {result["run_id"]: result for result in read}


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds."""
    monkeypatch.setattr("vicinal.report.search.finish", lambda folder: None)


@pytest.mark.slow
def test_a_search_ends_with_its_choice_on_new_seeds(train: Train, tmp_path: Path) -> None:
    words = [word for word in SEARCH if "confirm" not in word]
    code, printed, err = train(*words, trials_of(3), "hydra.sweeper.confirm=2")
    assert (code, err) == (0, "")
    found, runs = record(tmp_path), results(tmp_path)
    assert [trial["state"] for trial in found["trials"]] == ["completed"] * 3
    for trial in found["trials"]:
        [run] = (runs[name] for name in trial["runs"])
        assert trial["value"] == run["val"]["acc1"]  # the metric that the task selects by
        assert {"mixup.alpha": run["config"]["mixup"]["alpha"], "optimizer.lr": run["config"]["optimizer"]["lr"]} == {
            key: float(text) for key, text in trial["values"].items()
        }
        assert all(len(text.replace(".", "").lstrip("0")) <= 4 for text in trial["values"].values())
    best = max(found["trials"], key=lambda trial: trial["value"])
    assert found["best"] == best["number"]
    assert "is optimistic: it is the best of 3 on the samples that it was chosen by" in printed

    confirm = json.loads((tmp_path / "outputs/sweeps" / found["confirm"] / "sweep.json").read_text())
    assert [run["seed"] for run in confirm["runs"]] == [1, 2, 1, 2]  # the search itself has used 0
    assert confirm["runs"][0]["values"] == {"mixup.alpha": "0.2", "optimizer.lr": "0.1"}  # the default values
    assert confirm["runs"][2]["values"] == best["values"]
    assert confirm["baseline"] == confirm["runs"][0]["cell_id"]
    assert {runs[run["run_id"]]["status"] for run in confirm["runs"]} == {"completed"}
    pairs = (tmp_path / "outputs/sweeps" / found["confirm"] / "report/pairs.csv").read_text().splitlines()
    assert confirm["runs"][0]["cell_id"] not in pairs[1]
    assert confirm["runs"][2]["cell_id"] in pairs[1]
    scores = [runs[run["run_id"]]["test"]["last"]["acc1"] for run in confirm["runs"]]
    column = pairs[0].split(",").index("difference")
    difference = (scores[2] + scores[3] - scores[0] - scores[1]) / 2
    assert float(pairs[1].split(",")[column]) == pytest.approx(difference, abs=1e-12)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/runs/*/result.json")}
    assert train(*words, trials_of(3), "hydra.sweeper.confirm=2")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/runs/*/result.json")} == before
    assert record(tmp_path) == found


def test_the_same_command_goes_on_and_another_folder_has_the_same_trials(
    train: Train, tmp_path: Path, unreported: None
) -> None:
    assert train(*SEARCH, trials_of(2))[0] == 0
    code, printed, err = train(*SEARCH, trials_of(4))
    assert (code, err) == (0, "")
    assert re.findall(r"^trial (\d): mixup", printed, re.MULTILINE) == ["2", "3"]
    found = record(tmp_path)
    assert train(*SEARCH, trials_of(4), "output_dir=other/outputs")[0] == 0
    other = record(tmp_path / "other")
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3]
    assert other["trials"] == found["trials"]
    assert train(*SEARCH, trials_of(2), "output_dir=third/outputs", "hydra.sweeper.seed=1")[0] == 0
    assert record(tmp_path / "third")["trials"][0]["values"] != found["trials"][0]["values"]


def test_a_record_is_never_older_than_the_one_that_it_replaces(
    train: Train, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process can tell a trial between the reading of the trials and the writing."""
    alone: list[bool] = []

    def written(folder: Path, *arguments: Any) -> None:
        alone.append(held(folder / "study.lock"))

    monkeypatch.setattr("vicinal.launch.search.write_record", written)
    assert train(*SEARCH, trials_of(1))[0] == 0
    assert alone == [True, True]


def test_points_are_chosen_and_trained_together_on_several_seeds(
    train: Train, tmp_path: Path, unreported: None
) -> None:
    words = ["hydra.sweeper.at_a_time=2", "hydra.sweeper.seeds=2", "hydra.sweeper.objective=val_best/nll"]
    code, printed, err = train(*SEARCH, trials_of(3), *words, "seed=5")
    assert (code, err) == (0, "")
    assert [line for line in printed.splitlines() if line.startswith("Launching")] == [
        "Launching 4 jobs locally",
        "Launching 2 jobs locally",
    ]
    found, runs = record(tmp_path), results(tmp_path)
    for trial in found["trials"]:
        assert [runs[name]["seed"] for name in trial["runs"]] == [5, 6]
        values = [runs[name]["val_best"]["nll"] for name in trial["runs"]]
        assert trial["value"] == pytest.approx(sum(values) / 2, rel=1e-12)
    best = min(found["trials"], key=lambda trial: trial["value"])  # less is better, as the task says
    assert found["best"] == best["number"]


def test_what_is_completed_already_is_where_a_search_begins(train: Train, tmp_path: Path, unreported: None) -> None:
    assert train("mixup.alpha=0.2", *SMALL)[0] == 0
    assert train("mixup.alpha=9", *SMALL)[0] == 0  # outside of the space
    assert train("mixup.alpha=1", *SMALL, "optimizer.weight_decay=0.1")[0] == 0  # another config
    code, _, err = train(*SEARCH, trials_of(1))
    assert (code, err) == (0, "")
    trials = record(tmp_path)["trials"]
    assert [(trial["warm"], trial["values"]) for trial in trials[:1]] == [
        (True, {"mixup.alpha": "0.2", "optimizer.lr": "0.1"})
    ]
    assert [trial["warm"] for trial in trials] == [True, False]
    assert train(*SEARCH, trials_of(1), "hydra.sweeper.warm_start=false", "hydra.sweeper.seed=1")[0] == 0
    counts = [len(json.loads(file.read_text())["trials"]) for file in tmp_path.glob("outputs/sweeps/*/search.json")]
    assert sorted(counts) == [1, 2]


def test_a_trial_that_fails_does_not_end_the_search(train: Train, tmp_path: Path, unreported: None) -> None:
    words = ["hydra/sweeper=search", "optimizer.lr=1e30,0.05", *SMALL, "hydra.sweeper.confirm=0", trials_of(6), "-m"]
    code, printed, err = train(*words)
    assert (code, err) == (0, "")
    trials = record(tmp_path)["trials"]
    states = {trial["values"]["optimizer.lr"]: trial["state"] for trial in trials}
    assert states == {"1e+30": "failed", "0.05": "completed"}
    reasons = {trial["reason"] for trial in trials if trial["state"] == "failed"}
    assert all(reason.startswith("the loss is not finite since step") for reason in reasons)
    assert "has failed: the loss is not finite" in printed


@pytest.mark.parametrize("size", [1, 3])
def test_a_full_disk_is_no_fault_of_a_point(
    size: int, train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search ends, its trial stays to be done, and the same command ends with the trials of another search."""
    words = [*SEARCH, trials_of(3), f"hydra.sweeper.at_a_time={size}"]
    assert train(*words, "output_dir=whole/outputs")[0] == 0
    real, calls = job.run, []

    def full(experiment: Experiment, *more: Any) -> dict[str, Any]:
        calls.append(experiment)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.pt")
        return real(experiment, *more)

    monkeypatch.setattr(job, "run", full)
    code, _, err = train(*words)
    assert (code, err) == (1, "error: checkpoint.pt: No space left on device; the same command goes on\n")
    states = [trial["state"] for trial in record(tmp_path)["trials"]]
    assert states == ["completed", "running", "completed"][: size + 1]
    assert train(*words)[0] == 0
    assert record(tmp_path)["trials"] == record(tmp_path / "whole")["trials"]


def test_a_search_in_which_all_fails_gives_up(train: Train, tmp_path: Path, unreported: None) -> None:
    words = ["hydra/sweeper=search", "optimizer.lr=1e30,1e29", *SMALL, "hydra.sweeper.confirm=0", trials_of(9), "-m"]
    code, _, err = train(*words)
    assert code == 1
    assert re.fullmatch(r"error: all 3 trials so far have failed, the last because: the loss is not finite .*\n", err)
    assert len(record(tmp_path)["trials"]) == 3


def test_failures_end_a_search_only_if_nothing_has_ever_been_completed(
    train: Train, tmp_path: Path, unreported: None
) -> None:
    """A point that was known before is one that is completed; and a command that goes on counts as the first does."""
    assert train("optimizer.lr=0.05", *SMALL)[0] == 0
    words = ["hydra/sweeper=search", "optimizer.lr=1e30,1e29,1e28,1e27,0.05", *SMALL, "hydra.sweeper.confirm=0", "-m"]
    code, printed, err = train(*words, trials_of(4))
    assert (code, err) == (0, "")
    assert printed.count(" has failed: ") >= 3
    other = ["hydra/sweeper=search", "optimizer.lr=1e30,1e29", *SMALL, "output_dir=other", "hydra.sweeper.confirm=0"]
    assert train(*other, trials_of(2), "-m")[0] == 1
    code, _, err = train(*other, trials_of(9), "-m")
    assert (code, err[:48]) == (1, "error: all 3 trials so far have failed, the last")


def test_a_search_is_reported_if_a_run_on_new_seeds_fails(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the default value diverges, which is a reason to search."""
    reported: list[str] = []
    monkeypatch.setattr("vicinal.report.search.finish", lambda folder: reported.append(record(tmp_path)["confirm"]))
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: reported.append(folder.name))
    (tmp_path / "my/optimizer").mkdir(parents=True)
    (tmp_path / "my/optimizer/wild.yaml").write_text("_target_: torch.optim.SGD\nlr: 1e30\nmomentum: 0.9\n")
    words = ["--config-dir", str(tmp_path / "my"), "hydra/sweeper=search", "optimizer.lr=0.05,0.1", *SMALL, "-m"]
    code, _, err = train(*words, "optimizer=wild", trials_of(1), "hydra.sweeper.confirm=1")
    assert (code, err) == (1, "error: 1 of 2 jobs failed; the reasons are in the table\n")
    [folder] = (tmp_path / "outputs/sweeps").glob("*-confirm")
    assert reported == [folder.name, folder.name]


def test_a_file_that_is_edited_while_a_search_runs_changes_none_of_its_trials(
    train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my/optimizer").mkdir(parents=True)
    file = tmp_path / "my/optimizer/edited.yaml"
    file.write_text("_target_: torch.optim.SGD\nlr: 0.1\nmomentum: 0.9\n")
    tell = SharedStudy.tell

    def edit(self: SharedStudy, *arguments: Any, **named: Any) -> None:
        tell(self, *arguments, **named)
        file.write_text(file.read_text().replace("0.9", "0.5"))

    monkeypatch.setattr(SharedStudy, "tell", edit)
    code, _, err = train("--config-dir", str(tmp_path / "my"), "optimizer=edited", *SEARCH, trials_of(3))
    assert (code, err) == (0, "")
    assert [result["config"]["optimizer"]["momentum"] for result in results(tmp_path).values()] == [0.9] * 3


def test_a_pruned_run_can_be_trained_to_its_end(train: Train, tmp_path: Path, unreported: None) -> None:
    """With the rows that it would have without the search."""
    words = [*SEARCH, "trainer.epochs=3", trials_of(5), "hydra.sweeper.pruner=asha"]
    code, printed, err = train(*words)
    assert (code, err) == (0, "")
    trials = record(tmp_path)["trials"]
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    first: dict[str, float] = {}
    for trial in trials:  # each against those before it: the first third is kept
        [run] = trial["runs"]
        [folder] = (tmp_path / "outputs/runs").glob(f"*-{run}")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        first[run] = rows[0]["val/acc1"]
        kept = sorted(first.values(), reverse=True)[: max(1, len(first) // 3)]
        assert (trial["state"] == "pruned") == (first[run] < kept[-1])
        assert len(rows) == (1 if trial["state"] == "pruned" else 3)
    trial = pruned[0]
    [folder] = (tmp_path / "outputs/runs").glob(f"*-{trial['runs'][0]}")
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["error"]) == ("stopped", "stopped at epoch 1 of 3 by asha")
    assert "stopped at epoch 1 of 3 by asha; a command without the search trains it to the end" in printed
    plain = [f"{key}={text}" for key, text in trial["values"].items()]
    code, printed, err = train(*plain, *SMALL, "trainer.epochs=3", "dry_run=true")
    assert (code, err) == (0, "")
    assert "stopped after 1 of 3 epochs" in printed
    code, printed, err = train(*plain, *SMALL, "trainer.epochs=3")
    assert (code, err) == (0, "")
    assert "going on in epoch 2 after step 0" in printed
    assert train(*plain, *SMALL, "trainer.epochs=3", "output_dir=whole")[0] == 0
    [whole] = (tmp_path / "whole/runs").iterdir()
    assert learned(folder) == learned(whole)


def test_runs_on_new_seeds_are_never_pruned(
    train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With asha they would be: each epoch that ends a rung is reached by five others."""
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)
    words = [*SEARCH, "trainer.epochs=3", trials_of(2), "hydra.sweeper.pruner=asha", "hydra.sweeper.confirm=3"]
    code, _, err = train(*words)
    assert (code, err) == (0, "")
    confirm = json.loads((tmp_path / "outputs/sweeps" / record(tmp_path)["confirm"] / "sweep.json").read_text())
    runs = results(tmp_path)
    assert [runs[run["run_id"]]["status"] for run in confirm["runs"]] == ["completed"] * 6


def learned(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "throughput")} for row in rows]


@pytest.mark.slow
def test_the_parallel_launcher_trains_a_batch_and_stops_runs(train: Train, tmp_path: Path, unreported: None) -> None:
    words = ["hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "hydra.sweeper.pruner=median", "trainer.epochs=2"]
    code, printed, err = train(*SEARCH, *words, trials_of(4))
    assert (code, err) == (0, "")
    assert "Launching 2 jobs, 2 at a time" in printed
    assert [trial["number"] for trial in record(tmp_path)["trials"]] == [0, 1, 2, 3]
    assert {trial["state"] for trial in record(tmp_path)["trials"]} <= {"completed", "pruned"}


def started(folder: Path, *words: str, out: str = "out") -> Forked:
    folder.mkdir(exist_ok=True)
    return Forked([*SEARCH, *words, "wandb.mode=disabled"], folder, folder / out)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_a_search_that_is_killed_at_five_random_moments_has_the_trials_of_another(size: int, tmp_path: Path) -> None:
    words = [trials_of(8), f"hydra.sweeper.at_a_time={size}", "trainer.epochs=2"]
    whole = tmp_path / "whole"
    assert started(whole, *words).wait(300) == 0
    draws, kills, searches = random.Random(size), 0, 0
    while True:
        killed = tmp_path / f"killed{searches}"
        process = started(killed, *words)
        moment = length(killed) + draws.uniform(0, length(whole) / 6)
        while process.poll() is None and (kills == 5 or length(killed) < moment):
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
        if process.wait(60) == -signal.SIGKILL:
            kills += 1
            continue
        # Its end, which a busy machine may bring before the moment: another search has the kills that are left.
        assert process.returncode == 0, (killed / "out").read_text()
        assert record(killed)["trials"] == record(whole)["trials"]
        assert results(killed).keys() == results(whole).keys()
        for run, result in results(killed).items():
            assert result["val"] == results(whole)[run]["val"]
        if kills == 5:
            break
        searches += 1


def length(folder: Path) -> int:
    """Bytes of the journal and of all epochs."""
    files = [*folder.glob(f"outputs/sweeps/*/{JOURNAL}"), *folder.glob("outputs/runs/*/metrics.jsonl")]
    return sum(file.stat().st_size for file in files if file.exists())


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    words = [trials_of(6), "trainer.epochs=3"]
    first, second = (started(tmp_path, *words, out=name) for name in ("one", "two"))
    assert (first.wait(300), second.wait(300)) == (0, 0)
    said = [re.findall(r"^trial (\d): mixup", (tmp_path / name).read_text(), re.MULTILINE) for name in ("one", "two")]
    assert sorted(said[0] + said[1]) == list("012345")  # each by one of them
    assert all(said)
    found = record(tmp_path)
    assert [trial["state"] for trial in found["trials"]] == ["completed"] * 6
    assert len(results(tmp_path)) == 6


@pytest.mark.slow
def test_a_signal_saves_the_run_and_says_how_far_the_search_is(tmp_path: Path) -> None:
    words = [trials_of(3), "trainer.epochs=30"]
    process = started(tmp_path, *words)
    while not list(tmp_path.glob("outputs/runs/*/metrics.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    said = (tmp_path / "out").read_text()
    assert re.search(r"interrupted: \d of 3 trials are completed; rerun the same command to resume", said)
    assert started(tmp_path, *words).wait(300) == 0
    assert [trial["state"] for trial in record(tmp_path)["trials"]] == ["completed"] * 3


def test_a_dry_run_shows_the_space_and_the_first_points_and_leaves_nothing(train: Train, tmp_path: Path) -> None:
    words = ["hydra.sweeper.at_a_time=2", "mixup=input,none"]
    code, printed, err = train(*SEARCH, *words, "dry_run=true")
    assert (code, err) == (0, "")
    assert "0.05 to 8, logarithmic" in printed
    assert "input, none" in printed
    assert "the largest val/acc1 of 24 trials by tpe, 2 at a time; 0 are done" in printed
    assert "2 of 2 runs are left" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_what_the_command_then_trains(train: Train, tmp_path: Path, unreported: None) -> None:
    """After what is known, and no more than is left of the trials."""
    assert train("mixup.alpha=0.2", *SMALL)[0] == 0
    words = [trials_of(2), "hydra.sweeper.at_a_time=3"]
    code, printed, err = train(*SEARCH, *words, "dry_run=true")
    assert (code, err) == (0, "")
    assert "2 of 2 runs are left" in printed
    assert train(*SEARCH, *words)[0] == 0
    warm, *trials = record(tmp_path)["trials"]
    assert warm["warm"]
    assert [trial["runs"][0].partition("-")[0] in printed for trial in trials] == [True, True]
    code, printed, err = train(*SEARCH, *words, "dry_run=true")
    assert (code, err) == (0, "")
    assert "next:" not in printed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dataset.val_size=0"], "dataset.val_size=0: a search chooses by validation; must be >= 1"),
        (["dataset.val_size=0,100"], "dataset.val_size=0: a search chooses by validation; must be >= 1"),
        (["hydra.sweeper.objective=test/acc1"], "hydra.sweeper.objective=test/acc1: the test set is never chosen by"),
        (["hydra.sweeper.objective=val/rmse"], "hydra.sweeper.objective=val/rmse: must be one of auto, val/acc1, "),
        (["hydra.sweeper.sampler=cmaes"], "hydra.sweeper.sampler=cmaes: must be one of tpe, random, gp"),
        (["hydra.sweeper.pruner=hyperband"], "hydra.sweeper.pruner=hyperband: must be one of null, asha, median"),
        (["hydra.sweeper.direction=up"], "hydra.sweeper.direction=up: must be one of auto, minimize, maximize"),
        (["hydra.sweeper.trials=0"], "hydra.sweeper.trials=0: must be an integer in [1, 10000]"),
        (["hydra.sweeper.at_a_time=0"], "hydra.sweeper.at_a_time=0: must be auto or an integer in [1, 10000]"),
        (["hydra.sweeper.warm_start=1"], "hydra.sweeper.warm_start=1: must be true or false"),
        (
            ["hydra.sweeper.pruner=asha", "hydra.sweeper.seeds=2"],
            "hydra.sweeper.seeds=2: must be 1 with hydra.sweeper.pruner=asha",
        ),
        (["hydra.sweeper.confirms=1"], "hydra.sweeper.confirms=1: no such key; did you mean confirm?"),
        (["seed=1,2"], "seed=1,2: a seed is not chosen by its score; hydra.sweeper.seeds trains each point on several"),
        (
            ["experiment=alpha_sweep"],
            "experiment=alpha_sweep: is a sweep itself; a search has its space on",
        ),
        (["seed=9223372036854775806"], "seed=9223372036854775808: must be an integer in [0, 9223372036854775807]"),
        (["experiment=alpha_sweep,strategies"], "experiment=alpha_sweep: this recipe is a sweep itself; run it alone"),
        (["optimizer.lr=interval(1,0.1)"], "optimizer.lr=interval(1,0.1): the low end must be below the high end"),
        (["mixup.alpha=interval(-1,2)"], "mixup.alpha=-1: must be a finite number in [0, "),
        (["trainer.batch_size=interval(8,64)"], "trainer.batch_size="),
        (["mixup=input,foo"], "mixup=foo: no such option; "),
        (["dataset.train_size=128,5000"], "dataset.train_size=5000: "),
        (
            ["mixup=none"],
            "mixup.alpha: has no effect with vicinal.mixing.NoMix, so there is nothing to choose; leave it",
        ),
        (["wandb.tags=[a],[b]"], "wandb.tags: changes the result of no run, so there is nothing to choose; leave it"),
        (["optimizer.lr=choice(0.1)"], "optimizer.lr: 0.1 is its only value, so there is nothing to choose; write opt"),
        (["busy=skip"], "busy=skip: must be wait: a search needs each result"),
        (["rerun=true"], "rerun=true: must be false: a search goes on; another hydra.sweeper.seed tries other points"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_no_search_can_have_is_one_line_before_anything_trains(
    words: list[str], line: str, train: Train, tmp_path: Path
) -> None:
    code, _, err = train(*SEARCH, "hydra.sweeper.confirm=2", *words)
    assert code == 1
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not (tmp_path / "outputs/runs").exists()
    assert not (tmp_path / "outputs/sweeps").exists()


def test_the_folder_of_another_search_is_refused(train: Train, unreported: None) -> None:
    assert train(*SEARCH, trials_of(1), "hydra.sweep.dir=mine")[0] == 0
    assert train(*SEARCH, trials_of(2), "hydra.sweep.dir=mine")[0] == 0
    code, _, err = train(*SEARCH, trials_of(2), "hydra.sweep.dir=mine", "hydra.sweeper.seed=1")
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("mine: is the folder of another search; hydra.sweep.dir needs one of its own\n")


def test_a_warning_of_a_hidden_file_is_one_line_of_a_search(train: Train, tmp_path: Path) -> None:
    (tmp_path / "my/mixup").mkdir(parents=True)
    (tmp_path / "my/mixup/input.yaml").write_text("_target_: not.read\n")
    code, printed, err = train("hydra.searchpath=[my]", *SEARCH, "dry_run=true")
    assert (code, err) == (0, "")
    assert printed.count("my/mixup/input.yaml is not used: ") == 1


@pytest.mark.parametrize("more", [(), ("dry_run=true",)])
def test_a_search_and_a_grid_do_not_share_a_folder(
    more: tuple[str, ...], train: Train, tmp_path: Path, unreported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)
    grid = ["mixup.alpha=0.2,0.4", *SMALL, "-m"]
    assert train(*grid, "hydra.sweep.dir=grid")[0] == 0
    assert train(*SEARCH, trials_of(1), "hydra.sweep.dir=search")[0] == 0
    files = {file: file.read_bytes() for name in ("grid", "search") for file in (tmp_path / name).glob("*.json")}
    code, _, err = train(*SEARCH, trials_of(1), "hydra.sweep.dir=grid", *more)
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("grid: is the folder of a sweep that is no search; hydra.sweep.dir needs one of its own\n")
    code, _, err = train(*grid, "hydra.sweep.dir=search", *more)
    assert (code, err.count("\n")) == (1, 1)
    assert err.endswith("search: is the folder of a search; hydra.sweep.dir needs one of its own\n")
    assert {
        file: file.read_bytes() for name in ("grid", "search") for file in (tmp_path / name).glob("*.json")
    } == files


def test_a_command_without_a_space_or_without_optuna_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = train("hydra/sweeper=search", *SMALL, "-m")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: hydra/sweeper=search: there is nothing to search; write mixup.alpha=")
    monkeypatch.setattr("vicinal.launch.search.find_spec", lambda name: None)
    code, _, err = train(*SEARCH)
    assert (code, err) == (1, "error: hydra/sweeper=search needs optuna: pip install -e '.[search]'\n")


def test_a_damaged_journal_is_one_line(train: Train, tmp_path: Path, unreported: None) -> None:
    assert train(*SEARCH, trials_of(1))[0] == 0
    [journal] = tmp_path.glob(f"outputs/sweeps/*/{JOURNAL}")
    journal.write_bytes(b"\0" * 50 + b"\n" + journal.read_bytes())
    code, _, err = train(*SEARCH, trials_of(2))
    assert (code, err.count("\n")) == (1, 1)
    assert f"{journal} is damaged (" in err
    journal.unlink()
    assert train(*SEARCH, trials_of(2))[0] == 0  # what is completed is known
    assert [trial["warm"] for trial in record(tmp_path)["trials"]] == [True, False, False]
