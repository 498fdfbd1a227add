"""Parts written outside the package: a strategy of hooks and one YAML file, and a plan with more fields."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vicinal.mixing import InputMixup, MixPlan
from vicinal.mixing.context import Context
from vicinal.mixing.masks import Mask, ScalarMask

RESIZEMIX = '''
"""ResizeMix (arXiv 2012.11101): the whole partner, resized into a box whose side is uniform, is pasted."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vicinal.mixing import MixPlan, Mixup
from vicinal.mixing.masks import Boxes, Mask


@dataclass(frozen=True)
class Resized(Mask):
    boxes: Boxes

    def mix(self, x, other):
        mixed = x.clone()
        for row, image in enumerate(mixed):
            top, bottom, left, right = (side[row % len(side)] for side in self.boxes.sides)
            if top < bottom and left < right:
                image[:, top:bottom, left:right] = F.interpolate(other[row : row + 1], (bottom - top, right - left))[0]
        return mixed


@dataclass(frozen=True)
class ResizeMix(Mixup):
    low: float = 0.1
    high: float = 0.8

    def draw_lam(self, rows, generator, context):
        scale = torch.empty(rows, dtype=torch.float64).uniform_(self.low, self.high, generator=generator)
        return 1 - scale**2

    def make_plan(self, lam, partner, shape, generator, context):
        boxes = Boxes.sample(lam, shape[2:], generator)
        return MixPlan(boxes.outside, partner, mask=Resized(boxes))
'''
YAML = """
_target_: resizemix.ResizeMix
low: 0.1
high: 0.8
prob: 1.0
per_sample: false
"""
TINY = (
    "dataset.train_size=60",
    "dataset.val_size=20",
    "trainer.batch_size=20",
    "trainer.epochs=1",
    "trainer.threads=1",
    "trainer.precision=fp32",
    "wandb.mode=disabled",
)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module and a config of its own, as a user has it beside the installed package."""
    (tmp_path / "resizemix.py").write_text(RESIZEMIX)
    (tmp_path / "conf" / "mixup").mkdir(parents=True)
    (tmp_path / "conf" / "mixup" / "resizemix.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_resizemix_is_one_class_and_one_file(own: Path) -> None:
    words = ["--config-dir", "conf", "mixup=resizemix", "mixup.high=0.5", "mixup.per_sample=true", *TINY]
    ended = subprocess.run(
        [sys.executable, "-m", "vicinal", *words], cwd=own, capture_output=True, text=True, env={"PYTHONPATH": str(own)}
    )
    assert ended.returncode == 0, ended.stderr
    (file,) = own.glob("outputs/runs/*resizemix*/metrics.jsonl")
    row = json.loads(file.read_text())
    assert 0 < row["mixing/lam_mean_partner"] <= 0.25  # the area of a box of half the side
    assert row["train/acc1_ceiling"] == pytest.approx(1 - row["mixing/lam_mean_partner"], abs=0.05)
    assert "mixing/lam_law" not in row


def test_resizemix_draws_like_all_strategies(own: Path) -> None:
    from resizemix import ResizeMix  # type: ignore[import-not-found]

    shape = (2000, 3, 32, 32)
    plan = ResizeMix(prob=0.5, per_sample=True).sample(shape, torch.Generator().manual_seed(0))
    assert sorted(plan.partner.tolist()) == list(range(2000))
    mixed = plan.lam < 1
    assert 900 < int(mixed.sum()) < 1100
    assert float(plan.lam.min()) >= 1 - 0.8**2
    images = torch.randn(2000, 1, 32, 32)
    assert torch.equal(plan.mix(images)[~mixed], images[~mixed])
    for prob in (0.0, 1.0):
        assert ResizeMix(prob=prob).sample(shape, torch.Generator().manual_seed(0)).active == bool(prob)


@dataclass(frozen=True)
class NoisyPlan(MixPlan):
    """With noise that is added to what is mixed, and a mask of another kind."""

    noise: Tensor | None = None
    second: Mask | None = None
    name: str = ""


@dataclass(frozen=True)
class NoisyMixup(InputMixup):
    def make_plan(
        self, lam: Tensor, partner: Tensor, shape: Sequence[int], generator: torch.Generator, context: Context
    ) -> NoisyPlan:
        noise = torch.randn(shape[0], generator=generator)
        return NoisyPlan(lam, partner, noise=noise, second=ScalarMask(noise), name="noisy")


def test_a_plan_with_more_fields_keeps_and_moves_them() -> None:
    plan = NoisyMixup(1.0).sample((6, 3, 4, 4), torch.Generator().manual_seed(0))
    assert isinstance(plan, NoisyPlan)
    assert plan.noise is not None
    assert (plan.lam.shape, plan.noise.shape, plan.name) == ((6,), (6,), "noisy")
    meta = torch.device("meta")
    moved = plan.to(meta)
    assert isinstance(moved, NoisyPlan)
    assert isinstance(moved.second, ScalarMask)
    assert isinstance(moved.noise, Tensor)
    assert [part.device for part in (moved.lam, moved.partner, moved.noise, moved.second.lam)] == [meta] * 4
    assert (moved.name, moved.active, moved.mask) == ("noisy", True, None)
    assert plan.noise.device.type == "cpu"
