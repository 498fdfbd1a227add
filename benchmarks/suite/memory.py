"""Peak memory of a run, in a process of its own, against its data set and what the barest loop takes.

python -m benchmarks.suite.memory ours|bare ... is what these processes run.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.suite.bench import Bar, Bench
from benchmarks.suite.processes import python
from benchmarks.suite.timing import Spread

STEPS = 12
ALLOWED = 1.3
WIDTH, BATCH = 16, 128


def measure(bench: Bench) -> None:
    """A run on many images, with a short epoch, from loading and splitting to its last checkpoint."""
    images = 20_000 if bench.quick else 200_000
    module = ("-m", "benchmarks.suite.memory")
    about = f"preact_resnet18, width {WIDTH}, batch {BATCH}, {images} images of 32 pixels"
    ratios, found = [], []
    for _ in range(1 if bench.quick else 3):
        ours = json.loads(
            python(
                *module, "ours", str(bench.folder / "run"), str(images), str(bench.threads), folder=bench.folder
            ).splitlines()[-1]
        )
        bare = json.loads(
            python(*module, "bare", ours["precision"], ours["device"], str(bench.threads), folder=bench.folder)
        )
        ratios.append(ours["peak"] / (ours["data"] + ALLOWED * bare["peak"]))
        found.append({"ours": ours, "bare": bare})
    bench.extra["bytes"] = found
    against = f"the data set and {ALLOWED} times a bare loop's peak"
    bench.row(f"peak memory of a run: {about}", against, Spread.of(ratios), bar=Bar(1, at_least=False))


def ours(folder: Path, images: int, threads: str) -> dict[str, Any]:
    """A whole run on synthetic images, whose epoch ends after a few steps."""
    from benchmarks.suite.synthetic import image_data
    from benchmarks.suite.trainings import experiment, run_on
    from vicinal import build
    from vicinal.data import Loader, Source, load

    class Short(Loader):
        def __len__(self) -> int:
            return min(super().__len__(), STEPS)

        def epoch(self, *words: Any, **more: Any) -> Generator[tuple[Tensor, Tensor], None, None]:
            yield from islice(super().epoch(*words, **more), STEPS)

    build.Loader = Short  # type: ignore[attr-defined]
    words = (
        "model=preact_resnet18",
        f"model.width={WIDTH}",
        f"trainer.threads={threads}",
        "trainer.epochs=1",
        "rerun=true",
    )
    job = experiment(folder, *words, "wandb.mode=offline")
    keys = ("val_size", "train_size", "split_seed", "mean", "std")

    def load_data() -> Any:
        made = image_data(images, 1000)
        source = Source(made.train, made.test, made.class_names)
        del made
        return load(source, **{name: job.dataset.values[name] for name in keys})

    run_on(job, load_data)
    data = (images + 1000) * (3 * 32 * 32 + 8)
    return {"data": data, "precision": job.hardware.precision, "device": job.hardware.device.type, **peak()}


def bare(precision: str, device: str, threads: int) -> dict[str, Any]:
    """Forward, backward and step on one batch, with nothing else in the process."""
    from vicinal.models.preact_resnet import PreActResNet

    torch.set_num_threads(threads)
    model = PreActResNet(3, 32, 10, width=WIDTH).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    for _ in range(STEPS):
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return peak()


def peak() -> dict[str, int]:
    """Return the peak in bytes: of the GPU's allocator if it was used, else resident in this process."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {"peak": torch.cuda.max_memory_allocated(), "host_peak": _resident()}
    return {"peak": _resident()}


def _resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage begins with what the parent had when it started this process
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))[0])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    found = ours(Path(given[0]), int(given[1]), given[2]) if kind == "ours" else bare(given[0], given[1], int(given[2]))
    print(json.dumps(found))
