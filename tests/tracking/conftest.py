"""A run to report, a tracker to report it to, and a W&B server of our own."""

import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from vicinal.tracking.tracker import RunInfo
from vicinal.tracking.wandb import client
from vicinal.tracking.wandb.tracker import WandbTracker


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    return RunInfo(
        name="digits-cnn-input-alpha0.2-s0",
        run_id="c0ffee-s0",
        cell_id="c0ffee",
        config={
            "seed": 0,
            "mixup": {"alpha": 0.2, "layers": ["input", "conv1"]},
            "dataset": {"root": None},
            "wandb": {
                "mode": "offline",
                "project": "vicinal",
                "entity": None,
                "name": None,
                "group": None,
                "notes": None,
                "tags": ["digits", "input"],
                "images": 4,
            },
        },
        choices={"mixup": "input", "model": "cnn"},
        sweep="alpha_sweep",
        git_commit="0123abc",
        folder=tmp_path / "run",
        epochs=10,
    )


class Session(WandbTracker):
    """A tracker for one session of a run, which is the ``with`` block."""

    def __init__(self, info: RunInfo) -> None:
        super().__init__()
        self.info = info

    def __enter__(self) -> Self:
        self.start(self.info)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close(error)


@pytest.fixture
def wandb_tracker(info: RunInfo) -> Callable[..., Session]:
    def build(mode: str = "offline", info: RunInfo = info, id: str | None = None, **changes: Any) -> Session:  # noqa: A002
        config = info.config | {"wandb": info.config["wandb"] | {"mode": mode} | changes}
        return Session(dataclasses.replace(info, config=config, wandb_id=id))

    return build


@pytest.fixture
def settled() -> Callable[[WandbTracker], None]:
    """Waits until W&B has started and has been told all that the tracker has."""

    def wait(tracker: WandbTracker) -> None:
        assert tracker._process is not None
        assert tracker._process.flush(60)

    return wait


@pytest.fixture
def in_the_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has W&B's process, a new one, run some lines before it begins."""

    def run_first(lines: str) -> None:
        client.close()
        monkeypatch.setattr(client, "MAIN", f"{lines}\n{client.MAIN}")

    yield run_first
    client.close()


@pytest.fixture
def host_pid() -> Callable[[], int]:
    """The id of W&B's process."""
    return lambda: client.process()._process.pid


class Server(ThreadingHTTPServer):
    """Says as little of W&B's protocol as an upload, and a run that is continued, need. It knows one run at most."""

    daemon_threads = True
    key = "0123456789abcdef" * 2 + "deadbeef"
    """Of its account."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.history: list[dict[str, Any]] = []
        """Its rows. Like W&B's it puts lines where the upload says they belong."""
        self.sent: list[dict[str, Any]] = []
        """All rows that ever came, in their order."""
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.upserts: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        """The ids of the runs that it does not take."""
        self.stopped = False
        """Whether somebody has pressed the button that stops the run."""
        self.questions: list[str] = []
        """The ids of the runs that somebody wanted to continue."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # wandb-core hangs up when it ends
            super().handle_error(request, client_address)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL request."""
        variables = request["variables"]
        if request["operationName"] == "UpsertBucket":
            if variables["name"] in self.refused:
                raise PermissionError
            known = any(each["name"] == variables["name"] for each in self.upserts)
            self.upserts.append(variables)
            return {"upsertBucket": {"bucket": self._bucket(variables["name"]), "inserted": not known}}
        if request["operationName"] == "RunResumeStatus":
            name = variables["name"]
            self.questions.append(name)
            known = any(each["name"] == name for each in self.upserts)
            return {"model": {**PROJECT, "bucket": self._bucket(name) if known else None}}
        return {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": []}}

    def stream(self, upload: dict[str, Any]) -> None:
        file = upload.get("files", {}).get("wandb-history.jsonl", {})
        rows = [json.loads(line) for line in file.get("content", [])]
        self.sent += rows
        for line in upload.get("files", {}).get("wandb-summary.json", {}).get("content", []):
            self.summary = json.loads(line)
        self.history[file.get("offset", 0) : file.get("offset", 0) + len(rows)] = rows
        self.exit_code = upload.get("exitcode", self.exit_code)

    def _bucket(self, name: str) -> dict[str, Any]:
        tail = [json.dumps(row) for row in self.history[-1:]]
        empty = {
            "config": "{}",
            "summaryMetrics": json.dumps(self.summary),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "eventsTail": "[]",
        }
        counts = {"historyLineCount": len(self.history), "historyTail": json.dumps(tail)}
        empty["wandbConfig"] = '{"t": {}}'  # without which a run was never begun
        return {"id": "bucket", "name": name, "displayName": name, "tags": [], "project": PROJECT, **empty, **counts}


PROJECT = {"id": "project", "name": "vicinal", "entity": {"id": "entity", "name": "lab"}}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: dict[str, Any] = {}
        status = 200
        if self.path == "/graphql":
            try:
                answer = {"data": self.server.answer(json.loads(body))}
            except PermissionError:
                status, answer = 403, {"errors": [{"message": "permission denied"}]}
        elif self.path.endswith("/file_stream"):
            self.server.stream(json.loads(body))
            answer = {"stopped": self.server.stopped}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The W&B server that this process, logged in, finds."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("WANDB_API_KEY", server.key)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()
