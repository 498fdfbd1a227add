"""A continued run is one run at W&B: online it asks to go on and says nothing twice, offline one folder has it all."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.runs.signals import Interrupted
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker

Build = Callable[..., WandbTracker]
Read = Callable[[Path], Any]
Server = Any  # the one of conftest.py

PANEL = torch.zeros(4, 4, 1, 8, 8, dtype=torch.uint8), ["a", "b", "c", "d"]


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "train/loss": 1 / epoch}


def session(tracker: WandbTracker, before: int, until: int, *, panel: bool = True, end: bool = False) -> WandbTracker:
    """Go on after ``before`` epochs, train until the next to last has ended, and be interrupted."""
    try:
        with tracker:
            if panel and before:
                tracker.mixed_images(*PANEL)
            tracker.restore([row(epoch) for epoch in range(1, before + 1)], step=3)
            if panel and not before:
                tracker.mixed_images(*PANEL)
            for epoch in range(before + 1, until + 1):
                tracker.epoch(row(epoch))
            if not end:
                raise Interrupted
            tracker.finish({"test/last/acc1": 0.5})
    except Interrupted:
        pass
    return tracker


def epochs(rows: list[dict[str, Any]]) -> list[int]:
    return [each["epoch"] for each in rows]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (record for record in caplog.records if record.name.startswith("vicinal"))
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def test_online_it_asks_to_go_on(server: Server, wandb_tracker: Build, caplog: pytest.LogCaptureFixture) -> None:
    first = session(wandb_tracker("online"), 0, 3)
    assert first.mode == "online"
    assert server.questions == []  # a new run has nothing to go on with
    assert epochs(server.history) == [1, 2, 3]
    assert server.exit_code == 1

    second = session(wandb_tracker("online", id=first.id), 3, 5, end=True)
    assert second.id == first.id
    assert second.mode == "online"
    assert server.questions == [first.id]
    assert {upsert["name"] for upsert in server.upserts} == {first.id}
    assert epochs(server.history) == epochs(server.sent) == [1, 2, 3, 4, 5]
    assert [each["train/loss"] for each in server.history] == [1 / epoch for epoch in range(1, 6)]
    assert server.exit_code == 0
    assert warnings(caplog) == []


def test_the_error_of_an_earlier_session_is_not_that_of_the_whole_run(server: Server, wandb_tracker: Build) -> None:
    first = wandb_tracker("online")

    def fail() -> None:
        with first:
            first.epoch(row(1))
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert server.summary["error"].endswith("ValueError: boom\n")
    session(wandb_tracker("online", id=first.id), 1, 2, end=True)
    assert "error" not in server.summary
    assert server.summary["test/last/acc1"] == 0.5


@pytest.mark.parametrize("before", [0, 1, 2])
def test_rows_that_the_server_has_already_are_not_sent_twice(
    server: Server, wandb_tracker: Build, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """The process was killed after its third row, and its last checkpoint is older."""
    first = session(wandb_tracker("online"), 0, 3)
    session(wandb_tracker("online", id=first.id), before, 5, end=True)
    assert epochs(server.history) == epochs(server.sent) == [1, 2, 3, 4, 5]
    assert warnings(caplog) == []


def test_rows_that_never_arrived_are_sent_by_the_next_session(server: Server, wandb_tracker: Build) -> None:
    """The process was killed before its second row was uploaded."""
    first = session(wandb_tracker("online"), 0, 1)
    session(wandb_tracker("online", id=first.id), 3, 4, end=True)
    assert epochs(server.history) == epochs(server.sent) == [1, 2, 3, 4]


def test_a_run_that_ended_in_its_first_epoch_goes_on(server: Server, wandb_tracker: Build) -> None:
    """Its panel, if it was full, has a row of its own before the first epoch's."""
    first = session(wandb_tracker("online"), 0, 0)
    assert epochs(server.history) == [0]
    assert server.history[0]["mixed_images"]["count"] == 4
    session(wandb_tracker("online", id=first.id), 0, 2, end=True)
    assert epochs(server.history) == [0, 1, 2]
    assert server.history == server.sent


def test_a_run_that_the_server_has_forgotten_is_told_anew(server: Server, wandb_tracker: Build) -> None:
    """Somebody has deleted it there: the id stays, and all epochs are told."""
    session(wandb_tracker("online", id="0ld1d0ld"), 3, 4, end=True)
    assert server.questions == ["0ld1d0ld"]
    assert {upsert["name"] for upsert in server.upserts} == {"0ld1d0ld"}
    assert epochs(server.history) == [1, 2, 3, 4]
    assert server.history[0]["mixed_images"]["count"] == 4


def test_three_sessions_are_one_run(server: Server, wandb_tracker: Build) -> None:
    first = session(wandb_tracker("online"), 0, 2)
    session(wandb_tracker("online", id=first.id), 2, 2)  # interrupted again before anything was new
    session(wandb_tracker("online", id=first.id), 1, 4, end=True)
    assert epochs(server.history) == epochs(server.sent) == [1, 2, 3, 4]
    assert len({upsert["name"] for upsert in server.upserts}) == 1


def test_offline_one_folder_has_it_all(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read, caplog: pytest.LogCaptureFixture
) -> None:
    first = session(wandb_tracker(), 0, 3)
    (earlier,) = (info.folder / "wandb").glob("offline-run-*")
    second = session(wandb_tracker(id=first.id), 2, 5, end=True)
    (folder,) = (info.folder / "wandb").glob("offline-run-*")
    assert (second.id, second.mode) == (first.id, "offline")
    assert first.id in folder.name
    assert folder != earlier  # also where both are of one second, and W&B gives the new one a number
    run = read_offline_run(info.folder)
    assert run.id == first.id
    assert run.history == [row(epoch) for epoch in range(1, 6)]
    assert run.captions["mixed_images"] == PANEL[1]
    assert (run.summary["test/last/acc1"], run.exit_code) == (0.5, 0)
    assert warnings(caplog) == []


def test_offline_a_session_that_cannot_go_on_takes_nothing_away(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read
) -> None:
    """Its checkpoint does not fit the code any more, for instance."""
    first = session(wandb_tracker("offline"), 0, 3)
    (earlier,) = (info.folder / "wandb").glob("offline-run-*")
    with pytest.raises(ValueError, match="boom"), wandb_tracker("offline", id=first.id):
        raise ValueError("boom")
    assert earlier.is_dir()
    session(wandb_tracker("offline", id=first.id), 3, 4, end=True)
    assert epochs(read_offline_run(info.folder).history) == [1, 2, 3, 4]


def test_offline_another_runs_folder_stays(info: RunInfo, wandb_tracker: Build) -> None:
    """Only those of the same id are replaced."""
    session(wandb_tracker(), 0, 1, end=True)
    second = session(wandb_tracker(), 0, 1)
    session(wandb_tracker(id=second.id), 1, 2, end=True)
    assert len(list((info.folder / "wandb").glob("offline-run-*"))) == 2


def test_begun_offline_and_continued_online(
    server: Server, info: RunInfo, wandb_tracker: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server hears of all epochs, and no offline folder is left that would tell them again."""
    first = session(wandb_tracker("offline"), 0, 3)
    assert server.upserts == []
    second = session(wandb_tracker("online", id=first.id), 3, 4, end=True)
    assert (second.mode, second.id) == ("online", first.id)
    assert epochs(server.history) == [1, 2, 3, 4]
    assert list((info.folder / "wandb").glob("offline-run-*")) == []


def test_begun_online_and_continued_offline(
    server: Server, info: RunInfo, wandb_tracker: Build, read_offline_run: Read
) -> None:
    """What is uploaded later has the same id and all epochs, each at its step."""
    first = session(wandb_tracker("online"), 0, 2)
    second = session(wandb_tracker("offline", id=first.id), 2, 4, end=True)
    assert (second.mode, second.id) == ("offline", first.id)
    run = read_offline_run(info.folder)
    assert (run.id, epochs(run.history)) == (first.id, [1, 2, 3, 4])
    assert epochs(server.history) == [1, 2]
