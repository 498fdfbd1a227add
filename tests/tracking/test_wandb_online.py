"""An online run against a server of our own, which says as little of W&B's protocol as an upload needs."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vicinal.tracking import RunInfo, WandbTracker
from vicinal.tracking import wandb_tracker as module

Build = Callable[..., WandbTracker]
KEY = "0123456789abcdef" * 2 + "deadbeef"

BUCKET = {
    "id": "bucket",
    "config": "{}",
    "historyLineCount": 0,
    "project": {"id": "project", "name": "vicinal", "entity": {"id": "entity", "name": "lab"}},
}
NO_FILES = {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": []}}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.history: list[dict[str, float]] = []
        self.exit_code: int | None = None
        self.upserts: list[dict[str, object]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: dict[str, object] = {}
        if self.path == "/graphql":
            request = json.loads(body)
            answer = {"data": NO_FILES}
            if request["operationName"] == "UpsertBucket":
                self.server.upserts.append(request["variables"])
                bucket = BUCKET | {"name": request["variables"]["name"]}
                answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif self.path.endswith("/file_stream"):
            stream = json.loads(body)
            lines = stream.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.server.history += [json.loads(line) for line in lines]
            self.server.exit_code = stream.get("exitcode", self.server.exit_code)
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def test_online_run_arrives_and_leaves_no_token_in_its_folder(
    server: Server,
    info: RunInfo,
    wandb_tracker: Build,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO), wandb_tracker("auto") as tracker:
        assert tracker.mode == "online"
        for epoch in (1, 2, 3):
            tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("vicinal")]
    assert messages == [f"W&B: http://127.0.0.1:{server.server_port}/lab/vicinal/runs/{tracker.id}"]
    assert [(row["epoch"], row["train/loss"]) for row in server.history] == [(1, 1), (2, 1 / 2), (3, 1 / 3)]
    assert server.exit_code == 0
    assert (server.upserts[0]["groupName"], server.upserts[0]["displayName"]) == (info.sweep, info.name)
    files = [path for path in info.folder.rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_network_lost_during_the_run_delays_its_end_by_a_bounded_time(
    server: Server,
    info: RunInfo,
    wandb_tracker: Build,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "FINISH_SECONDS", 2.0)
    with wandb_tracker("auto") as tracker:
        assert tracker.mode == "online"
        tracker.epoch({"epoch": 1, "train/loss": 1.0})
        server.shutdown()
        server.server_close()
        began = time.perf_counter()
        for epoch in range(2, 50):
            tracker.epoch({"epoch": epoch, "train/loss": 1 / epoch})
        assert time.perf_counter() - began < 2
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
