from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.tracking import RunInfo, WandbTracker


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    return RunInfo(
        name="digits-cnn-input-alpha0.2-s0",
        run_id="c0ffee-s0",
        cell_id="c0ffee",
        config={"seed": 0, "mixup": {"alpha": 0.2, "layers": ["input", "conv1"]}, "dataset": {"root": None}},
        choices={"mixup": "input", "model": "cnn"},
        sweep="alpha_sweep",
        git_commit="0123abc",
        folder=tmp_path / "run",
        epochs=10,
        steps_per_epoch=4,
        batch_size=16,
    )


@pytest.fixture
def wandb_tracker(info: RunInfo) -> Callable[..., WandbTracker]:
    def build(mode: str = "offline", **changes: Any) -> WandbTracker:
        arguments: dict[str, Any] = {"project": "vicinal", "entity": None, "tags": ["digits", "input"], "images": 4}
        return WandbTracker(changes.pop("info", info), mode=mode, **(arguments | changes))

    return build
