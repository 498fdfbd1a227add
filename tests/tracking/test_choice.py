"""The config group ``tracker``: one option, several, none, and one of the user's own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.errors import UserError
from vicinal.experiment import Experiment

Compose = Callable[..., Experiment]
Train = Callable[..., tuple[int, str, str]]
QUICK = ("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "trainer.epochs=2", "trainer.threads=1")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["wandb"]),
        (["tracker=csv"], ["csv"]),
        (["tracker=[csv]"], ["csv"]),
        (["tracker=[wandb,csv]"], ["wandb", "csv"]),
        (["tracker=none"], []),
        (["tracker=[]"], []),
        (["tracker=[wandb,csv]", "~tracker.wandb"], ["csv"]),
    ],
)
def test_options_are_chosen_alone_or_in_a_list(compose: Compose, words: list[str], names: list[str]) -> None:
    experiment = compose("wandb.mode=offline", *words)
    assert list(experiment.trackers) == names
    assert experiment.wandb.mode == ("offline" if "wandb" in names else "disabled")
    assert experiment.run_id == compose().run_id


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tracker=cvs"], "tracker=cvs: no such option; did you mean csv? allowed: csv, none, tensorboard, wandb"),
        (["tracker=[csv,1]"], "tracker=[csv,1]: must be the name of an option; --help lists them"),
        (["tracker=csv", "tracker.csv.x=1"], "tracker.csv.x=1: vicinal.tracking.csv_file.CsvFile has no such argument"),
        (
            ["tracker=csv", "tracker.slack.x=1"],
            "tracker.slack={x:1}: is no tracker: it has no _target_; tracker=[...,slack] chooses an option",
        ),
        (["+tracker.x=1"], "tracker.x=1: is no tracker: it has no _target_; tracker=[...,x] chooses an option"),
        (
            ["tracker=csv", "tracker.csv._target_=vicinal.mixing.NoMix"],
            "tracker.csv._target_=vicinal.mixing.NoMix: must be a subclass of Tracker",
        ),
        (["mixup=[input,none]"], "mixup=[...]: must be one option; several, without brackets, are a sweep (-m)"),
    ],
)
@pytest.mark.parametrize("flag", ["", "-m"])
def test_a_mistake_is_one_line(train: Train, tmp_path: Path, words: list[str], line: str, flag: str) -> None:
    code, out, err = train(*QUICK, *words, *filter(None, [flag]))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_missing_package_is_one_line_before_the_training(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vicinal.tracking.tensorboard.find_spec", lambda name: None)
    code, _, err = train(*QUICK, "tracker=[csv,tensorboard]")
    line = "tracker=tensorboard: needs the package tensorboard; pip install 'vicinal[tensorboard]'"
    assert (code, err) == (1, f"error: {line}\n")
    assert not (tmp_path / "outputs").exists()


OWN = """
from vicinal.tracking.tracker import Tracker

class Diary(Tracker):
    def __init__(self, file: str, broken: bool = False) -> None:
        if not file.endswith(".txt"):
            raise ValueError("file: must end with .txt")
        self.file, self.broken = file, broken

    def start(self, info):
        self.path = info.folder / self.file

    def epoch(self, row):
        with self.path.open("a") as lines:
            lines.write(f"{row['epoch']}\\n")
        if self.broken:
            raise ConnectionError("no such server")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One class and one YAML file outside the package."""
    (tmp_path / "my/tracker").mkdir(parents=True)
    (tmp_path / "my/tracker/diary.yaml").write_text("diary:\n  _target_: own_diary.Diary\n  file: diary.txt\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/own_diary.py").write_text(OWN)
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "own_diary", raising=False)


@pytest.mark.parametrize("words", [("seed=1",), ("seed=1,2", "-m")])
def test_a_tracker_of_the_users_own_in_a_list(train: Train, own: None, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, _, err = train("--config-dir", "my", "tracker=[diary,csv]", *QUICK, *words)
    assert (code, err) == (0, "")
    folders = list(tmp_path.glob("outputs/runs/*"))
    assert len(folders) == (2 if "-m" in words else 1)
    for folder in folders:
        assert (folder / "diary.txt").read_text() == "1\n2\n"
        assert len((folder / "metrics.csv").read_text().splitlines()) == 3
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        assert list(result["config"]["tracker"]) == ["diary", "csv"]
        assert (result["wandb"]["mode"], result["wandb"]["id"]) == ("disabled", None)


def test_a_tracker_of_the_users_own_checks_its_keys_before_the_training(
    train: Train, own: None, tmp_path: Path
) -> None:
    code, _, err = train("--config-dir", "my", "tracker=diary", "tracker.diary.file=x", *QUICK)
    assert (code, err) == (1, "error: tracker.diary.file=x: must end with .txt\n")
    assert not (tmp_path / "outputs").exists()


def test_a_tracker_that_fails_does_not_stop_the_training(train: Train, own: None, tmp_path: Path) -> None:
    code, out, err = train("--config-dir", "my", "tracker=diary", "tracker.diary.broken=true", *QUICK)
    assert (code, err) == (0, "")
    line = "tracker.diary failed, the run goes on without it: ConnectionError: no such server\n"
    assert out.count(line) == 1
    (folder,) = tmp_path.glob("outputs/runs/*")
    assert (folder / "diary.txt").read_text() == "1\n"
    assert line in (folder / "train.log").read_text()
    assert json.loads((folder / "result.json").read_text())["status"] == "completed"


def test_the_stored_config_has_the_trackers(compose: Compose) -> None:
    from vicinal.jobs.provenance import config_file

    text = config_file(compose("tracker=[wandb,csv]")).decode()
    assert "tracker:\n  wandb:\n    _target_: vicinal.tracking.wandb.tracker.WandbTracker\n  csv:\n" in text


def test_a_target_that_cannot_be_imported_is_one_line(compose: Compose) -> None:
    with pytest.raises(
        UserError, match=r"tracker\.own\._target_=no_such\.Thing: must be the path of a class or function"
    ):
        compose("+tracker.own._target_=no_such.Thing")


def test_a_tracker_that_is_chosen_after_the_run_is_named_and_writes_nothing(train: Train, tmp_path: Path) -> None:
    assert train(*QUICK, "tracker=none")[0] == 0
    code, out, err = train(*QUICK, "tracker=[csv]")
    assert (code, err) == (0, "")
    assert "made without tracker=csv, which gets nothing of it; rerun=true trains again\n" in out
    assert list(tmp_path.glob("outputs/runs/*/metrics.csv")) == []
    code, out, _ = train(*QUICK, "tracker=none")
    assert (code, "made without" in out) == (0, False)
