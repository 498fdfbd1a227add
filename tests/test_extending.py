"""docs/extending.md is true: its files, written as they stand there, make a sweep and runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vicinal.data import digits

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
SMALL = ("trainer.epochs=1", "dataset.train_size=100", "trainer.threads=1", "wandb.mode=disabled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    source = digits()
    parts = {"train": source.train, "test": source.test}
    arrays = {f"{name}_images": part.pixels().numpy() for name, part in parts.items()}
    np.savez(folder / "mine.npz", **arrays, **{f"{name}_labels": part.labels.numpy() for name, part in parts.items()})
    return folder


def train(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(
        [sys.executable, ROOT / "train.py", "--config-dir", "my", *SMALL, *words],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def results(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("runs/*/result.json"))]


def test_the_page_has_a_file_of_each_kind() -> None:
    assert {Path(name).parent.name for name in FILES if name.startswith("my/")} == {
        "mixup", "dataset", "optimizer", "scheduler", "model", "tracker",
    }  # fmt: skip


def test_a_strategy_is_crossed_in_a_sweep(folder: Path) -> None:
    words = ("mixup=none,resizemix", "mixup.high=0.4,0.8", "mixup.per_sample=false,true", "output_dir=sweep", "-m")
    assert "resizemix" in train(folder, *words)
    found = results(folder / "sweep")
    assert sorted(result["choices"]["mixup"] for result in found) == ["none", *["resizemix"] * 4]


def test_all_the_others_make_a_run(folder: Path) -> None:
    words = (
        "dataset=mine",
        "dataset.root=.",
        "model=small",
        "optimizer=nadam",
        "scheduler=polynomial",
        "mixup=manifold",
    )
    printed = train(folder, *words, "mixup.layers=[input,block1]", "mixup.clean_weight=1", "tracker=[csv,epochs]",
                    "output_dir=run")  # fmt: skip
    assert "my epoch 1" in printed
    [result] = results(folder / "run")
    assert list(result["data"]) == ["mine.npz"]
    assert result["choices"]["optimizer"] == "nadam"
    assert len(list(folder.glob("run/runs/*/metrics.csv"))) == 1


def test_the_pasted_image_is_the_whole_partner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant images keep their value when they are made smaller, so the mean says the area, which is 1 - lambda."""
    monkeypatch.syspath_prepend(str(folder))
    from my_mixing import ResizeMix

    for per_sample in (False, True):
        plan = ResizeMix(per_sample=per_sample).sample((6, 3, 16, 16), torch.Generator().manual_seed(1))
        images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 16, 16)
        expected = plan.lam * torch.arange(6) + (1 - plan.lam) * plan.partner
        torch.testing.assert_close(plan.mix(images).mean(dim=(1, 2, 3)), expected)
        assert ((plan.lam > 1 - 0.85**2) & (plan.lam < 1)).all()
