"""Device, precision and threads of a run: those that are requested, if this machine has them, or the best it has."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vicinal.config.schema import TrainerConfig
from vicinal.errors import ConfigError
from vicinal.training.malloc import retain_freed_memory
from vicinal.utils.cores import is_shared, usable_cores

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

TRITON_CAPABILITY = (7, 0)  # GPUs older than Volta have no compiled kernels
CHOSEN = any(name in os.environ for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
"""True if the user has set torch's number of threads."""
TORCH_THREADS = torch.get_num_threads()  # threads that torch takes by itself; read at import, before a run changes it
SMALL = 200_000_000
"""Multiplications per layer and step, as `work` counts them, below which a run gets one CPU thread.

There a second thread gains up to a third, and beside busy processes it can make the run a hundred times slower. Time
per step of one thread per that of two, in turns, on two quiet cores: in bf16 with AMX 1.07 to 1.18 at 20 million (the
default job), 1.22 to 1.25 at 140 (preact_resnet18, width 16, digits), 1.45 at 310 (width 24), 1.48 at 250 (mnist_cnn);
in fp32 without AMX 1.15, 1.31, 1.38 and 1.68, and 0.94 at 34 million (width 8).
"""


@dataclass(frozen=True)
class Hardware:
    """Hardware that a run uses. With the torch version, it decides the last bits of a result."""

    device: torch.device
    precision: str  # fp32, bf16 or fp16
    threads: int
    compile: bool = False
    cuda_graphs: bool = False  # launch the kernels of a compiled step together, as a recorded graph
    slow: bool = False  # in this precision the device is slower than in fp32

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])


def work(model: nn.Module, places: int, batch_size: int) -> int:
    """Return the mean over the layers of the multiplications in a step's forward pass, from the shapes of the weights.

    Each weight of a convolution is counted once per pixel of an image, as if no layer made it smaller; any other once.
    Samples have so many ``places``: pixels, or points in time.
    """
    weights = [part for part in model.parameters() if part.ndim > 1]
    return batch_size * sum(part.numel() * (places if part.ndim > 2 else 1) for part in weights) // max(1, len(weights))


def auto_threads() -> int:
    """Return the threads of a job with enough work for several."""
    return TORCH_THREADS if CHOSEN and not is_shared() else min(TORCH_THREADS, usable_cores())


def resolve(settings: TrainerConfig, work: int | None = None) -> Hardware:
    """Resolve every "auto" to what this machine has, and what pays off for the :func:`work`, if that is known.

    Raises ConfigError: there is no such device, it cannot do the precision, or the number of threads is invalid.
    """
    devices = [name for name in ("cuda", "mps", "cpu") if _present(name)]
    name = devices[0] if settings.device == "auto" else settings.device
    if name not in devices:
        raise ConfigError("trainer.device", name, f"must be one of what this machine has: auto, {', '.join(devices)}")
    precisions = _precisions(name)
    precision = precisions[0] if settings.precision == "auto" else settings.precision
    if precision not in precisions:
        allowed = ", ".join(sorted(precisions))
        raise ConfigError("trainer.precision", precision, f"must be one of what {name} can do: auto, {allowed}")
    small = name == "cpu" and work is not None and work < SMALL and not CHOSEN
    threads = (1 if small else auto_threads()) if settings.threads == "auto" else settings.threads
    if not isinstance(threads, int) or threads < 1:
        raise ConfigError("trainer.threads", threads, "must be auto or an integer >= 1")
    lacking = _lacking_to_compile(name)
    compiled = name == "cuda" and not lacking if settings.compile == "auto" else bool(settings.compile)
    if compiled and lacking:
        raise ConfigError("trainer.compile", settings.compile, f"must be auto or false: on {name} it needs {lacking}")
    graphs = settings.compile == "max"
    if graphs and name != "cuda":
        raise ConfigError("trainer.compile", "max", f"must be auto, true or false: {name} has no CUDA graphs")
    slow = name == "cpu" and precision != "fp32" and precisions[0] == "fp32"
    return Hardware(torch.device(name), precision, threads, compiled, graphs, slow)


def _present(name: str) -> bool:
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]


def _precisions(device: str) -> list[str]:
    """Return the precisions of a device, the one that "auto" takes first."""
    if device == "cuda":
        # Emulated bf16 (before Ampere) is slower than fp32.
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return ["bf16", "fp32", "fp16"] if fast else ["fp32", "fp16"]
    if device == "mps":
        return ["fp32", "fp16"]
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    # Intel's processors do not multiply bf16 faster than fp32 in AVX-512. On a Xeon without AMX, fp32 was 1.13 to 1.6
    # times as fast (docs/configuration.md), and products of large matrices twice. AMD's do.
    fast = has.get("amx_bf16") or (has.get("avx512_bf16") and "Intel" not in has.get("cpu_name", ""))
    return ["bf16", "fp32"] if fast else ["fp32", "bf16"]


def _lacking_to_compile(device: str) -> str:
    """Name the missing requirement of torch.compile on a device, or return an empty string."""
    if device == "mps":  # the system compiles kernels
        return ""
    if device == "cuda" and not find_spec("triton"):
        return "Triton"
    if device == "cuda" and torch.cuda.get_device_capability() < TRITON_CAPABILITY:
        return "a GPU of compute capability 7.0"
    language, variable, *compilers = (
        ("C++", "CXX", "g++", "clang++") if device == "cpu" else ("C", "CC", "gcc", "clang")
    )
    compilers[0] = os.environ.get(variable, compilers[0])
    return "" if any(map(shutil.which, compilers)) else f"a {language} compiler"


def apply(hardware: Hardware, settings: TrainerConfig) -> None:
    """Set up the process for one run; the next run of a sweep sets it up again."""
    torch.set_num_threads(hardware.threads)
    if hardware.device.type == "cpu":
        retain_freed_memory()
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no deterministic kernels
    torch.use_deterministic_algorithms(settings.deterministic)
    if hardware.compile and "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
        from torch._inductor import config as compiler

        # Torch's own number, 32 at most, does not know what share of the machine a job has.
        compiler.compile_threads = min(compiler.decide_compile_threads(), usable_cores())
    # The fastest kernels, found by trial, may differ from run to run: only where the same bits are not requested.
    torch.backends.cudnn.benchmark = hardware.device.type == "cuda" and not settings.deterministic
