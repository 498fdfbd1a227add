"""The trials of a study: the same ones whatever is interrupted, each done by one process."""

import errno
import json
import os
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vicinal.errors import UserError
from vicinal.launch.journal import JOURNAL
from vicinal.launch.samplers import SAMPLERS, sampler
from vicinal.launch.search_space import Axis, read_space
from vicinal.launch.study import Known, SharedStudy, Trial
from vicinal.runs.files import DamagedError

WORDS = ("a=tag(log,interval(0.05,8))", "b=x,y", "c=range(1,9)")
Outcome = tuple[int, dict[str, str], str, float | None]


def space(*words: str) -> list[Axis]:
    return read_space(OverridesParser.create().parse_overrides(list(words or WORDS)))


def distance(values: dict[str, str]) -> float:
    return (float(values["a"]) - 1) ** 2 + (values["b"] == "x") + abs(int(values["c"]) - 4) / 10


def opened(
    folder: Path, name: str = "tpe", *, seed: int = 0, higher: bool = False, known: Sequence[Known] = ()
) -> SharedStudy:
    study = SharedStudy(folder, space(), name, seed, higher)
    study.open(lambda: known)
    return study


def outcomes(study: SharedStudy) -> list[Outcome]:
    return [(trial.number, trial.values, trial.state, trial.value) for trial in study.trials()]


def go(study: SharedStudy, most: int, size: int = 1, score: Callable[[dict[str, str]], float] = distance) -> None:
    while batch := study.next(size, most):
        for trial in batch:
            study.tell(trial, "completed", score(trial.values), [f"run{trial.number}"])


def leave(study: SharedStudy) -> None:
    """As if its process were killed: its locks are free."""
    for lock in study._mine.values():
        lock.release()


@pytest.mark.parametrize(("name", "trials"), [("tpe", 25), ("random", 14), ("gp", 13)])
def test_a_study_in_two_parts_is_that_in_one(name: str, trials: int, tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole", name)
    go(whole, trials)
    go(opened(tmp_path / "parts", name), 7)
    go(opened(tmp_path / "parts", name), 12)
    parts = opened(tmp_path / "parts", name)
    go(parts, trials)
    assert outcomes(parts) == outcomes(whole)
    assert [trial.runs for trial in whole.trials()] == [(f"run{number}",) for number in range(trials)]
    others = opened(tmp_path / "others", name, seed=1)
    go(others, trials)
    assert outcomes(others)[0][1] != outcomes(whole)[0][1]


def test_every_sampler_is_tried_above() -> None:
    assert set(SAMPLERS) == {"tpe", "random", "gp"}


class Stopping:
    """A function that is interrupted after so many calls."""

    def __init__(self, function: Callable[..., Any], calls: int) -> None:
        self.function, self.left = function, calls

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.function(*arguments, **named)


@pytest.mark.parametrize("size", [1, 4])
def test_a_batch_that_is_half_chosen_or_half_told_is_completed_first(size: int, tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    go(whole, 22, size)
    draws, sessions = random.Random(0), 0
    while True:
        study, sessions = opened(tmp_path / "killed"), sessions + 1
        if draws.random() < 0.3:  # killed while a batch is chosen
            study._recorded = Stopping(study._recorded, draws.randrange(size))  # type: ignore[method-assign]
        try:
            batch = study.next(size, 22)
        except KeyboardInterrupt:
            leave(study)
            continue
        if not batch:
            break
        for trial in batch[: draws.randrange(size + 1)]:
            study.tell(trial, "completed", distance(trial.values), [f"run{trial.number}"])
        leave(study)
    assert sessions > 10
    assert outcomes(study) == outcomes(whole)


def test_a_trial_of_another_process_is_left_to_it(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    [one], [two] = first.next(1, 3), second.next(1, 3)
    assert (one.number, two.number) == (0, 1)
    assert [trial.number for trial in first.next(1, 3)] == [0]  # its own, which is not told yet
    first.tell(one, "completed", 1.0, [])
    [three] = first.next(1, 3)
    assert three.number == 2
    second.tell(two, "completed", 2.0, [])
    assert second.next(1, 3) == []
    leave(first)
    assert [trial.number for trial in second.next(1, 3)] == [2]
    assert [trial.state for trial in second.trials()] == ["completed", "completed", "running"]


@pytest.mark.parametrize("higher", [True, False])
def test_the_direction_is_that_of_the_score(higher: bool, tmp_path: Path) -> None:
    """The score is a, so the best trial has the largest, or the smallest, and later trials tend to that end."""
    study = opened(tmp_path, higher=higher)
    go(study, 40, score=lambda values: float(values["a"]))
    values = [float(trial.values["a"]) for trial in study.trials()]
    best = study.best()
    assert best is not None
    assert float(best.values["a"]) == (max(values) if higher else min(values))
    early, late = sorted(values[:10])[5], sorted(values[-10:])[5]
    assert late > early if higher else late < early


@pytest.mark.parametrize("number", [3, 14])
def test_a_point_is_what_optuna_itself_asks_for(number: int, tmp_path: Path) -> None:
    """With the sampler of that trial and key; ten trials are random, and then TPE has a model."""
    [axis] = axes = space("a=tag(log,interval(0.05,8))")
    study = SharedStudy(tmp_path, axes, "tpe", 5, False)
    study.open(list)
    go(study, number, score=lambda values: (float(values["a"]) - 1) ** 2)
    [proposed] = study.propose(1, list)
    theirs = optuna.create_study(sampler=sampler("tpe", 5, number, 1))
    theirs.add_trials(study._frozen())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        asked = theirs.ask({"a": axis.distribution})
    assert proposed.values == {"a": axis.text(axis.settled(asked.params["a"]))}
    [chosen] = study.next(1, number + 1)
    assert (chosen.number, chosen.values) == (number, proposed.values)


def test_proposals_are_the_next_trials_and_leave_nothing(tmp_path: Path) -> None:
    study = SharedStudy(tmp_path / "s", space(), "random", 0, True)
    assert not study.look()
    proposed = study.propose(3, list)
    assert list(tmp_path.iterdir()) == []
    study.open(list)
    assert [trial.values for trial in study.next(3, 3)] == [trial.values for trial in proposed]


def test_known_points_come_first_and_do_not_count(tmp_path: Path) -> None:
    known = [Known({"a": "1", "b": "x", "c": "4"}, 1.0, ("r0",)), Known({"a": "2", "b": "y", "c": "8"}, 1.4, ("r1",))]
    study = opened(tmp_path, known=known)
    again = opened(tmp_path)  # known is what the first has found
    go(again, 2)
    assert [trial.warm for trial in study.trials()] == [True, True, False, False]
    assert [trial.values for trial in study.trials()][:2] == [point.values for point in known]
    assert [trial.runs for trial in study.trials()][:2] == [("r0",), ("r1",)]


def test_failed_and_pruned_trials_are_neither_chosen_nor_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path, higher=True)
    states: list[tuple[str, float | None]] = [("failed", None), ("pruned", 9.0), ("completed", 1.0)]
    for state, value in states:
        [trial] = study.next(1, 3)
        study.tell(trial, state, value, ["r"], "" if state == "completed" else f"it has {state}", epoch=2)
    assert study.next(1, 3) == []
    assert [(trial.state, trial.reason) for trial in study.trials()] == [
        ("failed", "it has failed"),
        ("pruned", "it has pruned"),
        ("completed", ""),
    ]
    best: Trial | None = study.best()
    assert best is not None
    assert best.number == 2
    assert study._frozen()[1].intermediate_values == {2: 9.0}  # what TPE knows of it


@pytest.mark.parametrize("length", [0, 3 * 2**20])  # what is known of many runs is one line
def test_half_a_line_of_a_killed_process_is_cut(length: int, tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    go(whole, 6)
    go(opened(tmp_path / "cut"), 3)
    journal = tmp_path / "cut" / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"worker_id":"' + b"x" * length)
    study = opened(tmp_path / "cut")
    go(study, 6)
    assert outcomes(study) == outcomes(whole)
    for line in journal.read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", [JOURNAL, "study.lock", "study.writing.lock", "trials/0.lock"])
def test_nothing_is_written_through_a_link_or_waits_for_a_pipe(name: str, kind: str, tmp_path: Path) -> None:
    file, other = tmp_path / "s" / name, tmp_path / "other"
    file.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        other.write_bytes(b"")
        file.symlink_to(other)
    with pytest.raises(DamagedError, match=f"{name} is damaged: it is a {kind}"):
        opened(tmp_path / "s").next(1, 1)
    assert kind == "pipe" or other.read_bytes() == b""


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match="no file can be locked here"):
        opened(tmp_path)


def test_a_value_that_is_not_in_the_space_is_damage(tmp_path: Path) -> None:
    """A journal is data: what it says becomes words of a config."""
    go(opened(tmp_path), 2)
    journal = tmp_path / JOURNAL
    names = {name: json.dumps(json.dumps(name))[1:-1] for name in ("x", "y", "${oc.env:HOME}")}
    listed, evil = f"[{names['x']}, {names['y']}]", f"[{names['${oc.env:HOME}']}, {names['${oc.env:HOME}']}]"
    assert listed in journal.read_text()
    journal.write_text(journal.read_text().replace(listed, evil))
    with pytest.raises(UserError, match=r"study\.log is damaged"):
        opened(tmp_path).trials()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    go(opened(tmp_path), 2)
    journal = tmp_path / JOURNAL
    journal.write_text(journal.read_text().replace('{"op_code"', "{op_code", 3))
    with pytest.raises(UserError, match=r"study\.log is damaged \(.*\); moved away, the search begins again"):
        opened(tmp_path)
