"""An online run against a server of our own."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker

Build = Callable[..., WandbTracker]
Settled = Callable[[WandbTracker], None]
Server = Any  # the one of conftest.py


def test_online_run_arrives_and_leaves_no_token_in_its_folder(
    server: Server,
    info: RunInfo,
    wandb_tracker: Build,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
        for epoch in (1, 2, 3):
            tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
    assert tracker.mode == "online"
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("vicinal")]
    assert messages == [f"W&B: http://127.0.0.1:{server.server_port}/lab/vicinal/runs/{tracker.id}"]
    assert [(row["epoch"], row["train/loss"]) for row in server.history] == [(1, 1), (2, 1 / 2), (3, 1 / 3)]
    assert server.exit_code == 0
    assert (server.upserts[0]["groupName"], server.upserts[0]["displayName"]) == (info.sweep, info.name)
    files = [path for path in info.folder.rglob("*") if path.is_file()]
    assert [path for path in files if server.key.encode() in path.read_bytes()] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_network_lost_during_the_run_delays_its_end_by_a_bounded_time(
    server: Server,
    info: RunInfo,
    wandb_tracker: Build,
    settled: Settled,
    in_the_process: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    in_the_process("from vicinal.tracking.wandb import calls; calls.FINISH_SECONDS = 2.0")
    with wandb_tracker("auto") as tracker:
        tracker.epoch({"epoch": 1, "train/loss": 1.0})
        settled(tracker)
        assert tracker.mode == "online"
        server.shutdown()
        server.server_close()
        began = time.perf_counter()
        for epoch in range(2, 50):
            tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
        assert time.perf_counter() - began < 0.1
        tracker.finish({"test/last/acc1": 0.5})
        began = time.perf_counter()
    assert 1.5 < time.perf_counter() - began < 2.0 + 2.0  # it did try
    assert server.history == []
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("vicinal")]
    (folder,) = (info.folder / "wandb").glob("run-*")
    command = f"wandb sync --yes --include-online {folder}"
    assert line.startswith("W&B stopped, the run goes on without it: ")
    assert line.endswith(f"; to upload what it has: {command}")
    # wandb agrees that there is something to upload.
    dry = [sys.executable, "-m", *command.split(), "--dry-run"]
    printed = subprocess.run(dry, capture_output=True, text=True, check=True)
    assert folder.name in printed.stdout + printed.stderr


@pytest.mark.slow
def test_the_button_that_stops_a_run_interrupts_the_training(
    server: Server, wandb_tracker: Build, settled: Settled
) -> None:
    """As Ctrl-C does: it ends its step and saves."""
    server.stopped = True

    def train() -> None:
        with wandb_tracker("auto") as tracker:
            tracker.epoch({"epoch": 1, "train/loss": 1.0})
            settled(tracker)
            time.sleep(60)  # wandb asks every 15 s

    with pytest.raises(KeyboardInterrupt):
        train()
    assert [row["epoch"] for row in server.history] == [1]
    assert server.exit_code == 1
