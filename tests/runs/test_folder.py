"""A run's folder: whole files or none, and nothing damaged is ever used."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.experiment import Experiment
from vicinal.job import run
from vicinal.runs.folder import RunFolder, write_json

Compose = Callable[..., Experiment]
QUICK = ("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "trainer.epochs=2", "trainer.precision=fp32")


def test_json_is_written_and_read(tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", {"status": "completed", "nested": {"acc1": 0.1}})
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": "completed", "nested": {"acc1": 0.1}}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("old", [None, '{"status": "failed"}'])
def test_a_write_that_is_cut_off_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str | None
) -> None:
    folder = RunFolder(tmp_path)
    if old is not None:
        folder.result.write_text(old)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(folder.result, {"status": "completed"})
    assert folder.read_result() == (None if old is None else json.loads(old))
    assert folder.completed() is None


@pytest.mark.parametrize(
    "content", [b"", b'{"status": "comp', b"[]", b"null", b'{"val": 1}', b"\xff\xfe\x00", b"\0" * 99]
)
def test_a_damaged_result_is_named_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    folder = RunFolder(tmp_path)
    folder.result.write_bytes(content)
    assert folder.completed() is None
    (message,) = caplog.messages
    assert message == f"{folder.result} is damaged; it is set aside as result.json.damaged and not used"
    assert not folder.result.exists()
    assert (tmp_path / "result.json.damaged").read_bytes() == content
    assert folder.completed() is None
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_only_completed_is_done(tmp_path: Path, status: str) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.result, {"status": status})
    assert folder.read_result() == {"status": status}
    assert folder.completed() is None


def test_a_completed_run_is_not_trained_again(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    experiment = compose(*QUICK)
    first = run(experiment)
    files = sorted(experiment.folder.path.iterdir())
    assert [file.name for file in files] == [
        "checkpoint.pt",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "train.log",
    ]
    before = {file: file.read_bytes() for file in files}
    caplog.clear()
    assert run(compose(*QUICK)) == first
    assert caplog.messages == [f"already completed: {experiment.folder.path} (rerun=true trains it again)"]
    assert {file: file.read_bytes() for file in sorted(experiment.folder.path.iterdir())} == before

    again = run(compose(*QUICK, "rerun=true"))
    assert again["test"] == first["test"]
    assert again["seconds"] != first["seconds"]
    assert len(experiment.folder.metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize("left", [b'{"status": "failed", "error": "killed"}', b'{"status": "compl', None])
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
    assert run(compose(*QUICK, "dry_run=true", "rerun=true")) == result
    assert caplog.messages == [f"{experiment.folder.path}: done"]
    assert {file: file.stat().st_mtime_ns for file in experiment.folder.path.iterdir()} == before


def test_a_bug_leaves_its_traceback_in_the_log(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = compose(*QUICK)

    def broken() -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(experiment, "load_data", broken)
    with pytest.raises(ZeroDivisionError):
        run(experiment)
    result = json.loads(experiment.folder.result.read_text())
    assert (result["status"], result["error"]) == ("failed", "ZeroDivisionError: a bug")
    assert experiment.folder.log.read_text().endswith("ZeroDivisionError: a bug\n")
    monkeypatch.undo()
    assert run(experiment)["status"] == "completed"  # a failed run is tried again


def test_an_interrupted_run_has_no_result(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = compose(*QUICK)

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "load_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    assert experiment.folder.read_result() is None


def test_the_log_is_let_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    handlers = list(logging.getLogger().handlers)

    def work() -> None:
        with folder.logging():
            logging.getLogger("vicinal.test").warning("told inside")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        work()
    logging.getLogger("vicinal.test").warning("told outside")
    assert logging.getLogger().handlers == handlers
    assert folder.log.read_text().endswith("WARNING vicinal.test: told inside\n")


def test_the_written_config_asks_for_the_same_run(compose: Compose) -> None:
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    experiment = compose(*QUICK, "mixup=manifold", "seed=3", "trainer.clip_grad_norm=2")
    run(experiment)
    written = OmegaConf.load(experiment.folder.config)
    assert isinstance(written, type(OmegaConf.create({})))
    own = OmegaConf.masked_copy(written, list(experiment.config))
    assert OmegaConf.to_container(own) == experiment.config
    with initialize_config_dir(str(experiment.folder.path), version_base="1.3"):
        cfg = compose_config("config", return_hydra_config=True)
    again = Experiment.composed(cfg)
    assert (again.run_id, again.folder.path, again.config) == (
        experiment.run_id,
        experiment.folder.path,
        experiment.config,
    )
