"""A completed run again: "bit-identical", or the first place where the two part, and why."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.analysis.records import RUN_NAME
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.bitwise_diff import metrics, scores, weights
from vicinal.jobs.reproduce import Reproduction, reproduce
from vicinal.jobs.run import run
from vicinal.runs import checkpoint
from vicinal.runs.folder import RunFolder
from vicinal.training.learner import Learner

from .. import forked

Compose = Callable[..., Experiment]

SCRIPT = Path(__file__).parents[2] / "scripts/reproduce.py"
QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "dataset.val_size=50", "trainer.batch_size=32"),
    *("trainer.epochs=3", "trainer.precision=fp32", "trainer.threads=1"),
)
SAME = " (no recorded version or hardware differs)"


@pytest.fixture
def folder(compose: Compose) -> RunFolder:
    """A completed run."""
    experiment = compose(*QUICK)
    run(experiment)
    return experiment.folder


def seal(folder: RunFolder, **changes: Any) -> None:
    """Make what was altered look as if it had been written so."""
    folder.complete((folder.completed() or {}) | changes)


def alter(folder: RunFolder, file: Path, content: bytes) -> None:
    result = folder.completed() or {}
    file.write_bytes(content)
    folder.complete(result)


@pytest.mark.slow
def test_the_script_says_bit_identical(compose: Compose) -> None:
    hard = ("model=cnn", "mixup=manifold", "trainer.ema_decay=0.9", "trainer.precision=bf16")
    experiment = compose(*hard, *QUICK[2:5], "trainer.epochs=2", "trainer.threads=1", "wandb.mode=offline")
    experiment.trackers.clear()  # W&B is asked for, but is not what this test is about
    run(experiment)
    path = experiment.folder.path
    before = {file: file.read_bytes() for file in path.iterdir()}
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "bit-identical"
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    again = RunFolder(path.parents[1] / "reproductions" / f"{path.name}-again")
    result, repeated = experiment.folder.completed() or {}, again.completed() or {}
    assert (repeated["test"], repeated["run_id"]) == (result["test"], result["run_id"])
    assert (repeated["wandb"]["mode"], repeated["wandb"]["id"]) == ("disabled", None)
    assert again.damage() == []
    assert not (again.path / "wandb").exists()


def test_a_repetition_of_a_repetition(folder: RunFolder) -> None:
    found = reproduce(folder.path)
    assert (found.verdict(), found.identical, found.notes, found.differences) == ("bit-identical", True, [], [])
    assert [(part.name, part.extent) for part in found.parts] == [
        ("metrics", "3 epochs, 85 values"),
        ("weights", "4 tensors, 610 values"),
        ("best weights", "4 tensors, 610 values"),
        ("scores", "26 values"),
    ]
    assert not RUN_NAME.match(found.now.path.name)  # a report on the whole output folder counts no run twice
    second = reproduce(folder.path)
    assert second.now.path.name == f"{folder.path.name}-again2"
    third = reproduce(second.now.path)
    assert third.now.path.name == f"{folder.path.name}-again2-again"
    assert third.identical


def test_one_digit_of_one_metric(folder: RunFolder) -> None:
    rows = folder.rows()
    real = rows[1]["train/loss"]
    rows[1]["train/loss"] = math.nextafter(real, 0)
    rows[2]["lr"] = 7
    rows[0]["seconds"] = 1e6  # time is no difference
    alter(folder, folder.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())
    found = reproduce(folder.path)
    assert not found.identical
    assert found.verdict() == f"epoch 2: train/loss {rows[1]['train/loss']} != {real}{SAME}"
    assert [part.identical for part in found.parts] == [False, True, True, True]


def test_rows_that_are_more_or_lack_something() -> None:
    rows = [{"epoch": 1, "lr": 0.1}, {"epoch": 2, "lr": 0.0}]
    assert metrics(rows, rows).identical
    assert metrics(rows, rows[:1]).parting == "metrics: 2 epochs != 1"
    assert metrics([{"epoch": 1}], rows[:1]).parting == "epoch 1: lr nothing != 0.1"
    assert metrics(rows, [rows[0], {"epoch": 2, "lr": -0.0}]).parting == "epoch 2: lr 0.0 != -0.0"


@pytest.mark.parametrize("part", ["model", "best_model"])
def test_some_bits_of_some_weights(folder: RunFolder, part: str) -> None:
    content = checkpoint.load(folder.checkpoint)
    name = next(name for name, value in content[part].items() if value.ndim == 2)
    changed = content[part][name].clone()
    changed.view(-1)[5:8] += torch.tensor([0.5, 0.25, 0.25])
    content[part][name] = changed
    result = folder.completed() or {}
    checkpoint.save(folder.checkpoint, content)
    folder.complete(result)
    found = reproduce(folder.path)
    which = {"model": "weights", "best_model": "best weights"}[part]
    assert found.verdict() == f"{which}: {name}, 3 of 512 values, largest difference 0.5{SAME}"
    assert [each.name for each in found.parts if not each.identical] == [which]


def test_weights_are_compared_by_their_bits() -> None:
    zero = {"bias": torch.zeros(3), "count": torch.tensor(3)}
    assert weights("weights", zero, {name: value.clone() for name, value in zero.items()}).identical
    nan = {"bias": torch.full((3,), torch.nan)}
    assert weights("weights", nan, {"bias": nan["bias"].clone()}).identical
    negative = {"bias": torch.tensor([0.0, -0.0, 0.0]), "count": torch.tensor(3)}
    assert weights("weights", zero, negative).parting == "weights: bias, 1 of 3 values, largest difference 0"
    other = {"bias": torch.zeros(3), "count": torch.tensor(4)}
    assert weights("weights", zero, other).parting == "weights: count, 1 of 1 values, largest difference 1"
    less = {"bias": torch.zeros(3)}
    assert weights("weights", zero, less).parting == "weights: only the original has count"
    assert weights("weights", less, zero).parting == "weights: only the reproduction has count"
    half = {"bias": torch.zeros(3, 1, dtype=torch.bfloat16)}
    assert weights("weights", less, half).parting == "weights: bias, float32 (3,) != bfloat16 (3, 1)"


def test_weights_of_any_layout_in_memory_are_compared() -> None:
    """Convolutions of one pixel in channels_last count as contiguous, whatever their strides."""
    for shape in ((4, 4, 1, 1), (8, 1, 1, 1), (1, 8, 1, 1), (4, 3, 3, 3), (0, 3, 1, 1), (1, 1, 1, 1)):
        plain = torch.randn(shape)
        for other in (plain.to(memory_format=torch.channels_last), plain.mT.contiguous().mT, plain[:, :, ::1, ::1]):
            assert weights("weights", {"w": plain}, {"w": other}).identical
        if plain.numel():
            nudged = plain.to(memory_format=torch.channels_last).clone()
            nudged[0, 0, 0, 0] = math.inf
            found = weights("weights", {"w": plain}, {"w": nudged}).parting
            assert found == f"weights: w, 1 of {plain.numel()} values, largest difference inf"


def test_a_score_and_a_torch_version(folder: RunFolder) -> None:
    result = folder.completed() or {}
    real = result["test"]["last"]["nll"]
    result["test"]["last"]["nll"] = 1.0
    seal(folder, test=result["test"], versions={**result["versions"], "torch": "2.0.0"})
    found = reproduce(folder.path)
    here = result["versions"]["torch"]
    assert found.verdict() == f"scores: test/last/nll 1.0 != {real} (torch 2.0.0, now {here})"
    assert found.differences == [("torch", "2.0.0", here)]


def test_auto_is_what_the_original_had(compose: Compose) -> None:
    experiment = compose(*QUICK, "trainer.threads=auto", "trainer.precision=auto")
    run(experiment)
    folder = experiment.folder
    seal(folder, hardware={"device": "cpu", "device_name": "other", "precision": "bf16", "threads": 3})
    found = reproduce(folder.path)
    repeated = found.now.completed() or {}
    assert [repeated["hardware"][name] for name in ("precision", "threads")] == ["bf16", 3]
    assert repeated["run_id"] == experiment.run_id  # it is the same request
    assert [name for name, _, _ in found.differences] == ["device_name"]
    found = reproduce(folder.path, overrides=["trainer.threads=2"])
    assert (found.now.completed() or {})["hardware"]["threads"] == 2
    assert ("threads", "3", "2") in found.differences
    assert "trainer.threads: auto then, 2 now" in found.notes


def test_hardware_that_is_not_here(compose: Compose) -> None:
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    experiment = compose(*QUICK, "trainer.device=auto", "trainer.precision=auto")
    run(experiment)
    seal(experiment.folder, hardware={"device": absent, "device_name": "a GPU", "precision": "fp64", "threads": 1})
    found = reproduce(experiment.folder.path)
    assert found.notes[:2] == [
        f"it was made with device {absent}, which this machine does not have",
        "it was made with precision fp64, which this machine does not have",
    ]
    assert ("device", absent, (found.now.completed() or {})["hardware"]["device"]) in found.differences


def test_an_interrupted_original(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = compose(*QUICK)
    original = Learner.step

    def step(self: Learner, *arguments: Any) -> Any:
        monkeypatch.setattr(Learner, "step", original)
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(SystemExit):
        run(experiment)
    with pytest.raises(UserError, match=r"the run is not completed; train\.py resumes it"):
        reproduce(experiment.folder.path)
    run(experiment)
    found = reproduce(experiment.folder.path)
    assert found.identical
    assert found.notes == ["the original was interrupted and continued, 1 time"]
    seal(experiment.folder, changed=["threads 2, then 1"])
    assert reproduce(experiment.folder.path).notes[1:] == [
        "the original was not continued as it was begun: threads 2, then 1"
    ]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_what_is_damaged_is_left_out(folder: RunFolder, damage: str) -> None:
    lost = {folder.metrics: "metrics", folder.checkpoint: "weights", folder.environment: None, folder.config: None}
    for file, part in lost.items():
        whole = file.read_bytes()
        if damage == "missing":
            file.unlink()
            line = f"{file} is missing"
        else:
            file.write_bytes(whole[: len(whole) // 2])
            line = f"{file} is damaged: its checksum is not the one in SHA256SUMS"
        if file == folder.config:
            with pytest.raises(UserError) as error:
                reproduce(folder.path)
            assert str(error.value) == f"{line}; it is needed to run the config again"
        else:
            found = reproduce(folder.path)
            assert [each.missing for each in found.parts if each.missing] == ([line] if part else [])
            assert found.notes == ([] if part else [line])
            assert found.identical is (part is None)
            expected = f"identical as far as it can be compared; without: {part}" if part else "bit-identical"
            assert found.verdict() == expected
        file.write_bytes(whole)


def test_nothing_to_compare_with(folder: RunFolder, compose: Compose, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(UserError) as error:
            reproduce(path)
        return str(error.value).removeprefix(f"{path}: ")

    assert refusal(tmp_path / "nowhere") == "there is no such folder"
    assert refusal(folder.path.parent) == "this is not the folder of a run: it has no result.json"
    folder.result.write_bytes(b"")
    for _ in range(2):  # it is set aside the first time
        assert refusal(folder.path) == "result.json is damaged, so there is nothing to compare with"
    failed = compose(*QUICK, "optimizer.lr=1e30")
    with pytest.raises(UserError):
        run(failed)
    assert refusal(failed.folder.path).startswith("the run failed: the loss is not finite since step")
    assert not (tmp_path / "outputs/reproductions").exists()


def test_a_folder_that_was_moved(folder: RunFolder, tmp_path: Path) -> None:
    archive = tmp_path / "archive, of 2026" / folder.path.name
    archive.parent.mkdir()
    shutil.move(folder.path, archive)
    shutil.rmtree(tmp_path / "outputs")
    found = reproduce(archive)
    assert found.identical
    assert found.now.path == archive.parent / "reproductions" / f"{archive.name}-again"
    assert not (tmp_path / "outputs").exists()
    found = reproduce(archive, output=tmp_path / "deep/er")
    assert (found.identical, found.now.path) == (True, tmp_path / "deep/er")
    with pytest.raises(UserError, match="is there already; it must be a new folder"):
        reproduce(archive, output=tmp_path / "deep/er")


def test_a_key_that_the_code_no_longer_has(folder: RunFolder) -> None:
    text = folder.config.read_text().replace("  epochs: 3\n", "  epochs: 3\n  magic: 1\n")
    alter(folder, folder.config, text.encode())
    with pytest.raises(UserError) as error:
        reproduce(folder.path)
    assert str(error.value).startswith(f"{folder.config}: trainer.magic: no such key; ")


def test_a_key_that_the_code_did_not_have(folder: RunFolder) -> None:
    result = folder.completed() or {}
    del result["config"]["trainer"]["ema_decay"]
    folder.config.write_text(folder.config.read_text().replace("  ema_decay: null\n", ""))
    folder.complete(result)
    found = reproduce(folder.path)
    assert found.identical
    assert found.notes == ["trainer.ema_decay=null: a key that the original's code did not have"]


def test_another_request_is_said(folder: RunFolder) -> None:
    found = reproduce(folder.path, overrides=["mixup.alpha=0.9", "trainer.log_every=7"])
    assert found.notes == ["mixup.alpha: 0.2 then, 0.9 now"]
    assert found.verdict().startswith("epoch 1: train/loss ")
    assert found.verdict().endswith(" (mixup.alpha: 0.2 then, 0.9 now)")


def test_unlike_runs_on_a_gpu_need_no_reason() -> None:
    then, now = RunFolder(Path("a")), RunFolder(Path("b"))
    parted = Reproduction(then, now, [metrics([{"lr": 1}], [{"lr": 2}])], [("git commit", "a", "b")], [], [])
    assert parted.verdict() == f"epoch 1: lr 1 != 2{SAME}"  # a commit alone changes no bit: the source has a hash


@pytest.mark.slow
def test_the_script_says_what_is_wrong_in_one_line(folder: RunFolder, tmp_path: Path) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        done = forked.run([*map(str, words)], program=SCRIPT)
        return done.returncode, done.stdout, done.stderr

    code, out, err = call(tmp_path / "nowhere")
    assert (code, out, err) == (1, "", f"error: {tmp_path / 'nowhere'}: there is no such folder\n")
    code, out, err = call()
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: the following arguments are required: RUN_FOLDER")
    code, out, err = call("--help")
    assert code == 0
    assert "RUN_FOLDER" in out
    rows = folder.rows()
    real, rows[0]["lr"] = rows[0]["lr"], 0.5
    alter(folder, folder.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())
    code, out, err = call(folder.path, "--output", tmp_path / "again", "dataset.root=elsewhere")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1].startswith(f"epoch 1: lr 0.5 != {real} (")
    code, out, err = call(folder.path, "trainer.device=tpu")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: trainer.device=tpu: must be ")


def test_what_a_later_version_has_added_is_named_and_no_difference() -> None:
    old, new = [{"epoch": 1, "val/acc1": 0.5}], [{"epoch": 1, "val/acc1": 0.5, "val/brier": 0.2}]
    part = metrics(old, new)
    assert part.identical
    assert part.extent == "1 epochs, 2 values, without val/brier, which the original does not have"
    assert metrics(new, old).parting == "epoch 1: val/brier 0.2 != nothing"
    both = scores({"test": {"last": {"acc1": 0.5}}}, {"test": {"last": {"acc1": 0.5, "brier": 0.2}}})
    assert both.identical
    assert "without test/last/brier, which" in both.extent
