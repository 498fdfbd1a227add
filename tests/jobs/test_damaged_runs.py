"""A run's folder is damaged at random, then asked for again: never a traceback, never a wrong number, all is named."""

import itertools
import json
import logging
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vicinal import build
from vicinal.config.error_messages import explain, is_mistake
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs import checkpoint
from vicinal.runs.files import sha256
from vicinal.runs.folder import RunFolder, say
from vicinal.tracking.run_files import TIME_FIELDS
from vicinal.training.learner import Learner

Compose = Callable[..., Experiment]
Corruption = Callable[[Path, Path, random.Random], None]

QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "dataset.val_size=50", "trainer.batch_size=32"),
    *("trainer.epochs=3", "trainer.precision=fp32", "trainer.threads=1"),
)
FILES = (
    *("config.yaml", "environment.json", "metrics.jsonl", "result.json", "checkpoint.pt", "checkpoint.previous.pt"),
    *("SHA256SUMS", ".lock", "train.log"),
)
VIEWS = ("predictions.npz", "mixed.png")
"""Of a completed run; before the last epoch nobody reads what looks like them."""


ABSENT = {
    ("completed", "checkpoint.previous.pt"): "there is none beside a result, and what looks like one is not read",
    ("partial", "SHA256SUMS"): "there is none without a result, and what looks like one is not read",
}


def flip(file: Path, other: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    place = chance.randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    file.write_bytes(data)


def truncate(file: Path, other: Path, chance: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: chance.randrange(len(data))])


def empty(file: Path, other: Path, chance: random.Random) -> None:
    file.write_bytes(b"")


def delete(file: Path, other: Path, chance: random.Random) -> None:
    file.unlink()


def noise(file: Path, other: Path, chance: random.Random) -> None:
    file.write_bytes(chance.randbytes(chance.randrange(1, 3000)))


def half_a_line_twice(file: Path, other: Path, chance: random.Random) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    place = chance.randrange(len(lines))
    lines.insert(place, lines[place][: max(1, len(lines[place]) // 2)])
    file.write_bytes(b"".join(lines))


def swap(file: Path, other: Path, chance: random.Random) -> None:
    shutil.copy2(other, file)


def folder(file: Path, other: Path, chance: random.Random) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()
    (file / "inside").touch()


def zeros(file: Path, other: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    start = chance.randrange(len(data))
    data[start : start + 512] = bytes(min(512, len(data) - start))
    file.write_bytes(data)


def link(file: Path, other: Path, chance: random.Random) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(other)


def pipe(file: Path, other: Path, chance: random.Random) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


CORRUPTIONS = (flip, truncate, empty, delete, noise, half_a_line_twice, swap, folder, zeros, link, pipe)


def unread(state: str, file: Path, before: bytes | None) -> str:
    """Why a damage need not be named; "" if it must be. These are all the exceptions that there are."""
    now = file.read_bytes() if file.is_file() else None
    if now == before:
        return "the bytes are the same"
    if before is None and (state, file.name) in ABSENT:
        return ABSENT[state, file.name]
    if file.name == ".lock" and (state == "completed" or not file.is_dir()):
        return "it is locked, not read"
    if file.name == "train.log" and (state == "completed" or not file.is_dir()):
        return "it is for people, and only written"
    if file.name == "checkpoint.previous.pt" and not file.is_dir():
        return "the checkpoint after it is whole"
    if file.name == "SHA256SUMS" and before and now is not None and now.split(b"\n")[:7] == before.split(b"\n")[:7]:
        return "all that is lost is the end of the last line"
    if state == "partial" and file.name == "environment.json" and now is not None and same_json(now, before):
        return "it says the same"
    return ""


def same_json(one: bytes, other: bytes | None) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other or b""))
    except ValueError:
        return False


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("run_id", "seed", "status", "epochs", "best_epoch", "val", "test")}


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows]


def weights(folder: RunFolder) -> list[tuple[str, bytes]]:
    content = checkpoint.load(folder.checkpoint)
    parts = ("model", "best_model")
    return [(name, value.numpy().tobytes()) for part in parts for name, value in content[part].items()]


def sealed(folder: RunFolder) -> bool:
    """As ``sha256sum -c`` would have it."""
    lines = [line.split("  ") for line in folder.sums.read_text().splitlines()]
    return len(lines) == 7 and all(sha256((folder.path / name).read_bytes()) == digest for digest, name in lines)


def interrupted(experiment: Experiment, at_step: int) -> None:
    """Train until a SIGTERM arrives inside a step."""
    steps, original = 0, Learner.step

    def step(self: Learner, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == at_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(SystemExit) as stop:
            run(experiment)
    assert stop.value.code == 128 + signal.SIGTERM


class Trial:
    """Two undamaged runs of each state to copy from, and what has to come out in the end."""

    def __init__(self, compose: Compose, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.experiment, other = compose(*QUICK), compose(*QUICK, "seed=1")
        data = build.load_data(self.experiment)
        monkeypatch.setattr(build, "load_data", lambda experiment: data)  # a half of the time
        self.folders = {}
        for experiment in (other, self.experiment):
            name = experiment.run_id
            interrupted(experiment, at_step=6)
            self.folders["partial", name] = self._keep(experiment.folder, f"partial-{name}")
            run(experiment)
            self.folders["completed", name] = self._keep(experiment.folder, f"completed-{name}")
            shutil.rmtree(experiment.folder.path)
            run(experiment)
            assert weights(experiment.folder) == weights(self.folders["completed", name])
        self.other = other.run_id
        folder = self.folders["completed", self.experiment.run_id]
        self.result, self.rows, self.weights = folder.completed() or {}, timeless(folder.rows()), weights(folder)

    def _keep(self, folder: RunFolder, name: str) -> RunFolder:
        return RunFolder(shutil.copytree(folder.path, self.place / "pristine" / name))

    def fresh(self, state: str) -> RunFolder:
        """An undamaged copy, where the run has been made."""
        folder = self.experiment.folder
        shutil.rmtree(folder.path, ignore_errors=True)
        say.cache_clear()
        shutil.copytree(self.folders[state, self.experiment.run_id].path, folder.path)
        return folder

    def ask(self, **changes: Any) -> dict[str, Any]:
        """The same request again."""
        return run(replace(self.experiment, config={**self.experiment.config, **changes}))

    def check(self, folder: RunFolder, caplog: pytest.LogCaptureFixture, damaged: Path) -> str:
        """Ask until the run is completed and sealed; what was said about it."""
        caplog.clear()
        say.cache_clear()
        try:
            result = self.ask()
            said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        except Exception as error:
            if not is_mistake(error):
                raise
            said = [explain(error)]
            shutil.rmtree(damaged)  # what cannot be set aside is in the way until somebody takes it away
            result = self.ask()
        assert all("\n" not in line for line in said), said
        assert numbers(result) == numbers(self.result)
        assert numbers(folder.completed() or {}) == numbers(self.result)
        if lines := folder.damage():
            assert set(lines) <= set(said), said
            assert folder.rows() in ([], self.folders["completed", self.experiment.run_id].rows())
            result = self.ask(rerun=True)
        assert numbers(result) == numbers(folder.completed() or {}) == numbers(self.result)
        assert folder.damage() == []
        assert sealed(folder)
        assert timeless(folder.rows()) == self.rows
        assert weights(folder) == self.weights
        return "\n".join(said)


@pytest.fixture
def trial(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Trial:
    caplog.set_level(logging.INFO)
    return Trial(compose, tmp_path, monkeypatch)


@pytest.mark.parametrize("state", ["completed", "partial"])
def test_an_undamaged_copy_is_used_without_a_word(trial: Trial, caplog: pytest.LogCaptureFixture, state: str) -> None:
    folder = trial.fresh(state)
    assert trial.check(folder, caplog, folder.result) == ""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["completed", "partial"])
def test_a_hundred_random_corruptions(trial: Trial, caplog: pytest.LogCaptureFixture, state: str) -> None:
    chance = random.Random(state)
    pristine, other = (trial.folders[state, name].path for name in (trial.experiment.run_id, trial.other))
    files = (*FILES, *VIEWS) if state == "completed" else FILES
    kinds = list(itertools.product(files, CORRUPTIONS))  # each at least once, in a random order and at random places
    chance.shuffle(kinds)
    named = unread_ones = 0
    for name, corrupt in itertools.cycle(kinds):
        if named == 100:
            break
        before = (pristine / name).read_bytes() if (pristine / name).exists() else None
        if not before and corrupt is not folder:
            corrupt = noise
        damaged = trial.fresh(state)
        file = damaged.path / name
        corrupt(file, other / name, chance)
        why = unread(state, file, before)
        about = f"after {named}: {corrupt.__name__} of {name}"
        try:
            said = trial.check(damaged, caplog, file)
        except BaseException as error:
            raise AssertionError(about) from error
        assert why or str(file) in said or (name == "SHA256SUMS" and name in said), f"{about} is not named in: {said}"
        named += not why
        unread_ones += bool(why)
    assert unread_ones < 100


@pytest.mark.parametrize("state", ["completed", "partial"])
def test_any_half_of_the_files_deleted(trial: Trial, caplog: pytest.LogCaptureFixture, state: str) -> None:
    for case in range(8):
        damaged = trial.fresh(state)
        files = sorted(damaged.path.iterdir())
        gone = random.Random(case).sample(files, len(files) // 2)
        for file in gone:
            file.unlink()
        said = trial.check(damaged, caplog, damaged.path)
        for file in (damaged.config, damaged.environment, damaged.metrics):
            lost = damaged.sums in gone or damaged.result in gone
            begun_again = lost if state == "completed" else "begins again" in said
            assert str(file) in said or file not in gone or begun_again, (gone, said)


def test_both_checkpoints_damaged_is_a_new_beginning(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    damaged = trial.fresh("partial")
    for file in (damaged.checkpoint, damaged.previous):
        truncate(file, file, random.Random(0))
    assert trial.check(damaged, caplog, damaged.path).splitlines()[:2] == [
        f"{damaged.checkpoint} is damaged: its checksum is wrong; it is set aside as checkpoint.pt.damaged, "
        "the one before it is used, if there is one",
        f"{damaged.previous} is damaged: its checksum is wrong; it is set aside as checkpoint.previous.pt.damaged, "
        "the training begins again",
    ]


@pytest.mark.parametrize(
    ("corrupt", "what"),
    [
        (delete, "is missing; the one before it is used"),
        (
            flip,
            "is damaged: its checksum is wrong; it is set aside as checkpoint.pt.damaged, the one before it is used, "
            "if there is one",
        ),
    ],
)
def test_a_damaged_checkpoint_costs_no_more_than_the_one_before_it(
    trial: Trial, caplog: pytest.LogCaptureFixture, corrupt: Corruption, what: str
) -> None:
    damaged = trial.fresh("partial")  # interrupted in step 2 of epoch 2, after a checkpoint at the end of epoch 1
    corrupt(damaged.checkpoint, damaged.checkpoint, random.Random(0))
    assert trial.check(damaged, caplog, damaged.path) == f"{damaged.checkpoint} {what}"
    assert "going on in epoch 2 after step 0" in caplog.messages


def test_what_a_run_was_made_with_cannot_change_between_two_sessions(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = trial.fresh("partial")
    environment = json.loads(damaged.environment.read_bytes())
    damaged.environment.write_text(json.dumps({**environment, "threads": 2}))
    assert trial.check(damaged, caplog, damaged.path) == (
        f"{damaged.environment} is damaged: it is not what was written; it is set aside as environment.json.damaged, "
        "and a new one is started"
    )
    assert json.loads(damaged.environment.read_bytes())["threads"] == 1


def test_a_lost_config_is_written_again_if_the_same_is_asked_for(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = trial.fresh("completed")
    whole = damaged.config.read_bytes()
    damaged.config.unlink()
    trial.ask(busy="skip")  # as good a request, but other bytes
    assert not damaged.config.exists()
    caplog.clear()
    trial.ask()
    assert caplog.messages[1:] == [f"{damaged.config} is missing", f"{damaged.config} is restored, byte for byte"]
    assert damaged.config.read_bytes() == whole
    assert damaged.damage() == []


def test_what_request_and_checkpoint_can_say_is_mended(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    other = trial.folders["completed", trial.other].path
    for name in ("config.yaml", "metrics.jsonl", "predictions.npz"):
        for corrupt in (empty, delete, flip, swap, half_a_line_twice, link, pipe):
            damaged = trial.fresh("completed")
            file, whole = damaged.path / name, {each.name: each.read_bytes() for each in damaged.path.iterdir()}
            corrupt(file, other / name, random.Random(0))
            [line] = damaged.damage()
            assert line.startswith(f"{file} is ")
            trial.ask()
            assert caplog.messages[-2:] == [line, f"{file} is restored, byte for byte"]
            assert {each.name: each.read_bytes() for each in damaged.path.iterdir()} == whole


def test_nothing_is_mended_from_a_checkpoint_that_is_damaged_too(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = trial.fresh("completed")
    empty(damaged.metrics, damaged.metrics, random.Random(0))
    flip(damaged.checkpoint, damaged.checkpoint, random.Random(0))
    trial.ask()
    assert [line.partition(" ")[0] for line in caplog.messages[-2:]] == [str(damaged.metrics), str(damaged.checkpoint)]
    assert damaged.metrics.read_bytes() == b""


def test_a_file_where_the_folder_should_be(trial: Trial) -> None:
    damaged = trial.fresh("completed")
    shutil.rmtree(damaged.path)
    damaged.path.write_text("in the way")
    with pytest.raises(OSError, match="Not a directory") as error:
        trial.ask()
    assert is_mistake(error.value)
    assert explain(error.value) == f"{damaged.result}: Not a directory"


def test_reports_use_no_damaged_number(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    from vicinal.analysis.load import load_runs

    chance = random.Random("report")
    pristine, other = (trial.folders["completed", name].path for name in (trial.experiment.run_id, trial.other))
    for case in range(60):
        name, corrupt = chance.choice(FILES), chance.choice(CORRUPTIONS)
        before = (pristine / name).read_bytes() if (pristine / name).exists() else None
        if not before and corrupt is not folder:
            corrupt = noise
        damaged = trial.fresh("completed")
        file = damaged.path / name
        corrupt(file, other / name, chance)
        caplog.clear()
        found = load_runs(damaged.path)
        (record,) = found.runs
        rows = record.rows()
        record.environment()
        said = "\n".join([*found.notes, record.error, *caplog.messages])
        about = f"{case}: {corrupt.__name__} of {name}; {said}"
        assert name in said or unread("completed", file, before), about
        if record.completed:
            assert (record.val, record.test) == (trial.result["val"], trial.result["test"]), about
        else:
            assert (record.val, record.test) == (None, {}), about
        assert timeless(rows) in ([], trial.rows), about
