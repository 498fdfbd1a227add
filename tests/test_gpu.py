"""What README and docs say of GPUs, on a GPU: ``pytest -m gpu -n 0``, under three minutes.

The checks are those of ``scripts/benchmark.py --only gpu``, each held against its limit; whole commands follow.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal import memory
from vicinal.benchmarks.bench import Bench, Row
from vicinal.benchmarks.gpu import checks
from vicinal.benchmarks.synthetic import images
from vicinal.bitwise import compare
from vicinal.config import TrainerConfig
from vicinal.data.store import fits
from vicinal.runs.folder import RunFolder
from vicinal.training.hardware import resolve

pytestmark = pytest.mark.gpu

TRAIN = Path(__file__).parents[1] / "train.py"
TINY = (
    "dataset.train_size=200",
    "dataset.val_size=100",
    "trainer.batch_size=20",
    "trainer.epochs=4",
    "trainer.compile=false",
    "trainer.deterministic=true",
    "wandb.mode=disabled",
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    yield Bench(torch.device("cuda"), 1, True, tmp_path, tmp_path, "gpu")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = benchmark


def failing(bench: Bench) -> list[Row]:
    """The rows that do not hold, or have no value."""
    assert bench.rows
    return [row for row in bench.rows if not row.holds]


# The checks of the benchmark


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", checks.STRATEGIES)
def test_strategies_against_the_cpu(bench: Bench, name: str, precision: str) -> None:
    checks.strategy_against_cpu(bench, name, checks.STRATEGIES[name], precision)
    assert failing(bench) == []


@pytest.mark.parametrize("mixup", ["none", "input", "manifold", "cutmix"])
def test_no_sync_in_a_step(bench: Bench, mixup: str) -> None:
    checks.waits_of(bench, f"mixup={mixup}", "trainer.compile=false")
    assert failing(bench) == [], bench.extra


def test_no_sync_in_a_compiled_step(bench: Bench) -> None:
    checks.waits_of(bench, "mixup=input", "trainer.compile=true")
    assert failing(bench) == [], bench.extra


@pytest.mark.parametrize("mixup", ["input", "manifold", "cutmix"])
def test_determinism(bench: Bench, mixup: str) -> None:
    checks.deterministic(bench, f"mixup={mixup}", "mixup.per_sample=true", "trainer.compile=false")
    assert failing(bench) == []


def test_determinism_of_compiled_steps(bench: Bench) -> None:
    checks.deterministic(bench, "mixup=input", "trainer.compile=true")
    assert failing(bench) == []


def test_resume_to_the_bit(bench: Bench) -> None:
    checks.resume(bench)
    assert failing(bench) == []


def test_fp16_and_its_scaler(bench: Bench) -> None:
    checks.fp16(bench)
    assert failing(bench) == []


def test_graph_counts(bench: Bench) -> None:
    checks.compiled(bench)
    assert failing(bench) == []


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # torch captures one on purpose
def test_cuda_graphs_change_no_bit(bench: Bench) -> None:
    checks.cuda_graphs(bench)
    assert failing(bench) == []


def test_streaming_gives_the_resident_batches(bench: Bench) -> None:
    checks.streaming(bench)
    assert failing(bench) == []


def test_memory_peak_is_within_the_claim(bench: Bench) -> None:
    checks.memory_peak(bench)
    assert failing(bench) == []


# What "auto" means


def test_auto_is_bf16_and_compiled_where_the_gpu_can() -> None:
    hardware = resolve(TrainerConfig())
    assert hardware.device.type == "cuda"
    assert hardware.precision == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32")
    assert hardware.compile is bool(shutil.which(os.environ.get("CC", "gcc")) or shutil.which("clang"))


def test_streaming_begins_where_half_of_the_free_memory_would_not_do() -> None:
    data = images(60_000)
    size = len(data.labels) * data.images[0].numel()
    assert fits(data, torch.device("cuda"))
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    filling = torch.empty(free - int(1.5 * size), dtype=torch.uint8, device="cuda")
    try:
        assert not fits(data, torch.device("cuda"))
    finally:
        del filling
        torch.cuda.empty_cache()


def test_the_gpu_is_seen_with_its_memory() -> None:
    [gpu, *_] = memory._visible()
    assert gpu.uuid.count("-") == 4
    assert 0 < gpu.free <= gpu.total == torch.cuda.get_device_properties(0).total_memory


# Whole commands, those that nobody interferes with at the same time


class Command:
    """``train.py`` in a folder of its own."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        variables = {**os.environ, "WANDB_MODE": "disabled", **environment}
        self.process = subprocess.Popen(
            [sys.executable, str(TRAIN), *TINY, *words],
            cwd=folder, env=variables, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(self) -> str:
        """What it said."""
        said, _ = self.process.communicate(timeout=150)
        assert self.process.returncode == 0, said
        return said

    def stop(self, number: signal.Signals) -> None:
        """Send a signal once the first epoch is done, and wait for the end."""
        limit = time.monotonic() + 120
        while not any(file.read_bytes().count(b"\n") for file in self.folder.glob("outputs/runs/*/metrics.jsonl")):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.002)
        self.process.send_signal(number)
        self.process.wait()
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        """By seed."""
        found = [json.loads(file.read_text()) for file in self.folder.glob("outputs/runs/*/result.json")]
        return {result["seed"]: result for result in found}

    def run(self, seed: int = 0) -> RunFolder:
        [path] = self.folder.glob(f"outputs/runs/*-s{seed}")
        return RunFolder(path, path.name)


COMMANDS: dict[str, tuple[str, ...]] = {
    "serial": ("mixup=manifold", "seed=0,1", "-m"),
    "packed": ("mixup=manifold", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "-m"),
    "fp16": ("mixup=manifold", "trainer.precision=fp16"),
}


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Command]]:
    """All started at once, and done."""
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        started = {name: Command(folder / name, *words) for name, words in COMMANDS.items()}
    for command in started.values():
        command.finish()
    yield started
    for command in started.values():
        command.close()


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(name: str, *words: str, **environment: str) -> Command:
        started.append(Command(tmp_path / name, *words, **environment))
        return started[-1]

    yield start
    for command in started:
        command.close()


def test_a_run_records_its_gpu_and_its_peak_of_memory(commands: dict[str, Command]) -> None:
    results = commands["serial"].results
    assert sorted(results) == [0, 1]
    for result in results.values():
        assert result["hardware"]["device"] == "cuda"
        assert result["hardware"]["device_name"] == torch.cuda.get_device_name()
        assert 2**20 < result["peak_memory"] < torch.cuda.get_device_properties(0).total_memory


def test_packing_two_jobs_on_a_gpu_gives_the_serial_bits(commands: dict[str, Command]) -> None:
    """The serial sweep's jobs have more threads, which changes nothing of what a GPU computes."""
    serial, packed = commands["serial"], commands["packed"]
    assert sorted(packed.results) == [0, 1]
    for seed, result in packed.results.items():
        parts = compare(serial.run(seed), packed.run(seed), [])
        assert [part for part in parts if not part.identical] == []
        assert result["peak_memory"] > 2**20


def test_fp16_trains_as_well_as_bf16(commands: dict[str, Command]) -> None:
    [result] = commands["fp16"].results.values()
    assert result["hardware"]["precision"] == "fp16"
    assert abs(result["test"]["last"]["acc1"] - commands["serial"].results[0]["test"]["last"]["acc1"]) < 0.1


def test_a_run_that_was_killed_is_resumed_to_the_bit(
    train: Callable[..., Command], commands: dict[str, Command]
) -> None:
    words = ("mixup=manifold", "trainer.checkpoint_every=3steps")
    killed = train("killed", *words)
    killed.stop(signal.SIGKILL)
    assert not killed.results, "it was killed too late"
    again = train("killed", *words)
    assert "going on in epoch" in again.finish()
    parts = compare(commands["serial"].run(0), again.run(0), [])
    assert [part for part in parts if not part.identical] == []


def test_a_run_goes_on_without_its_gpu_and_says_so(train: Callable[..., Command]) -> None:
    words = ("trainer.epochs=20", "trainer.threads=1")
    train("moved", *words).stop(signal.SIGTERM)
    moved = train("moved", *words, CUDA_VISIBLE_DEVICES="")
    assert "device cuda, then cpu" in moved.finish()
    [result] = moved.results.values()
    assert "device cuda, then cpu" in result["changed"]
    assert result["hardware"]["device"] == "cpu"
