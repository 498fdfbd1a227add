"""What W&B keeps of a run, read back from its own offline record."""

import dataclasses
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.calls import resolve_mode
from vicinal.tracking.wandb.tracker import WandbTracker

Build = Callable[..., WandbTracker]
Read = Callable[[Path], Any]

KEY = "0123456789abcdef" * 2 + "deadbeef"


def row(epoch: int) -> dict[str, float | int]:
    return {"epoch": epoch, "step": 4 * epoch, "lr": 0.1 / epoch, "train/loss": 1 / 3 / epoch, "val/acc1": 0.1 * epoch}


def test_config_history_and_summary_come_back(info: RunInfo, wandb_tracker: Build, read_offline_run: Read) -> None:
    finals = {"test/last/acc1": 0.975, "test/best_val/acc1": 2 / 3, "best_epoch": 2}
    with wandb_tracker() as tracker:
        for epoch in (1, 2, 3):
            tracker.epoch(row(epoch))
        tracker.finish(finals)
    run = read_offline_run(info.folder)
    identity = {"choices": info.choices, "run_id": "c0ffee-s0", "cell_id": "c0ffee", "git_commit": "0123abc"}
    assert run.config == info.config | identity
    assert run.history == [row(1), row(2), row(3)]
    assert run.summary == row(3) | finals
    assert (run.name, run.group, run.job_type, run.project) == (info.name, "alpha_sweep", "train", "vicinal")
    assert sorted(run.tags) == ["digits", "input"]
    assert run.exit_code == 0
    assert (tracker.mode, tracker.id) == ("offline", run.id)


def test_epoch_is_the_one_clock(info: RunInfo, wandb_tracker: Build, read_offline_run: Read) -> None:
    with wandb_tracker() as tracker:
        tracker.epoch(row(1))
    (metric,) = read_offline_run(info.folder).metrics
    assert (metric["glob_name"], metric["step_metric"]) == ("*", "epoch")


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_images_come_back_bit_for_bit(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read, channels: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 4, channels, 5, 7), dtype=torch.uint8, generator=generator)
    images[1] = torch.arange(35).reshape(5, 7) % 2  # nearly black: must not be stretched to the full range
    captions = [f"{i} × 7, λ = 0.{i}" for i in range(6)]
    with wandb_tracker(images=4) as tracker:
        tracker.mixed_images(images, captions)
        tracker.epoch(row(1))
        tracker.epoch(row(2))
    run = read_offline_run(info.folder)
    assert run.captions == {"mixed_images": captions[:4]}
    shown = [np.asarray(Image.open(path)) for path in run.images["mixed_images"]]
    for tiles, array in zip(images[:4], shown, strict=True):
        beside = array.reshape(5, 4, 7, channels).transpose(1, 3, 0, 2)  # the four are side by side
        assert np.array_equal(beside, tiles.numpy())
    assert run.history == [row(1), row(2)]  # the panel takes no row of its own


def test_no_panel_when_no_images_are_wanted(info: RunInfo, wandb_tracker: Build, read_offline_run: Read) -> None:
    with wandb_tracker(images=0) as tracker:
        tracker.mixed_images(torch.zeros(1, 4, 3, 2, 2, dtype=torch.uint8), ["x"])
        tracker.epoch(row(1))
    assert read_offline_run(info.folder).images == {}


def test_runs_in_one_process_keep_apart(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read, tmp_path: Path
) -> None:
    ids = set()
    for seed in range(3):
        one = dataclasses.replace(info, folder=tmp_path / f"run{seed}", name=f"run{seed}", sweep=None)
        with wandb_tracker(info=one) as tracker:
            tracker.epoch(row(seed + 1))
        run = read_offline_run(one.folder)
        assert (run.name, run.group, run.history) == (one.name, "", [row(seed + 1)])
        ids.add(run.id)
    assert len(ids) == 3


def test_an_exception_is_in_the_record(info: RunInfo, wandb_tracker: Build, read_offline_run: Read) -> None:
    def train() -> None:
        with wandb_tracker() as tracker:
            tracker.mixed_images(torch.zeros(1, 4, 3, 2, 2, dtype=torch.uint8), ["x"])
            tracker.epoch(row(1) | {"epoch": 1 // 0})

    with pytest.raises(ZeroDivisionError):
        train()
    run = read_offline_run(info.folder)
    assert run.exit_code == 1
    assert run.summary["error"].startswith("Traceback")
    assert run.summary["error"].endswith("ZeroDivisionError: integer division or modulo by zero\n")
    assert len(run.images["mixed_images"]) == 1  # what was reported before the end is kept


@pytest.mark.parametrize("taken", [True, False])
def test_a_run_whose_machine_is_taken_away_is_to_be_handed_out_again(
    taken: bool, info: RunInfo, wandb_tracker: Build, read_offline_run: Read
) -> None:
    def train() -> None:
        with wandb_tracker() as tracker:
            tracker.epoch(row(1))
            if taken:
                tracker.taken_away()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    run = read_offline_run(info.folder)
    assert (run.preempting, run.exit_code, len(run.history)) == (taken, 1, 1)


def test_run_after_a_failed_one_is_its_own(info: RunInfo, wandb_tracker: Build, tmp_path: Path) -> None:
    second = dataclasses.replace(info, folder=tmp_path / "second")
    with pytest.raises(ValueError, match="boom"), wandb_tracker() as first:
        raise ValueError("boom")
    with wandb_tracker(info=second) as tracker:
        assert tracker.id != first.id


def test_the_id_is_known_before_wandb_has_started_and_is_in_its_style(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read
) -> None:
    with wandb_tracker() as tracker:
        first = tracker.id
        assert first is not None
        assert re.fullmatch("[a-z0-9]{8}", first)
        tracker.epoch(row(1))
    assert (tracker.id, read_offline_run(info.folder).id) == (first, first)


def test_reports_do_not_wait_for_wandb_and_none_is_lost(
    info: RunInfo, wandb_tracker: Build, read_offline_run: Read, tmp_path: Path, in_the_process: Callable[[str], None]
) -> None:
    let_go = tmp_path / "let go"
    in_the_process(
        f"""
import pathlib, time
from vicinal.tracking.wandb import calls
def slow(mode):
    while not pathlib.Path({str(let_go)!r}).exists():
        time.sleep(0.01)
    return mode, "slow"
calls.resolve_mode = slow
"""
    )
    told = row(1)
    began = time.perf_counter()
    with wandb_tracker() as tracker:
        tracker.restore([told], step=4)
        told["step"] = -1  # whoever reports may go on to change it
        panel = torch.zeros(2, 4, 1, 2, 2, dtype=torch.uint8)
        tracker.mixed_images(panel, ["x", "y"])
        panel += 1
        for epoch in range(2, 200):
            tracker.epoch(row(epoch))
        tracker.finish({"best_epoch": 2})
        assert time.perf_counter() - began < 0.5
        let_go.touch()
    run = read_offline_run(info.folder)
    assert run.history == [row(epoch) for epoch in range(1, 200)]
    assert (run.summary["best_epoch"], run.captions["mixed_images"]) == (2, ["x", "y"])
    assert not np.asarray(Image.open(run.images["mixed_images"][0])).any()


@pytest.mark.parametrize("asked", ["disabled", "auto"])
def test_disabled_writes_nothing_and_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code = """
import sys, pathlib
from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb.tracker import WandbTracker
config = {"wandb": {"mode": sys.argv[2], "name": None, "group": None, "images": 4}}
tracker = WandbTracker()
tracker.start(RunInfo("n", "r", "c", config, {}, None, None, pathlib.Path(sys.argv[1]) / "run", 1))
tracker.epoch({"epoch": 1})
tracker.finish({})
tracker.close(None)
print("wandb" in sys.modules, tracker.mode, tracker.id)
"""
    command = [sys.executable, "-c", code, str(tmp_path), asked]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False disabled None\n"
    assert not (tmp_path / "run").exists()


def test_offline_is_said_once_with_the_command_that_uploads(
    info: RunInfo, wandb_tracker: Build, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
        tracker.epoch(row(1))
    (folder,) = (info.folder / "wandb").glob("offline-run-*")
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("vicinal")]
    assert messages == [f"W&B is offline (no login found); to upload the run: wandb sync --yes {folder}"]
    assert capfd.readouterr() == ("", "")  # wandb itself is silent


def test_the_upload_command_is_one_that_wandb_accepts(info: RunInfo, wandb_tracker: Build) -> None:
    with wandb_tracker() as tracker:
        tracker.epoch(row(1))
    (folder,) = (info.folder / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--dry-run", str(folder)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert folder.name in printed.stdout + printed.stderr


def test_no_token_lands_in_a_file(info: RunInfo, wandb_tracker: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_tracker() as tracker:
        tracker.epoch(row(1))
        tracker.finish({"test/last/acc1": 0.5})
    files = [path for path in info.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("mode", "environment", "login", "expected"),
    [
        ("auto", None, False, ("offline", "no login found")),
        ("auto", None, True, ("online", "logged in")),
        ("auto", "offline", True, ("offline", "WANDB_MODE=offline")),
        ("auto", "dryrun", True, ("offline", "WANDB_MODE=dryrun")),
        ("auto", "disabled", True, ("disabled", "WANDB_MODE=disabled")),
        ("auto", "online", True, ("online", "WANDB_MODE=online")),
        ("auto", "online", False, ("offline", "no login found")),
        ("online", None, True, ("online", "wandb.mode=online")),
        ("online", "offline", True, ("online", "wandb.mode=online")),
        ("online", None, False, ("offline", "no login found")),
        ("offline", "online", True, ("offline", "wandb.mode=offline")),
        ("disabled", "online", True, ("disabled", "wandb.mode=disabled")),
    ],
)
def test_mode(
    mode: str, environment: str | None, login: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if login:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert resolve_mode(mode) == expected


@pytest.mark.parametrize(("host", "expected"), [("api.wandb.ai", "online"), ("elsewhere.example", "offline")])
def test_a_login_in_netrc_counts_for_its_own_host(host: str, expected: str) -> None:
    Path(os.environ["NETRC"]).write_text(f"machine {host} login user password {KEY}\n")
    try:
        assert resolve_mode("auto")[0] == expected
    finally:
        Path(os.environ["NETRC"]).write_text("")


def test_a_key_that_cannot_be_one_means_offline_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "shortkey")
    mode, reason = resolve_mode("auto")
    assert mode == "offline"
    assert "WANDB_API_KEY" in reason
    assert "shortkey" not in reason
