"""Shared by all tests: no W&B account in reach, and a reader of what W&B wrote offline."""

import gc
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.plugins import Plugins
from hypothesis import settings

pytest_plugins = ["tests.composed", "tests.stored_sweeps"]

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Which a run in this process handles itself."""
Train = Callable[..., tuple[int, str, str]]

# Small tensors gain nothing from threads, and threads of several processes on few cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Many container images set this variable. Each of the several hundred processes that the tests start would then compile
# our files anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A script's background job ignores Ctrl-C, and one under nohup SIGHUP: so would all that the tests start there.
for stop in STOPS:
    if signal.getsignal(stop) is signal.SIG_IGN:
        signal.signal(stop, signal.default_int_handler if stop is signal.SIGINT else signal.SIG_DFL)

# When Hydra first looks for plugins it executes their files anew; a test that changes one is to have the one in use.
Plugins.instance()

# Looked for before the tests hide it from all that they start.
GPU = torch.cuda.is_available()

# Drawn examples are the same on every machine and in every run, and no clock decides whether a test passes.
settings.register_profile("vicinal", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("vicinal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first: the last file to end is then a short one, and no worker waits for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    slowest = {item.path for item in items if item.parent and item.parent.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slowest, item.path not in slow))


def pytest_collection_finish() -> None:
    """Keep what is there by now, half a million objects that stay, out of the garbage collector's way."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries complain of what the end of the interpreter does not collect


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not GPU:
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def no_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test starts trains on the CPU, unless the test is marked ``gpu``."""
    if not request.node.get_closest_marker("gpu"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process nothing waits for the disk: whoever reads a file sees the same with and without it."""
    monkeypatch.setattr(os, "fsync", os.fstat)


@pytest.fixture(autouse=True)
def no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, nor a process that it starts, can find a login or write to the user's own W&B folders."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "wandb-home"
    home.mkdir(exist_ok=True)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home))
    netrc = home / "netrc"
    netrc.touch(mode=0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    yield
    setup = sys.modules.get("wandb.sdk.wandb_setup")
    if setup is not None and setup._singleton is not None:  # wandb reads the environment once a session
        setup.teardown()


@dataclass
class OfflineRun:
    """One offline run, read back from W&B's own transaction log."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    """A dict a row, without W&B's own underscored keys, images and tables; a histogram is its counts."""
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """The define_metric calls."""
    images: dict[str, list[Path]] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    sounds: dict[str, list[Path]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """A dict a row, from the files."""
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """W&B's own charts: what each is drawn from and how."""
    stats: list[dict[str, Any]] = field(default_factory=list)
    """System metrics."""
    environment: dict[str, Any] = field(default_factory=dict)
    """The program, its arguments and the machine."""
    exit_code: int | None = None
    preempting: bool = False
    """Whether a W&B sweep is to hand its point out again."""
    id: str = ""
    name: str = ""
    group: str = ""
    notes: str = ""
    entity: str = ""
    job_type: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()


@pytest.fixture(scope="session")
def read_offline_run() -> Callable[[Path], OfflineRun]:
    """Reads the only offline run below a folder."""
    return _read_offline_run


def wandb_core() -> Path:
    found = importlib.util.find_spec("wandb")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "bin" / "wandb-core"


def _read_offline_run(folder: Path) -> OfflineRun:
    (file,) = (path for path in folder.rglob("*.wandb") if path.parent.name.startswith("offline-run-"))
    result = OfflineRun(folder=file.parent)
    for record in _records(file):
        kind = record["type"]
        value = record.get(kind, {})
        if kind == "run":
            result.id, result.project = value["run_id"], value["project"]
            result.name, result.group = value.get("display_name", ""), value.get("run_group", "")
            result.notes, result.entity = value.get("notes", ""), value.get("entity", "")
            result.job_type, result.tags = value.get("job_type", ""), tuple(value.get("tags", ()))
            result.config |= _own(value.get("config", {}).get("update", {}))
        elif kind == "config":
            result.config |= _own(value.get("update", {}))
            for name, chart in value.get("update", {}).items():
                if name.startswith("_wandb.visualize."):
                    result.charts[name.removeprefix("_wandb.visualize.")] = chart["panel_config"]
        elif kind == "stats":
            result.stats.append(value["item"])
        elif kind == "environment":
            result.environment |= value
        elif kind == "history":
            result.history.append(_row(value["item"], result))
        elif kind == "summary":
            result.summary |= _own(value.get("update", {}))
        elif kind == "metric":
            result.metrics.append(value)
        elif kind == "preempting":
            result.preempting = True
        elif kind == "exit":
            result.exit_code = value.get("exit_code", 0)
    return result


def _records(file: Path) -> list[dict[str, Any]]:
    """All that will be in the file: wandb says that a run has ended some milliseconds before the end is written."""
    # What `wandb leet inspect --json` starts, without importing wandb first.
    command = [wandb_core(), "leet", "inspect", "--no-observability", "--json", "--run-file", file, file.parent]
    limit = time.monotonic() + 0.5  # of a run that was killed no end will come
    while True:
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        records = [json.loads(line) for line in printed.splitlines()]
        if any(record["type"] == "exit" for record in records) or time.monotonic() > limit:
            return records
        time.sleep(0.05)


def _row(item: dict[str, Any], result: OfflineRun) -> dict[str, Any]:
    for key, kind in [(key.removesuffix("._type"), kind) for key, kind in item.items() if key.endswith("._type")]:
        files = result.folder / "files"
        if kind == "images/separated":
            result.images[key] = [files / name for name in item[f"{key}.filenames"]]
            result.captions[key] = item[f"{key}.captions"]
        elif kind == "audio":
            result.sounds[key] = [files / sound["path"] for sound in item[f"{key}.audio"]]
            result.captions[key] = [sound["caption"] for sound in item[f"{key}.audio"]]
        elif kind == "table-file":
            table = json.loads((files / item[f"{key}.path"]).read_text())
            result.tables[key] = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        counts = {key: item[f"{key}.values"]} if kind == "histogram" else {}
        item = {name: value for name, value in item.items() if not name.startswith(f"{key}.")} | counts
    return _own(item)


def _own(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_")}


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``compose(*overrides)`` is the Experiment of a command line, on the CPU, in a folder of the test's own.

    What a run changes of the process (threads, deterministic algorithms) is put back afterwards.
    """
    from hydra import compose as compose_config
    from hydra import initialize_config_dir

    from vicinal.config.schema import CONF
    from vicinal.experiment import Experiment

    def composed(*overrides: str) -> Experiment:
        own = [f"output_dir={tmp_path / 'outputs'}", "wandb.mode=disabled", "trainer.device=cpu"]
        given = {word.partition("=")[0] for word in overrides}
        words = [word for word in own if word.partition("=")[0] not in given]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return Experiment.composed(compose_config("config", [*words, *overrides], return_hydra_config=True))

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield composed
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Train]:
    """``train.py`` in this process, in a folder of the test's own: exit code, stdout and stderr."""
    from hydra.core.global_hydra import GlobalHydra

    from vicinal.cli import train as main

    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main sets it; this way it is taken back
    monkeypatch.setattr("vicinal.cli.train.FULL_ERROR", False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.root.handlers[:], logging.root.level
    threads, handlers_before = torch.get_num_threads(), {name: signal.getsignal(name) for name in STOPS}

    def run(*words: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        code: object = 0
        try:
            main.main()
        except SystemExit as stop:
            code = stop.code
            if isinstance(code, str):  # as the interpreter does
                print(code, file=sys.stderr)
                code = 1
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    yield run
    GlobalHydra.instance().clear()
    logging.root.handlers[:], logging.root.level = handlers, level
    torch.set_num_threads(threads)
    for name, handler in handlers_before.items():
        signal.signal(name, handler)
