"""Whole requests for a network of timm: which run it is, what is recorded and said, and weights from the hub."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import reproduce
from vicinal.jobs.run import reuse_warnings, run
from vicinal.models.timm_zoo import timm_model

timm = pytest.importorskip("timm")

Compose = Callable[..., Experiment]
WORDS = (
    *("model=timm", "model.name=test_vit", "dataset.image_size=32", "dataset.channels=3"),
    *("trainer.epochs=1", "trainer.precision=fp32", "trainer.threads=1", "tracker=none"),
)
COMMIT = "0123456789abcdef" * 2 + "01234567"


def write_weights(file: Path, seed: int = 1) -> Path:
    """Of test_vit, for its thousand classes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(timm.create_model("test_vit").state_dict(), file)
    return file


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A request for a tree of small RGB images."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for part, number in (("train", 6), ("test", 2)):
        for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            for index in range(number):
                file = Path("data", part, name, f"{index}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), tuple(min(255, value + 5 * index) for value in colour)).save(file)
    data = ("dataset=imagefolder", "dataset.root=data", "dataset.val_size=0", "trainer.batch_size=4")
    return (*data, *WORDS)


def test_other_weights_are_another_run_and_another_place_is_none(words: tuple[str, ...], compose: Compose) -> None:
    plain = compose(*words)
    assert "pretrained" not in plain.effective["model"]
    write_weights(Path("one.safetensors"))
    first = compose(*words, "model.pretrained=one.safetensors")
    assert first.effective["model"]["pretrained"] == hashlib.sha256(Path("one.safetensors").read_bytes()).hexdigest()
    Path("elsewhere").mkdir()
    Path("one.safetensors").rename("elsewhere/two.safetensors")
    assert compose(*words, "model.pretrained=elsewhere/two.safetensors").run_id == first.run_id
    write_weights(Path("one.safetensors"), seed=2)
    assert len({plain.cell_id, first.cell_id, compose(*words, "model.pretrained=one.safetensors").cell_id}) == 3


def test_a_run_is_recorded_and_can_be_repeated(
    words: tuple[str, ...], compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "vicinal")
    write_weights(Path("net.safetensors"))
    experiment = compose(*words, "model.pretrained=net.safetensors", "mixup=manifold")
    assert experiment.strategy.depths[0] == "input"
    assert len(experiment.strategy.depths) > 1
    result = run(experiment)
    assert result["status"] == "completed"
    assert result["versions"]["timm"] == timm.__version__
    assert "net.safetensors has a classifier of 1000 classes: that of 2 is drawn by the seed" in caplog.messages
    [line] = [text for text in caplog.messages if "pretrained weights" in text]
    assert line.startswith(
        "the pretrained weights are of images with dataset.mean=[0.5,0.5,0.5] dataset.std=[0.5,0.5,0.5]; here it is "
        "dataset.mean=["
    )
    caplog.clear()
    same = ("dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.5,0.5,0.5]", "mixup=none")
    run(compose(*words, "model.pretrained=net.safetensors", *same))
    assert [text for text in caplog.messages if "pretrained weights" in text] == []
    older = {**result, "versions": {**result["versions"], "timm": "1.0.20"}}
    said = f"made with timm 1.0.20, here it would be {timm.__version__}: the last digits may differ"
    assert (said in reuse_warnings(experiment, older)) is (timm.__version__ != "1.0.20")
    assert reproduce(experiment.folder.path, Path("again")).verdict() == "bit-identical"
    write_weights(Path("net.safetensors"), seed=2)
    [line] = reproduce(experiment.folder.path, Path("other")).requested
    assert "model.pretrained" in line


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ("model.name=test_vot", "model.name=test_vot: must be one of timm.list_models(), such as test_vit"),
        ("model.pretrained=none.pth", "model.pretrained=none.pth: must be true, false or a file of weights; there is"),
        ("model.pretrained=null", "model.pretrained=null: must be true or false or a string"),
        ("model.drop_path=1", "model.drop_path=1: must be a probability in [0, 1)"),
        ("dataset.image_size=40", "dataset.image_size=40: does not fit test_vit ("),
        ("mixup=manifold mixup.layers=[blocks.99]", "mixup.layers=blocks.99: no block of vicinal.models.timm_zoo."),
    ],
)
def test_mistakes_are_one_line(extra: str, line: str, words: tuple[str, ...], compose: Compose) -> None:
    with pytest.raises(UserError) as error:
        compose(*words, *extra.split())
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


# Weights from the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub with the weights of test_vit on this machine, and an empty cache; yields what is asked of it."""
    hub_module = pytest.importorskip("huggingface_hub")
    data, asked = write_weights(tmp_path / "hub.safetensors").read_bytes(), []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            self.answer(data)

        def answer(self, body: bytes) -> None:
            asked.append(f"{self.command} {self.path}")
            there = self.path.endswith("/model.safetensors")
            self.send_response(200 if there else 404)
            self.send_header("ETag", '"weights"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data) if there else 0))
            self.end_headers()
            self.wfile.write(body if there else b"")

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub_module.constants, "ENDPOINT", place)
    monkeypatch.setattr(
        hub_module.constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(hub_module.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hubs_weights_are_had_once_and_count_by_their_content(
    hub: list[str], words: tuple[str, ...], compose: Compose
) -> None:
    first = compose(*words, "model.pretrained=true")
    assert "GET /timm/test_vit.r160_in1k/resolve/main/model.safetensors" in hub
    asked = len(hub)
    assert compose(*words, "model.pretrained=true").run_id == first.run_id
    assert len(hub) == asked  # the cache is asked first
    assert compose(*words, "model.pretrained=hub.safetensors").run_id == first.run_id
    own, theirs = (timm_model(3, 32, 1000, name="test_vit", pretrained=each) for each in (True, "hub.safetensors"))
    assert all(torch.equal(weight, theirs.state_dict()[key]) for key, weight in own.state_dict().items())


def test_without_a_network_a_line_names_the_way(
    words: tuple[str, ...], compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        compose(*words, "model.pretrained=true")
    line = str(error.value)
    assert line.startswith(
        "model.pretrained=true: needs timm/test_vit.r160_in1k of huggingface.co, which cannot be had ("
    )
    assert line.endswith("; copy its file of weights to this machine and name it, model.pretrained=<file>")
    assert "\n" not in line
    with pytest.raises(
        UserError, match=r"must be false or a file: timm names no weights at the hub for mixer_s32_224$"
    ):
        compose(*words, "model.name=mixer_s32_224", "model.pretrained=true")
