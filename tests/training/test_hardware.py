"""What "auto" becomes, and what a run leaves to the next one of its process."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Train
from vicinal.config.schema import TrainerConfig
from vicinal.errors import ConfigError
from vicinal.training import hardware


def test_auto_threads_do_not_depend_on_the_run_before(compose: Callable[..., Any]) -> None:
    first = compose("trainer.threads=auto").hardware
    other = first.threads + 1
    hardware.apply(compose(f"trainer.threads={other}").hardware, TrainerConfig())
    assert torch.get_num_threads() == other
    assert compose("trainer.threads=auto").hardware == first


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        ((), 1),  # the default job
        (("model=mlp",), 1),
        (("model=mlp", "model.hidden=[4096,4096,4096]", "trainer.batch_size=512"), 6),
        (("model=preact_resnet18", "model.width=16"), 1),
        (("model=preact_resnet18", "model.width=24"), 6),
        (("experiment=mnist_cnn",), 6),
        (("trainer.threads=3",), 3),
    ],
)
def test_auto_threads_follow_the_work(
    compose: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], threads: int
) -> None:
    monkeypatch.setattr(hardware, "CHOSEN", False)
    monkeypatch.setattr(hardware, "auto_threads", lambda: 6)
    assert compose(*words).hardware.threads == threads
    monkeypatch.setattr(hardware, "CHOSEN", True)  # by OMP_NUM_THREADS
    assert compose(*words).hardware.threads == (3 if threads == 3 else 6)


@pytest.mark.parametrize(
    ("chosen", "share", "threads"), [(False, None, 4), (False, "2", 2), (True, None, 6), (True, "2", 2), (True, "9", 4)]
)
def test_auto_threads_are_what_a_process_may_use(
    monkeypatch: pytest.MonkeyPatch, chosen: bool, share: str | None, threads: int
) -> None:
    """Six that torch takes by itself or by OMP_NUM_THREADS, on four cores; parallel jobs have a share of these."""
    monkeypatch.setattr(hardware, "CHOSEN", chosen)
    monkeypatch.setattr(hardware, "TORCH_THREADS", 6)
    monkeypatch.setattr(hardware, "usable_cores", lambda: min(4, int(share or 4)))
    monkeypatch.delenv("VICINAL_CORES", raising=False)
    if share:
        monkeypatch.setenv("VICINAL_CORES", share)
    assert hardware.auto_threads() == threads


def test_work_is_counted_by_the_shapes_of_the_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 5))
    assert hardware.work(model, places=64, batch_size=10) == 10 * (18 * 64 + 72 * 5) // 2
    assert hardware.work(torch.nn.Identity(), places=64, batch_size=10) == 0


def test_deterministic_algorithms_end_with_the_run(compose: Callable[..., Any]) -> None:
    for wish in (True, False):
        experiment = compose(f"trainer.deterministic={wish}")
        hardware.apply(experiment.hardware, experiment.trainer)
        assert torch.are_deterministic_algorithms_enabled() is wish


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"precision": "fp16"}, "trainer.precision=fp16: must be one of what cpu can do: auto, bf16, fp32"),
        ({"threads": 0}, "trainer.threads=0: must be auto or an integer >= 1"),
        ({"threads": "two"}, "trainer.threads=two: must be auto or an integer >= 1"),
    ],
)
def test_refusals(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hardware.resolve(TrainerConfig(device="cpu", **settings))
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("capabilities", "first"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "AMD EPYC 9R14"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, "fp32"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_bf16_where_it_is_faster_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], first: str
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    asked = ("auto", "bf16", "fp32")
    resolved = {name: hardware.resolve(TrainerConfig(device="cpu", precision=name)) for name in asked}
    assert resolved["auto"].precision == first
    slow = {name: one.slow for name, one in resolved.items()}
    assert slow == {"auto": False, "bf16": first == "fp32", "fp32": False}


@pytest.mark.parametrize("slow", [True, False])
def test_bf16_that_is_slower_is_said(train: Train, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": not slow})
    code, out, err = train("trainer.precision=bf16", "trainer.epochs=1", "model=mlp")
    line = "trainer.precision=bf16 is slower than fp32 on this processor, up to ten times if it only emulates it"
    assert (code, (out + err).count(line)) == (0, slow)


@pytest.mark.parametrize(("native", "first"), [(True, "bf16"), (False, "fp32")])
def test_bf16_where_a_gpu_does_not_emulate_it(monkeypatch: pytest.MonkeyPatch, native: bool, first: str) -> None:
    monkeypatch.setattr(hardware, "_present", lambda name: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native or including_emulation)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (7, 5))
    assert hardware.resolve(TrainerConfig(device="cuda")).precision == first


@pytest.mark.parametrize(
    ("triton", "capability", "compilers", "lacking"),
    [
        (True, (9, 0), {"gcc"}, None),
        (True, (7, 0), {"clang"}, None),
        (True, (9, 0), {"g++"}, "a C compiler"),
        (True, (6, 1), {"gcc"}, "a GPU of compute capability 7.0"),
        (False, (9, 0), {"gcc"}, "Triton"),
    ],
)
def test_a_gpu_compiles_where_it_can(
    monkeypatch: pytest.MonkeyPatch, triton: bool, capability: tuple[int, int], compilers: set[str], lacking: str | None
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(hardware, "_present", lambda name: True)
    monkeypatch.setattr(hardware, "find_spec", lambda name: triton or None)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("shutil.which", lambda name: name if name in compilers else None)
    assert hardware.resolve(TrainerConfig(device="cuda")).compile is (lacking is None)
    if lacking is None:
        assert hardware.resolve(TrainerConfig(device="cuda", compile=True)).compile
    else:
        with pytest.raises(ConfigError, match=f"must be auto or false: on cuda it needs {lacking}$"):
            hardware.resolve(TrainerConfig(device="cuda", compile=True))


def test_other_devices_are_not_asked_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_present", lambda name: True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert hardware.resolve(TrainerConfig(device="mps", compile=True)).compile
    assert not hardware.resolve(TrainerConfig(device="mps")).compile
    assert not hardware.resolve(TrainerConfig(device="cpu")).compile
    with pytest.raises(ConfigError, match=r"must be auto or false: on cpu it needs a C\+\+ compiler$"):
        hardware.resolve(TrainerConfig(device="cpu", compile=True))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_products(precision: str, dtype: torch.dtype) -> None:
    with hardware.resolve(TrainerConfig(device="cpu", precision=precision)).autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


FAULTS = """
import ctypes, resource, sys
import torch
from vicinal.training.malloc import retain_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    for size in (64, 1, 16, 40):
        torch.empty(size * 2**20, dtype=torch.uint8).fill_(1)

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where pages are huge, there are few faults
if "keep" in sys.argv:
    retain_freed_memory()
for _ in range(40):  # until what is free has found its place
    step()
before = faults()
for _ in range(4):
    step()
print((faults() - before) // 4)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: its memory is left to it")
def test_a_step_touches_no_page_that_the_last_one_has_not() -> None:
    """A page has 4 KiB or more; 64 KiB on some ARM machines."""

    def counted(*words: str, **variables: str) -> int:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, *words], env={**clean, **variables}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert counted() >= 64 * 2**20 // 2**16
    assert counted("keep") < 10
    assert counted("keep", MALLOC_MMAP_THRESHOLD_="1000000") >= 64 * 2**20 // 2**16  # the user's own wish


def test_the_compiler_starts_no_more_processes_than_a_job_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with more of them, as the workers of a parallel sweep share it; a number of the user's own stays."""
    import torch._inductor.config as inductor

    compiled, eager = (hardware.Hardware(torch.device("cpu"), "fp32", 1, on) for on in (True, False))
    monkeypatch.setenv("VICINAL_CORES", "1")
    for name in ("TORCHINDUCTOR_COMPILE_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    with inductor.patch(compile_threads=24):
        hardware.apply(eager, TrainerConfig())
        assert inductor.compile_threads == 24
        hardware.apply(compiled, TrainerConfig())
        assert inductor.compile_threads == 1
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "24")
    with inductor.patch(compile_threads=24):
        hardware.apply(compiled, TrainerConfig())
        assert inductor.compile_threads == 24


COUNTING = """
import json, sys
from torch._dynamo.utils import counters
from vicinal.cli.train import main

main()
print(json.dumps(counters["inductor"]))
"""


@pytest.mark.slow
def test_a_second_job_compiles_nothing_again(tmp_path: Path) -> None:
    """In another process, with other numbers and the same network: what torch does by itself, and we rely on."""
    words = ("model=mlp", "model.hidden=[8]", "dataset.train_size=64", "dataset.val_size=32", "dataset.augment=true")
    words += ("trainer.batch_size=32", "trainer.epochs=1", "trainer.precision=fp32", "trainer.device=cpu")
    words += ("trainer.compile=true", "wandb.mode=disabled", "mixup=manifold", "mixup.layers=[hidden1]")
    environment = {name: value for name, value in os.environ.items() if "INDUCTOR" not in name}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    found = []
    for number in ("1", "2"):
        own = (f"mixup.alpha={number}", f"seed={number}", f"output_dir={tmp_path / 'outputs'}")
        command = [sys.executable, "-c", COUNTING, *words, *own]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        found.append(json.loads(said.splitlines()[-1]))
    first, second = found
    assert first["fxgraph_cache_miss"] > 0
    assert second["fxgraph_cache_hit"] == first["fxgraph_cache_miss"] + first.get("fxgraph_cache_hit", 0)
    assert "fxgraph_cache_miss" not in second
