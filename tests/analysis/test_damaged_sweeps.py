"""Random damage to the files that a report reads: never a traceback, never a wrong number, always a word."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import SCORES, Comparison
from vicinal.analysis.load import load_runs
from vicinal.errors import UserError

CORRUPTIONS = 200


def scores(comparison: Comparison) -> dict[tuple[str, int], list[float]]:
    """{(cell, seed): all numbers of the run}."""
    found = {}
    for cell in comparison.cells:
        for run in cell.completed:
            numbers = [run.score(score, metric) for score in SCORES for metric in ("acc1", "nll", "ece")]
            assert None not in numbers
            found[run.cell_id, run.seed] = [*map(float, filter(None, numbers)), float(len(run.rows()))]
    return found


def damage(file: Path, generator: random.Random) -> str:
    content = bytearray(file.read_bytes())
    kind = generator.choice(["flip", "cut", "empty", "gone", "garbage", "insert"])
    place = generator.randrange(len(content))
    match kind:
        case "flip":
            content[place] ^= 1 << generator.randrange(8)
        case "cut":
            del content[place:]
        case "empty":
            content.clear()
        case "garbage":
            content[place : place + 8] = generator.randbytes(8)
        case "insert":
            content[place:place] = b"9"
    file.unlink() if kind == "gone" else file.write_bytes(content)
    return kind


def made_of(sweep: Path) -> Comparison | str:
    """The comparison, or the line that refuses it."""
    try:
        return compare(load_runs(sweep))
    except UserError as error:
        return str(error)


@pytest.mark.slow
def test_random_corruptions(runs: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(2):
        runs.add("none", None, seed, 0.5 + seed / 30)
        runs.add("input", 0.2, seed, 0.7 + seed / 30)
    sweep = runs.sweep("mixup", "mixup.alpha")
    before = compare(load_runs(sweep))
    intact, values = scores(before), {cell.cell_id: cell.values for cell in before.cells}
    generator = random.Random(0)
    names = ("result.json", "SHA256SUMS", "metrics.jsonl", "config.yaml", "environment.json", "checkpoint.pt")
    refused = 0
    for index in range(CORRUPTIONS):
        outputs = tmp_path / str(index)
        shutil.copytree(runs.outputs, outputs)
        folders = sorted((outputs / "runs").iterdir())
        files = [folder / name for folder in folders for name in names]
        file = generator.choice([*files, *[outputs / "sweeps" / sweep.name / "sweep.json"] * 4])
        what = f"{damage(file, generator)} of {file}"
        caplog.clear()
        comparison = made_of(outputs / "sweeps" / sweep.name)
        if isinstance(comparison, str):
            assert file.name == "sweep.json", what
            assert "sweep.json is damaged" in comparison or "nor a sweep.json in it" in comparison, what
            refused += 1
            continue
        said = caplog.text + "\n".join(comparison.notes)
        left = scores(comparison)
        for run, numbers in left.items():
            assert numbers[:-1] == intact[run][:-1], what
            assert numbers[-1] in (intact[run][-1], 0), what
        for cell in comparison.cells:
            assert not cell.completed or cell.values == values[cell.cell_id], what
        if file.name == "sweep.json":  # the words of the command, names for people, or runs that are not found
            assert all(run in left or "seed" in said for run in intact), what
        else:
            assert str(file.parent) in said, what
    assert refused > 5
