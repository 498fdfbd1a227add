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
from vicinal.mixing import MixPlan

from . import forked

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES: dict[str, str] = {}
for name, content in re.findall(r"```(?:python|yaml)\n# ([^\s,]+)(?:, continued)?\n(.*?)```", PAGE, re.DOTALL):
    FILES[name] = FILES.get(name, "") + content
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
    arrays = {f"{name}_images": part.gathered().numpy() for name, part in parts.items()}
    np.savez(folder / "mine.npz", **arrays, **{f"{name}_labels": part.targets.numpy() for name, part in parts.items()})
    return folder


def train(folder: Path, *words: str, start: bool = False) -> str:
    """In a process that is started, or forked."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    given = ["--config-dir", "my", *SMALL, *words]
    if start:
        command = [sys.executable, ROOT / "train.py", *given]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    else:
        ended = forked.run(given, folder, environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def results(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("runs/*/result.json"))]


def test_the_page_has_a_file_of_each_kind() -> None:
    assert {Path(name).parent.name for name in FILES if name.startswith("my/")} == {
        "mixup", "dataset", "optimizer", "scheduler", "model", "tracker",
    }  # fmt: skip


def test_a_strategy_is_crossed_in_a_sweep(folder: Path) -> None:
    words = ("mixup=none,stripes", "mixup.width=1,2", "mixup.per_sample=false,true", "output_dir=sweep", "-m")
    assert "stripes" in train(folder, *words)
    found = results(folder / "sweep")
    assert sorted(result["choices"]["mixup"] for result in found) == ["none", *["stripes"] * 4]


def test_own_parts_are_used_and_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, "mixup=mine", "output_dir=parts")
    [result] = results(folder / "parts")
    assert result["config"]["mixup"]["labels"] == {"_target_": "my_mixing.Sharpened", "power": 3.0}
    [file] = (folder / "parts").glob("runs/*/metrics.jsonl")
    row = json.loads(file.read_text())
    assert row["mixing/lam_law"][0] == pytest.approx(2 * 0.05**2)
    [environment] = (folder / "parts").glob("runs/*/environment.json")
    assert any(name.endswith("my_mixing.py") for name in json.loads(environment.read_text())["sources"])
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_mixing", raising=False)  # README.md has one too
    from my_mixing import Opposite, Sharpened, Triangular

    from vicinal.mixing import InputMixup

    strategy = InputMixup(1.0, law=Triangular(), partner=Opposite(), labels=Sharpened(power=3.0))
    plan = strategy.sample((6, 1, 4, 4), torch.Generator().manual_seed(0))
    assert plan.partner.tolist() == [3, 4, 5, 0, 1, 2]
    own = plan.applied_mask.own_share((6, 1, 4, 4))
    assert torch.allclose(plan.lam, own**3 / (own**3 + (1 - own) ** 3))


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
                    "output_dir=run", start=True)  # fmt: skip
    assert "my epoch 1" in printed
    [result] = results(folder / "run")
    assert list(result["data"]) == ["mine.npz"]
    assert result["choices"]["optimizer"] == "nadam"
    assert len(list(folder.glob("run/runs/*/metrics.csv"))) == 1


def test_a_kind_of_target_is_reported_without_its_code(folder: Path) -> None:
    enough = "dataset.train_size=1200"  # steps for a rate that is too high to diverge
    train(folder, "dataset=centres", "mixup=none,input", "seed=0,1", enough, "output_dir=points", "-m")
    found = results(folder / "points")
    assert [result["task"]["metrics"][0]["key"] for result in found] == ["distance"] * 4
    for result in found:
        [file] = folder.glob(f"points/runs/*{result['run_id']}/metrics.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert rows[-1]["test/distance"] == result["test"]["last"]["distance"] > 0
        assert not [key for row in rows for key, value in row.items() if value != value]
    [sweep] = (folder / "points/sweeps").iterdir()
    (sweep / "report/table.md").unlink()
    ended = forked.run([str(sweep)], program=ROOT / "scripts/report.py")
    assert ended.returncode == 0, ended.stderr
    table = (sweep / "report/table.md").read_text()
    assert table.startswith("mean distance in pixels")
    assert "| none | 2 |" in table


def test_a_loss_of_ones_own_has_all_corrections(folder: Path) -> None:
    words = ("dataset.task={_target_: my_losses.classes}", "trainer.loss=ce,poly1", "mixup=input", "mixup.alpha=1")
    corrected = ("trainer.class_weights=inverse", "trainer.label_smoothing=0.1", "trainer.clean_subset=50")
    train(folder, *words, *corrected, "output_dir=losses", "-m")
    losses = {}
    for result in results(folder / "losses"):
        [file] = folder.glob(f"losses/runs/*{result['run_id']}/metrics.jsonl")
        row = json.loads(file.read_text())
        losses[result["config"]["trainer"]["loss"]] = row["train/loss"]
        assert row["train_clean/loss"] > 0  # the NLL, whatever the loss
    # 1 - p is from 0 to 1, times weights with mean 1, and most of it at first
    assert 0.3 < losses["poly1"] - losses["auto"] < 1


def test_the_loss_of_the_page_is_its_formula(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    from my_losses import Poly1  # type: ignore[import-not-found]

    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    plan = MixPlan(torch.full((5,), 0.3), torch.tensor([1, 2, 3, 4, 0]))
    p = logits.softmax(dim=1)
    own, others = (p.gather(1, each[:, None])[:, 0] for each in (labels, labels[plan.partner]))
    expected = 0.3 * (1 - own - own.log()) + 0.7 * (1 - others - others.log())
    assert Poly1()(plan, logits, labels).item() == pytest.approx(expected.mean().item(), rel=1e-6)


def test_every_other_band_is_the_partners(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_mixing", raising=False)  # README.md has one too
    from my_mixing import Stripes

    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 4, 6)
    plan = Stripes(width=2).sample((6, 1, 4, 6), torch.Generator().manual_seed(1))
    mixed = plan.mix(images)
    assert torch.equal(mixed[..., [0, 1, 4, 5]], images[..., [0, 1, 4, 5]])
    assert torch.equal(mixed[..., [2, 3]], images[plan.partner][..., [2, 3]])
    torch.testing.assert_close(plan.lam, torch.full((6,), 2 / 3))
