"""W&B's process: messages in order, bounded waits, and nothing left of it afterwards."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb import client
from vicinal.tracking.wandb.client import WandbProcess
from vicinal.tracking.wandb.server import ABANDONED

ECHO = """
import pickle, sys, time
while True:
    name, arguments = pickle.load(sys.stdin.buffer)
    if name == "leave":
        sys.exit(*arguments)
    if name == "sleep":
        time.sleep(*arguments)
    else:
        pickle.dump((name, arguments), sys.stdout.buffer)
    pickle.dump(("handled", ()), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""
"""In the place of W&B: it sends its messages back."""

Heard = list[tuple[object, ...]]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    client.close()
    monkeypatch.setattr(client, "MAIN", ECHO)
    yield
    client.close()


@pytest.fixture
def process(echo: None) -> Iterator[WandbProcess]:
    process = WandbProcess()
    yield process
    process.kill()


@pytest.fixture
def heard(process: WandbProcess) -> Heard:
    heard: Heard = []
    process.listen(lambda *reply: heard.append(reply))
    return heard


def test_all_is_heard_in_its_order(process: WandbProcess, heard: Heard) -> None:
    for number in range(1000):
        process.send("say", number, {"loss": number / 3})
    assert process.flush(30)
    assert heard == [("say", number, {"loss": number / 3}) for number in range(1000)]


def test_whoever_tells_does_not_wait_and_settling_does_for_a_bounded_time(process: WandbProcess) -> None:
    assert process.flush(30)
    began = time.perf_counter()
    process.send("sleep", 2.0)
    for _ in range(100):
        process.send("say", bytes(10_000))  # more than a pipe takes
    assert time.perf_counter() - began < 0.5
    assert not process.flush(0.2)
    assert process.flush(30)
    assert time.perf_counter() - began >= 2


def test_a_process_that_is_slow_is_waited_for_and_one_that_gives_no_sign_of_life_is_not(
    process: WandbProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process.flush(30)
    monkeypatch.setattr(client, "SILENT_SECONDS", 2.0)
    for _ in range(5):
        process.send("sleep", 0.5)
        process.send("beat")
    assert process.flush(30)  # 2.5 s of work
    os.kill(process._process.pid, signal.SIGSTOP)
    process.send("say", 1)
    assert not process.flush(10_000)
    os.kill(process._process.pid, signal.SIGCONT)
    assert process.flush(30)


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("WANDB_PROJECT", "p", None),
        ("WANDB_SILENT", "bogus", None),
        ("WANDB_HTTP_TIMEOUT", "", None),
        ("WANDB_HTTP_TIMEOUT", "9", "9"),
        ("WANDB_SWEEP_ID", "s", "s"),
        ("OTHER", "", ""),
    ],
)
def test_it_sees_no_variable_whose_word_it_is_told_and_no_empty_one(
    name: str, value: str, seen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    heeded = tmp_path / "heeded"
    waits = f"import os, sys, time\nwhile not os.path.exists({str(heeded)!r}): time.sleep(0.01)\n"
    monkeypatch.setattr(client, "MAIN", f"{waits}sys.exit(repr(os.environ.get({name!r})))")
    process, heard = WandbProcess(), []
    process.listen(lambda *reply: heard.append(reply))
    process.send("say", 1)
    heeded.touch()
    assert process.flush(30)
    assert heard == [("failed", repr(seen))]


@pytest.mark.parametrize("way", ["exit code", "words", "killed"])
def test_an_end_of_its_own_is_heard_once_and_nobody_waits_for_it(process: WandbProcess, heard: Heard, way: str) -> None:
    if way == "killed":
        os.kill(process._process.pid, signal.SIGKILL)
        process.send("say", 1)
    else:
        process.send("leave", 3 if way == "exit code" else "first\nlast")
    assert process.flush(30)
    process.send("say", 1)
    assert process.flush(0)
    assert not process.usable()
    reasons = {"exit code": "its process has ended with exit code 3", "words": "last"}
    assert heard == [("failed", reasons.get(way, "its process has ended with exit code -9"))]


def test_there_is_one_for_all_runs_of_an_environment(echo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.process()
    assert client.process() is first
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    second = client.process()
    assert second is not first
    assert first._process.poll() is not None
    client.close()
    assert second._process.poll() is not None
    assert client.process() is not second


@pytest.mark.parametrize(
    ("mode", "environment", "begun"), [("offline", "", True), ("disabled", "", False), ("auto", "disabled", False)]
)
def test_it_is_begun_where_it_will_be_needed(
    echo: None, monkeypatch: pytest.MonkeyPatch, mode: str, environment: str, begun: bool
) -> None:
    monkeypatch.setenv("WANDB_MODE", environment)
    client.begin({"tracker": {"wandb": {}}, "wandb": {"mode": mode}})
    assert (client._current is not None) == begun


LEAVE = """
import os, sys
from vicinal.tracking.wandb import client as wandb_host
process = wandb_host.process()
process.send("leave")
assert process.flush(60)
pids = [process._process.pid]
for file in __import__("pathlib").Path(f"/proc/{pids[0]}/task").glob("*/children"):
    pids += map(int, file.read_text().split())
print(*pids, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("way", ["exit", "kill"])
def test_no_process_is_left_behind(way: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LEAVE, way], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (-9 if way == "kill" else 0, "")
    pids = list(map(int, ended.stdout.split()))
    assert len(pids) == 2  # wandb-core too
    limit = time.monotonic() + 20
    while any(map(running, pids)):
        assert time.monotonic() < limit
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether there is such a process, other than a dead one that nobody has asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_training_that_had_sent_half_a_message_is_told_to_its_end(
    tmp_path: Path, read_offline_run: Any
) -> None:
    """A panel is larger than a pipe: whoever is killed while it is sent leaves half of it there."""
    settings = {"mode": "offline", "project": "p", "entity": None, "notes": None, "tags": []}
    info = RunInfo("n", "r", "c", {"wandb": settings}, {}, None, None, tmp_path / "run", 9, wandb_id="abcdefgh")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    messages = [
        pickle.dumps(("open", (info, False, ["train.py"]))),
        pickle.dumps(("epoch", ({"epoch": 1},))),
    ]
    half = pickle.dumps(("mixed_images", (np.zeros((4, 4, 1, 99, 99), np.uint8), ["x"] * 4)))[:-100]
    command = [sys.executable, "-c", client.MAIN, str(temporary)]
    done = subprocess.run(command, input=b"".join([*messages, half]), capture_output=True, timeout=120)
    assert done.returncode == 0
    run = read_offline_run(info.folder)
    assert (run.history, run.exit_code, run.summary["error"]) == ([{"epoch": 1}], 1, ABANDONED)
    assert not temporary.exists()


def test_a_reply_that_is_none_ends_the_process_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site's own start-up file may print."""
    monkeypatch.setattr(client, "MAIN", "print('welcome to the cluster', flush=True)\n" + ECHO)
    process, heard = WandbProcess(), []
    process.listen(lambda *reply: heard.append(reply))
    process.send("say", 1)
    assert process.flush(30)
    assert not process.usable()


def test_a_process_that_has_failed_tells_who_listens_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAIN", "raise ImportError('no such thing')")
    process, heard = WandbProcess(), []
    process._reader.join(30)
    process.listen(lambda *reply: heard.append(reply))
    assert heard == [("failed", "ImportError: no such thing")]


def test_after_a_process_is_detached_there_is_another(echo: None) -> None:
    first = client.process()
    first.send("say", 1)
    first.detach()
    assert client.process() is not first
    assert first._process.wait(30) is not None
    client.close()


@pytest.mark.parametrize("way", ["done", "never needed", "killed"])
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = WandbProcess()
    if way != "never needed":
        process.send("leave")
    assert process.flush(60)
    assert len(list(tmp_path.iterdir())) == 1
    process.kill() if way == "killed" else process.close()
    assert list(tmp_path.iterdir()) == []
