"""What README and docs say of GPUs, on a GPU: ``pytest -m gpu -n 0``, under three minutes.

The checks are those of ``scripts/benchmark.py --only gpu``, each held against its limit; whole commands follow.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.bench import Bench
from benchmarks.suite.gpu import fast_paths, step_checks, training_checks
from vicinal.config.schema import TrainerConfig
from vicinal.data import Samples
from vicinal.data.store import fits
from vicinal.jobs.bitwise_diff import compare
from vicinal.launch import gpu_memory
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


def right(bench: Bench) -> bool:
    """Whether all checks so far hold; what does not is shown by pytest."""
    assert bench.rows
    assert [row for row in bench.rows if not row.holds] == [], bench.extra
    return not bench.failures


# The checks of the benchmark


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", step_checks.STRATEGIES)
def test_strategies_against_the_cpu(bench: Bench, name: str, precision: str) -> None:
    step_checks.step_against_cpu(bench, name, step_checks.STRATEGIES[name], precision)
    assert right(bench)


def test_compiled_steps_against_the_cpu(bench: Bench) -> None:
    step_checks.step_against_cpu(bench, "cutmix", step_checks.STRATEGIES["cutmix"], "bf16", compiled=True)
    assert right(bench)


def test_gradients_of_chosen_partners_are_those_of_an_index(bench: Bench) -> None:
    fast_paths.chosen_partners(bench)
    assert right(bench)


@pytest.mark.parametrize("mixup", ["none", "input", "manifold", "cutmix"])
def test_no_sync_in_a_step(bench: Bench, mixup: str) -> None:
    per_sample = ("mixup.per_sample=true",) if mixup == "cutmix" else ()
    training_checks.waits_of(bench, f"mixup={mixup}", *per_sample, "trainer.compile=false")
    assert right(bench)


@pytest.mark.parametrize("words", ["trainer.compile=true", "trainer.precision=fp16"])
def test_no_sync_in_a_compiled_step_or_in_fp16(bench: Bench, words: str) -> None:
    training_checks.waits_of(bench, "mixup=input", words)
    assert right(bench)


@pytest.mark.parametrize("network", [training_checks.SMALL, training_checks.DROPOUT], ids=["norm", "dropout"])
@pytest.mark.parametrize("mixup", ["input", "manifold", "cutmix"])
def test_determinism(bench: Bench, mixup: str, network: tuple[str, ...]) -> None:
    words = (f"mixup={mixup}", "mixup.per_sample=true", "trainer.compile=false")
    training_checks.deterministic(bench, *words, network=network)
    assert right(bench)


def test_determinism_of_compiled_steps(bench: Bench) -> None:
    training_checks.deterministic(bench, "mixup=input", "trainer.compile=true", network=training_checks.DROPOUT)
    assert right(bench)


def test_resume_to_the_bit(bench: Bench) -> None:
    training_checks.resume(bench)
    assert right(bench)


def test_a_checkpoint_beside_the_training_is_that_of_its_moment(bench: Bench) -> None:
    fast_paths.checkpoints(bench)
    assert right(bench)


def test_fp16_and_its_scaler(bench: Bench) -> None:
    step_checks.fp16(bench)
    assert right(bench)


@pytest.mark.parametrize("mixup", ["manifold", "cutmix"])
def test_graph_counts(bench: Bench, mixup: str) -> None:
    training_checks.graphs(bench, mixup)
    assert right(bench)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # torch captures one on purpose
def test_cuda_graphs_change_no_bit(bench: Bench) -> None:
    training_checks.cuda_graphs_of(bench, "mixup=input")
    assert right(bench)


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize("mixup", ["input", "cutmix"])
def test_batches_mixed_as_they_are_made(bench: Bench, mixup: str, stream: str) -> None:
    words = (f"mixup={mixup}", "mixup.per_sample=true", f"trainer.stream={stream}")
    fast_paths.mixed_as_made_of(bench, *words)
    assert right(bench)


def test_streaming_gives_the_resident_batches(bench: Bench) -> None:
    fast_paths.streaming(bench)
    assert right(bench)


# What "auto" means


def test_auto_is_bf16_and_compiled_where_the_gpu_can() -> None:
    hardware = resolve(TrainerConfig())
    assert hardware.device.type == "cuda"
    assert hardware.precision == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32")
    assert hardware.compile is bool(shutil.which(os.environ.get("CC", "gcc")) or shutil.which("clang"))


def test_streaming_begins_where_half_of_the_free_memory_would_not_do() -> None:
    """Of data that are one image, many times over, in the memory of one."""
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    for share, enough in ((0.4, True), (0.6, False)):
        count = int(share * free) // image.numel()
        data = Samples(image.expand(count, -1, -1, -1), torch.zeros(1, dtype=torch.int64).expand(count))
        assert fits(data, device) is enough


def test_a_job_waits_until_another_gives_memory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the GPU that is there; the other job is nine tenths of its locks."""
    gpus = gpu_memory.visible()[:1]
    monkeypatch.setattr(gpu_memory, "visible", lambda: gpus)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = ExitStack()
    other.enter_context(gpu_memory.reserve(int(0.9 * gpus[0].free), 2))
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        other.close()

    monkeypatch.setattr(gpu_memory.time, "sleep", sleep)
    with gpu_memory.reserve(int(0.5 * gpus[0].free), 2):
        assert torch.cuda.current_device() == 0
    assert len(looks) == 1


def test_the_gpu_is_seen_with_its_memory() -> None:
    [gpu, *_] = gpu_memory.visible()
    assert gpu.uuid.count("-") == 4
    assert 0 < gpu.free <= gpu.total == torch.cuda.get_device_properties(0).total_memory


# Whole commands, all at the same time: each takes long to start


class Command:
    """``train.py`` in a folder of its own; what it says goes to a file."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.folder, self._log = folder, folder.with_suffix(".log")
        folder.mkdir(exist_ok=True)
        variables = {**os.environ, "WANDB_MODE": "disabled", **environment}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(TRAIN), *TINY, *words],
                cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text()

    def finish(self) -> None:
        assert self.process.wait(timeout=150) == 0, self.said

    @property
    def epochs(self) -> int:
        """That the only run has done."""
        return sum(file.read_bytes().count(b"\n") for file in self.folder.glob("outputs/runs/*/metrics.jsonl"))

    @property
    def results(self) -> dict[int, dict[str, Any]]:
        """By seed."""
        found = [json.loads(file.read_text()) for file in self.folder.glob("outputs/runs/*/result.json")]
        return {result["seed"]: result for result in found}

    def run(self, seed: int = 0) -> RunFolder:
        [path] = self.folder.glob(f"outputs/runs/*-s{seed}")
        return RunFolder(path, path.name)


KILLED = ("mixup=manifold", "trainer.checkpoint_every=3steps")
MOVED = ("trainer.epochs=20", "trainer.threads=1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "serial": ("mixup=manifold", "seed=0,1", "-m"),
    "packed": ("mixup=manifold", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "-m"),
    "fp16": ("mixup=manifold", "trainer.precision=fp16"),
    "killed": KILLED,
    "moved": MOVED,
}
STOPS = {"killed": signal.SIGKILL, "moved": signal.SIGTERM}


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Command]]:
    """All done. Two were stopped after their first epoch, and started again: one of them without the GPU."""
    folder = tmp_path_factory.mktemp("commands")
    started = {name: Command(folder / name, *words) for name, words in COMMANDS.items()}
    try:
        left, limit = dict(STOPS), time.monotonic() + 120
        while left:
            assert time.monotonic() < limit, {name: started[name].said for name in left}
            for name in [name for name in left if started[name].epochs]:
                started[name].process.send_signal(left.pop(name))
            time.sleep(0.002)
        for name in STOPS:
            started[name].process.wait()
            assert not started[name].results, f"{name} was stopped too late"
        started["killed"] = Command(folder / "killed", *KILLED)
        started["moved"] = Command(folder / "moved", *MOVED, CUDA_VISIBLE_DEVICES="")
        for command in started.values():
            command.finish()
        yield started
    finally:
        for command in started.values():
            command.process.kill()
            command.process.wait()


def test_a_run_records_its_gpu_and_its_peak_of_memory(commands: dict[str, Command]) -> None:
    results = commands["serial"].results
    assert sorted(results) == [0, 1]
    for result in results.values():
        assert result["hardware"]["device"] == "cuda"
        assert result["hardware"]["device_name"] == torch.cuda.get_device_name()
        assert result["hardware"]["tf32"] == "convolutions"
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


def test_a_run_that_was_killed_is_resumed_to_the_bit(commands: dict[str, Command]) -> None:
    assert "going on in epoch" in commands["killed"].said
    parts = compare(commands["serial"].run(0), commands["killed"].run(0), [])
    assert [part for part in parts if not part.identical] == []


def test_a_run_goes_on_without_its_gpu_and_says_so(commands: dict[str, Command]) -> None:
    moved = commands["moved"]
    assert "device cuda, then cpu" in moved.said
    [result] = moved.results.values()
    assert "device cuda, then cpu" in result["changed"]
    assert result["hardware"]["device"] == "cpu"
