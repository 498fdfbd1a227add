"""Run folders and sweeps with known numbers, as a training would have left them; a browser to look at pages with."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from vicinal.analysis.load import RunSet, load_runs
from vicinal.runs.folder import RunFolder
from vicinal.tasks import CLASSIFICATION

from .following import EPOCHS, begun

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CONFIG: dict[str, Any] = {
    "output_dir": "/somewhere/outputs",
    "rerun": False,
    "dataset": {"_target_": "vicinal.data.sources.digits", "root": "data", "val_size": 200},
    "model": {"_target_": "vicinal.models.cnn.CNN", "hidden_dropout": 0.5},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.0005},
    "scheduler": {"_target_": "vicinal.training.schedules.cosine", "warmup_epochs": 0},
    "trainer": {"epochs": 2, "batch_size": 64, "precision": "auto", "threads": "auto", "log_every": 20},
    "wandb": {"mode": "disabled"},
}
TARGETS = {"none": "NoMix", "input": "InputMixup", "manifold": "ManifoldMixup", "cutmix": "CutMix"}
HARDWARE = {"device": "cpu", "device_name": "a processor", "precision": "fp32", "threads": 1}


def metrics(acc1: float) -> dict[str, float]:
    """Every metric that all runs of the task have, following from the accuracy."""
    known = {"acc1": acc1, "acc5": min(1.0, acc1 + 0.25), "nll": 2 * (1 - acc1), "ece": (1 - acc1) / 4}
    return {metric.key: known.get(metric.key, (1 - acc1) / 2) for metric in CLASSIFICATION.computed}


class Runs:
    """Writes run folders below ``<outputs>/runs``, and sweeps of them."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        mixup: str,
        alpha: float | None,
        seed: int,
        acc1: float | Sequence[float] | None,
        *,
        val: float | None = 0.5,
        status: str = "completed",
        cell: str = "",
        about: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Path:
        """One run.

        Args:
            mixup: its strategy.
            alpha: of it; None for none.
            seed: of the run.
            acc1: on test: last, best_val, median10; one number stands for all three.
            val: accuracy on validation; None for no validation split.
            status: "completed", "failed", "stopped" or "missing".
            cell: ten hex digits; else of mixup, alpha and settings.
            about: more or other entries of ``result.json``; dicts are merged.
            settings: of the config, ``trainer__epochs=3``; a group alone is its option.
        """
        config = deepcopy(CONFIG) | {"seed": seed, "mixup": {"_target_": f"vicinal.mixing.{TARGETS[mixup]}"}}
        if alpha is not None:
            config["mixup"] |= {"alpha": alpha, "prob": 1.0}
        choices = {"dataset": "digits", "model": "cnn", "optimizer": "sgd", "scheduler": "cosine", "mixup": mixup}
        for name, value in settings.items():
            group, _, key = name.partition("__")
            if key:
                config[group][key] = value
            else:
                choices[group] = value
        cell = cell or sha256(f"{mixup} {alpha} {sorted(settings.items())}".encode()).hexdigest()[:10]
        name = f"digits-cnn-{mixup}" + ("" if alpha is None else f"-alpha{alpha:g}")
        path = self.outputs / "runs" / f"{name}-{cell}-s{seed}"
        values = {"mixup": mixup, "mixup.alpha": "-" if alpha is None else f"{alpha:g}"}
        for key, value in settings.items():
            values[key.replace("__", ".")] = str(value)
        run_id = f"{cell}-s{seed}"
        entry = {"run_id": run_id, "cell_id": cell, "seed": seed, "name": name, "folder": path.name}
        self.entries.append({**entry, "overrides": [], "values": values})
        heading = {"run_id": run_id, "cell_id": cell, "name": name, "seed": seed, "choices": choices, "config": config}
        if status != "missing":
            write_run(path, status, heading, acc1, val, about or {})
        return path

    def sweep(self, *swept: str, name: str = "mixup+alpha-0123456789") -> Path:
        """A sweep of all runs so far, by these keys."""
        folder = self.outputs / "sweeps" / name
        folder.mkdir(parents=True, exist_ok=True)
        runs = [{**run, "values": {key: run["values"].get(key, "-") for key in swept}} for run in self.entries]
        content = {"command": ["train.py", "-m"], "swept": list(swept), "runs": runs}
        (folder / "sweep.json").write_text(json.dumps(content))
        return folder

    def found(self, *swept: str) -> RunSet:
        return load_runs(self.sweep(*swept))


def write_run(
    path: Path,
    status: str,
    heading: Mapping[str, Any],
    acc1: float | Sequence[float] | None,
    val: float | None,
    about: Mapping[str, Any],
) -> None:
    """What a run leaves in its folder."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.config.write_text(json.dumps({**heading["config"], "_choices_": heading["choices"]}))  # JSON is YAML
    if status == "stopped":
        return
    if status == "failed":
        folder.fail(heading, about.get("error", "the loss is not finite"))
        return
    assert acc1 is not None
    last, best, median = [acc1] * 3 if isinstance(acc1, (int, float)) else acc1
    result: dict[str, Any] = {
        **heading,
        "status": "completed",
        "epochs": heading["config"]["trainer"]["epochs"],
        "best_epoch": None if val is None else 1,
        "val": None if val is None else metrics(val),
        "val_best": None if val is None else metrics(val),
        "test": {
            "last": metrics(last),
            "best_val": None if val is None else metrics(best),
            "median10": metrics(median),
        },
        "seconds": {"setup": 0.5, "train": 2.0, "evaluation": 0.25, "total": 3.0},
        "images_per_second": 1000.0,
        "hardware": HARDWARE,
        "versions": {"torch": "2.15.0", "vicinal": "0.1.0"},
        "changed": [],
        "wandb": {"mode": "disabled", "id": None},
    }
    for key, value in about.items():
        result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    rows = []
    for epoch in range(1, result["epochs"] + 1):
        row = {"epoch": epoch, "step": 20 * epoch, "lr": 0.1, "train/loss": 2 / epoch, "train/acc1": last * epoch / 4}
        parts = {"test": last} if val is None else {"test": last, "val": val}
        for part, score in parts.items():
            row |= {f"{part}/{metric}": number for metric, number in metrics(score).items()}
        rows.append({**row, "throughput": 1000.0, "seconds": 1.0})
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.environment.write_text(json.dumps({**HARDWARE, "versions": result["versions"], "source": "0123456789"}))
    folder.checkpoint.write_bytes(b"weights")
    folder.complete(result)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "outputs")


@pytest.fixture
def grid(runs: Any) -> dict[str, Path]:
    """A run in every state."""
    return {
        "completed": runs.add("none", None, 0, 0.75, val=0.5, trainer__epochs=EPOCHS),
        "failed": runs.add("none", None, 1, None, status="failed", about={"error": "no <memory>"}),
        "running": runs.add("input", 0.2, 0, None, status="stopped"),
        "stopped": runs.add("input", 0.2, 1, None, status="stopped"),
        "planned": runs.add("input", 0.4, 0, None, status="missing"),
    }


@pytest.fixture
def sweep(runs: Any, grid: dict[str, Path]) -> Path:
    begun(grid["running"], [0.25, 0.5])
    begun(grid["stopped"], [0.25])
    return runs.sweep("mixup", "mixup.alpha")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import Error, sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"no browser: none of {', '.join(BROWSERS)} and not playwright's own: {error.message[:80]}")
        yield browser
        browser.close()
