"""W&B's process stopped in the middle of a run, for real: the run is completed all the same, and W&B told the rest."""

import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vicinal.config.schema import CONF
from vicinal.runs import mixed_sheet
from vicinal.runs.folder import RunFolder
from vicinal.tracking.wandb import client, record

Train = Callable[..., tuple[int, str, str]]
Read = Callable[[Path], Any]

WORDS = ("trainer.epochs=3", "dataset.train_size=100", "trainer.device=cpu", "trainer.threads=1", "wandb.mode=offline")
STOP = """
import os, signal
from vicinal.tracking.wandb.server import WandbRun
epoch = WandbRun.epoch
def stopped(self, values):
    epoch(self, values)
    os.kill(os.getpid(), signal.SIGSTOP)
WandbRun.epoch = stopped
"""
"""In W&B's process: stop after the first row."""


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], RunFolder]:
    def only() -> RunFolder:
        (path,) = (tmp_path / "outputs" / "runs").iterdir()
        return RunFolder(path)

    return only


def check_all_is_told(folder: RunFolder, read_offline_run: Read) -> None:
    run = read_offline_run(folder.path)
    result = json.loads(folder.result.read_text())
    assert run.history == folder.rows()
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert (run.exit_code, run.name, "error" in run.summary) == (0, f"{result['name']}-s0", False)
    assert run.summary["test/last/acc1"] == result["test"]["last"]["acc1"]
    panel = zip(
        run.images["mixed_images"], run.captions["mixed_images"], mixed_sheet.read(folder.mixed, 100), strict=True
    )
    for shown, caption, (png, written) in panel:
        tiles, sheet = np.asarray(Image.open(shown)), np.asarray(Image.open(io.BytesIO(png)).convert("L"))
        assert caption == written
        assert tiles.shape == (8, 4 * 8)
        assert np.array_equal(tiles, np.concatenate([sheet[:, 9 * each : 9 * each + 8] for each in range(4)], axis=1))
    assert len(run.captions["mixed_images"]) == 16
    assert len(run.tables["test/class_accuracy_table"]) == 10
    assert record.unfinished(folder.path) is None


def test_the_done_mark_comes_first_and_the_same_command_tells_the_rest(
    train: Train, folder: Callable[[], RunFolder], monkeypatch: pytest.MonkeyPatch, read_offline_run: Read
) -> None:
    flush, seen = client.WandbProcess.flush, []

    def look(self: client.WandbProcess, seconds: float) -> bool:
        seen.append(folder().completed() is not None and folder().damage() == [])
        limit = time.monotonic() + 120
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < limit
            time.sleep(0.01)
        return flush(self, seconds)

    client.close()
    with monkeypatch.context() as patch:
        patch.setattr(client, "MAIN", f"{STOP}\n{client.MAIN}")
        patch.setattr(client, "SILENT_SECONDS", 1.0)
        patch.setattr(client.WandbProcess, "flush", look)
        code, out, err = train(*WORDS)
    assert (code, err, seen) == (0, "", [True])
    told = r"W&B stopped, the run goes on without it: not at its end within \d+ s; to upload what it has: "
    assert re.search(told, out), out
    result = folder().completed()
    assert result is not None
    assert result["wandb"]["mode"] == "offline"
    assert record.unfinished(folder().path) == result["wandb"]["id"]
    before = folder().result.read_bytes()

    code, out, err = train(*WORDS)
    assert (code, err) == (0, "")
    assert "already completed" in out
    assert "W&B lacked a part of it; W&B has all of it now" in out
    assert folder().result.read_bytes() == before
    check_all_is_told(folder(), read_offline_run)
    code, out, err = train(*WORDS)
    assert "lacked" not in out


KILLED = """
import os, signal, sys
from vicinal.cli import train as main
from vicinal.tracking.wandb import client as wandb_host
wandb_host.MAIN = sys.argv.pop(1) + wandb_host.MAIN
def flush(self, seconds):
    print("W&B", self._process.pid, flush=True)
    while open(f"/proc/{self._process.pid}/stat").read().rpartition(")")[2].split()[0] != "T":
        pass
    os.kill(os.getpid(), signal.SIGKILL)
wandb_host.WandbProcess.flush = flush
main.main()
"""


def test_killed_while_it_waits_for_a_stopped_process_nothing_is_trained_again(
    train: Train,
    folder: Callable[[], RunFolder],
    read_offline_run: Read,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vicinal.report.report.finish", lambda folder: None)  # takes its time
    monkeypatch.setattr("vicinal.jobs.run_info.PATIENCE", 0.5)
    command = [sys.executable, "-c", KILLED, STOP, *WORDS]
    killed = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=120)
    pid = int(re.findall(r"^W&B (\d+)$", killed.stdout, re.MULTILINE)[0])
    before = folder().result.read_bytes()
    try:
        assert killed.returncode == -signal.SIGKILL
        code, out, _ = train(*WORDS, "wandb.mode=disabled")
        assert (code, "already completed" in out, "lacked" in out) == (0, True, False)
        for words in (WORDS, (*WORDS, "seed=0,0", "-m")):
            code, out, _ = train(*words)
            assert code == 0
            assert f"{folder().path}: W&B lacked a part of it; W&B's own process is still at it\n" in out
    finally:
        os.kill(pid, signal.SIGKILL)
    while record.being_written(folder().path):
        time.sleep(0.01)
    script = runpy.run_path(str(CONF.parent / "scripts" / "sync.py"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert script["sync"](tmp_path / "outputs", dry_run=True) == 0
    assert script["sync"](tmp_path / "outputs", dry_run=False) == 1  # no such server to upload to
    name = f"{folder().path.name}: "
    said = [line.removeprefix(name) for line in capsys.readouterr().out.splitlines() if line.startswith(name)]
    assert said == ["W&B would be told what it lacks", "W&B has all of it now"]
    assert folder().result.read_bytes() == before
    check_all_is_told(folder(), read_offline_run)


def test_what_fails_after_the_done_mark_does_not_take_it_away(
    train: Train, folder: Callable[[], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: client.WandbProcess, seconds: float) -> bool:
        raise OSError(5, "the terminal is gone")

    monkeypatch.setattr(client.WandbProcess, "flush", fail)
    train(*WORDS)
    completed = folder().completed()
    assert completed is not None
    assert completed["epochs"] == 3
