"""One offline sweep over the four strategies, with its report."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vicinal.config.schema import CONF

STRATEGIES = ("none", "input", "manifold", "cutmix")
SETTINGS = ("mixup.alpha=1", "trainer.epochs=2", "trainer.threads=1", "dataset.train_size=200", "wandb.images=6")


@dataclass
class OfflineSweep:
    """Attributes:
    folder: of the sweep.
    runs: {strategy: its folder}.
    wandb: {strategy: what W&B has of it}.
    """

    folder: Path
    runs: dict[str, Path]
    wandb: dict[str, Any]


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, read_offline_run: Callable[[Path], Any]) -> OfflineSweep:
    output = tmp_path_factory.mktemp("sweep")
    words = [f"mixup={','.join(STRATEGIES)}", *SETTINGS, "wandb.mode=offline", f"output_dir={output}", "-m"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, CONF.parent / "train.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    runs = {}
    for folder in (output / "runs").iterdir():
        runs[json.loads((folder / "result.json").read_text())["choices"]["mixup"]] = folder
    (folder,) = (output / "sweeps").iterdir()
    return OfflineSweep(folder, runs, {strategy: read_offline_run(path) for strategy, path in runs.items()})
