"""A run's folder: whole files or none, and nothing damaged is ever used."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.analysis import records
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.jobs.stored_config import stored_config
from vicinal.runs.files import write_json
from vicinal.runs.folder import RunFolder
from vicinal.runs.train_log import logged_to

from ..outcome import RESULT

Compose = Callable[..., Experiment]
QUICK = ("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "trainer.epochs=2", "trainer.precision=fp32")


def test_json_is_written_and_read(tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", {"status": "completed", "nested": {"acc1": 0.1}})
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": "completed", "nested": {"acc1": 0.1}}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_write_that_is_cut_off_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"status": "old"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, {"status": "new"})
    assert json.loads(file.read_text()) == {"status": "old"}
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "it is empty"),
        (b'{"status": "comp', "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'{"status": "completed"}', "its checksum is wrong"),
        (b"\xff\xfe\x00", "it is not JSON"),
        (b"\0" * 99, "it is not JSON"),
    ],
)
def test_a_damaged_result_is_named_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, damage: str
) -> None:
    folder = RunFolder(tmp_path)
    folder.result.write_bytes(content)
    assert folder.completed() is None
    (message,) = caplog.messages
    assert message == f"{folder.result} is damaged: {damage}; the run does not count as completed"
    assert folder.result.read_bytes() == content  # to read is not to change
    assert folder.completed() is None
    assert len(caplog.messages) == 1
    folder.inspect()
    assert caplog.messages[1:] == [
        f"{folder.result} is damaged: {damage}; it is set aside as result.json.damaged, "
        "the run does not count as completed"
    ]
    assert not folder.result.exists()
    assert (tmp_path / "result.json.damaged").read_bytes() == content


COMPLETED = {**RESULT, "status": "completed"}


def complete(path: Path) -> RunFolder:
    folder = RunFolder(path)
    for file in (folder.config, folder.environment, folder.checkpoint):
        file.write_text(file.name)
    folder.metrics.write_text('{"epoch": 1}\n{"epoch": 2}\n')
    folder.previous.write_text("an earlier checkpoint")
    folder.predictions.write_text("predictions")
    folder.complete(RESULT)
    return folder


def test_a_result_seals_the_files_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = complete(tmp_path)
    assert folder.completed() == COMPLETED
    assert folder.damage() == []
    assert folder.rows() == [{"epoch": 1}, {"epoch": 2}]
    assert not folder.previous.exists()
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ["config.yaml", "environment.json", "metrics.jsonl", "checkpoint.pt", "predictions.npz", "result.json"]
    assert check.stdout.splitlines() == [f"{name}: OK" for name in names]

    folder.metrics.write_text('{"epoch": 1}\n{"epoch": 3}\n')
    folder.config.unlink()
    assert folder.damage() == [
        f"{folder.config} is missing",
        f"{folder.metrics} is damaged: its checksum is not the one in SHA256SUMS",
    ]
    assert folder.rows() == []
    assert caplog.messages == [f"{folder.metrics} is damaged; its curves are not used"]
    assert folder.completed() == COMPLETED  # itself it is whole


def test_one_changed_digit_of_a_result_is_found(tmp_path: Path) -> None:
    folder = complete(tmp_path)
    folder.result.write_text(folder.result.read_text().replace("0.5", "0.6"))
    assert folder.completed() is None


@pytest.mark.parametrize("left", [None, "", "0\n"])
def test_without_the_checksums_of_the_others_a_result_is_believed(tmp_path: Path, left: str | None) -> None:
    folder = complete(tmp_path)
    folder.sums.unlink()
    if left is not None:
        folder.sums.write_text(left)
    assert folder.completed() == COMPLETED
    assert folder.damage() == [f"{folder.sums} is missing or damaged: the files beside the result cannot be checked"]


def test_rows_of_a_run_under_way_may_end_in_half_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    assert folder.rows() == []
    folder.metrics.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert folder.rows() == [{"epoch": 1}, {"epoch": 2}]
    assert caplog.messages == []
    folder.metrics.write_text('{"epoch": 1}\n{"epo\n')
    assert folder.rows() == []
    assert caplog.messages == [f"{folder.metrics} is damaged; its curves are not used"]


def test_a_failed_run_is_not_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.fail({"run_id": "c0ffee-s0"}, "no data")
    assert folder.read_result() == {"run_id": "c0ffee-s0", "status": "failed", "error": "no data"}
    assert folder.completed() is None


def test_a_run_that_a_search_has_stopped_is_not_done_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "r-c0ffee0000-s0"
    path.mkdir()
    RunFolder(path).stop({"run_id": "c0ffee0000-s0"}, "stopped at epoch 1 of 3 by asha")
    assert RunFolder(path).completed() is None
    read = records.read(path)
    assert (read.status, read.error) == ("stopped", "stopped at epoch 1 of 3 by asha")


def test_a_completed_run_is_not_trained_again(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    experiment = compose(*QUICK)
    first = run(experiment)
    files = sorted(experiment.folder.path.iterdir())
    assert [file.name for file in files] == [
        ".lock",
        "SHA256SUMS",
        "checkpoint.pt",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "mixed.png",
        "predictions.npz",
        "result.json",
        "train.log",
    ]
    before = {file: file.read_bytes() for file in files}
    caplog.clear()
    experiment.folder.previous.write_bytes(b"of a process that was killed right after the done mark")
    assert run(compose(*QUICK)) == first
    assert caplog.messages == [f"already completed: {experiment.folder.path} (rerun=true trains it again)"]
    assert {file: file.read_bytes() for file in sorted(experiment.folder.path.iterdir())} == before

    again = run(compose(*QUICK, "rerun=true"))
    assert again["test"] == first["test"]
    assert again["seconds"] != first["seconds"]
    assert len(experiment.folder.metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize("left", [b'{"status": "compl', None])
def test_what_an_unfinished_try_left_belongs_to_no_result(compose: Compose, left: bytes | None) -> None:
    experiment = compose(*QUICK)
    folder = experiment.folder
    folder.path.mkdir(parents=True)
    folder.metrics.write_text('{"epoch": 1}\n')
    (folder.path / "old").mkdir()
    if left is not None:
        folder.result.write_bytes(left)
    assert run(experiment)["status"] == "completed"
    assert [json.loads(line)["epoch"] for line in folder.metrics.read_text().splitlines()] == [1, 2]
    assert not (folder.path / "old").exists()
    damaged = folder.path / "result.json.damaged"
    assert (damaged.read_bytes() if damaged.exists() else None) == (left if left and b"compl" in left else None)


def test_dry_run_writes_nothing(compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    experiment = compose(*QUICK, "dry_run=true")
    assert run(experiment) == {}
    assert not (tmp_path / "outputs").exists()
    assert caplog.messages == [f"{experiment.folder.path}: new"]
    result = run(compose(*QUICK))
    before = {file: file.stat().st_mtime_ns for file in experiment.folder.path.iterdir()}
    caplog.clear()
    assert run(compose(*QUICK, "dry_run=true")) == result
    assert run(compose(*QUICK, "dry_run=true", "rerun=true")) == result
    done, again = caplog.messages
    assert done == f"{experiment.folder.path}: done"
    assert again.startswith(f"{experiment.folder.path}: done, trained again, about ")
    assert {file: file.stat().st_mtime_ns for file in experiment.folder.path.iterdir()} == before


def test_a_bug_leaves_its_traceback_in_the_log(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = compose(*QUICK)

    def broken(*_: object) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("vicinal.jobs.session.make_loaders", broken)
    with pytest.raises(ZeroDivisionError):
        run(experiment)
    result = json.loads(experiment.folder.result.read_text())
    assert (result["status"], result["error"]) == ("failed", "ZeroDivisionError: a bug")
    assert experiment.folder.log.read_text().endswith("ZeroDivisionError: a bug\n")
    monkeypatch.undo()
    assert run(experiment)["status"] == "completed"  # a failed run is tried again


def test_an_interrupted_run_has_no_result(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = compose(*QUICK)

    def interrupted(experiment: Experiment) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("vicinal.build.load_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    assert experiment.folder.read_result() is None


def test_the_log_is_let_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    handlers = list(logging.getLogger().handlers)

    def work() -> None:
        with logged_to(folder.log):
            logging.getLogger("vicinal.test").warning("told inside")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        work()
    logging.getLogger("vicinal.test").warning("told outside")
    assert logging.getLogger().handlers == handlers
    assert folder.log.read_text().endswith("WARNING vicinal.test: told inside\n")


def test_the_written_config_asks_for_the_same_run(compose: Compose) -> None:
    from omegaconf import OmegaConf

    experiment = compose(*QUICK, "mixup=manifold", "seed=3", "trainer.clip_grad_norm=2")
    run(experiment)
    assert OmegaConf.to_container(OmegaConf.load(experiment.folder.config)) == experiment.request()
    again = Experiment.composed(stored_config(experiment.folder.config))
    assert (again.run_id, again.folder.path, again.config) == (
        experiment.run_id,
        experiment.folder.path,
        experiment.config,
    )


CRASH = """
import faulthandler, pathlib, sys
from vicinal.runs.train_log import logged_to
with logged_to(pathlib.Path(sys.argv[1])):
    def crash_in_here():
        faulthandler._sigsegv()
    crash_in_here()
"""


def test_a_crash_leaves_in_the_log_where_it_was(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "train.log")], capture_output=True, text=True)
    assert done.returncode < 0
    said = RunFolder(tmp_path).log.read_text()
    assert said.startswith("Fatal Python error: Segmentation fault\n")
    assert "in crash_in_here" in said


def test_the_log_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious\n")
    os.link(tmp_path / "precious", tmp_path / "train.log")
    with logged_to(tmp_path / "train.log"):
        logging.getLogger("vicinal.test").warning("told inside")
    assert (tmp_path / "precious").read_text() == "precious\n"
    assert (tmp_path / "train.log").read_text().endswith("WARNING vicinal.test: told inside\n")


def test_predictions_and_pictures_are_sealed_too(tmp_path: Path) -> None:
    folder = complete(tmp_path)
    folder.predictions.write_text("those of another run")
    assert folder.damage() == [f"{folder.predictions} is damaged: its checksum is not the one in SHA256SUMS"]
    folder.predictions.write_text("predictions")
    folder.mixed.write_text("a picture that was not there")
    assert folder.damage() == [f"{folder.mixed} is damaged: its checksum is not the one in SHA256SUMS"]


def test_older_results_have_fewer_files_sealed(tmp_path: Path) -> None:
    folder = complete(tmp_path)
    kept = [line for line in folder.sums.read_text().splitlines(keepends=True) if "predictions" not in line]
    folder.sums.write_text("".join(kept))
    folder.mixed.write_text("a picture")
    assert folder.damage() == []
