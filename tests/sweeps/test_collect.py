"""From result files to a row a cell, against results written by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicinal.runs.folder import RunFolder
from vicinal.sweeps.collect import SCORES, Job, collect, swept_keys


def job(folder: Path, overrides: str, cell: str, seed: int = 0, **settings: Any) -> Job:
    choices = {"mixup": dict(word.split("=") for word in overrides.split()).get("mixup", "input")}
    path = folder / f"digits-{cell}-s{seed}"
    return Job(tuple(overrides.split()), "digits", cell, seed, RunFolder(path), choices, settings)


def write(job: Job, content: dict[str, Any] | str) -> None:
    folder = job.folder
    folder.path.mkdir()
    folder.result.write_text(content if isinstance(content, str) else json.dumps(content))


def completed(val: float | None, last: float, best: float | None, median: float) -> dict[str, Any]:
    def scores(acc1: float | None) -> dict[str, float] | None:
        return None if acc1 is None else {"acc1": acc1, "nll": 1.0}

    test = {"last": scores(last), "best_val": scores(best), "median10": scores(median)}
    return {"status": "completed", "val": scores(val), "test": test}


def test_means_and_sample_deviations_over_seeds_equal_numpys(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=(5, 4))
    jobs = [job(tmp_path, f"seed={seed}", "cell", seed) for seed in range(5)]
    for each, row in zip(jobs, values.tolist(), strict=True):
        write(each, completed(*row))
    (row,) = collect(jobs).to_dict("records")
    assert row["n"] == 5
    assert row["failed"] == ""
    assert row["folder"] == str(tmp_path / "digits-cell-s*")
    for index, score in enumerate(SCORES):
        assert row[f"{score} mean"] == pytest.approx(values[:, index].mean(), rel=1e-14)
        assert row[f"{score} std"] == pytest.approx(values[:, index].std(ddof=1), rel=1e-14)


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    one = job(tmp_path, "seed=0", "cell")
    write(one, completed(0.5, 0.25, 0.75, 0.125))
    table = collect([one])
    assert [table[f"{score} mean"][0] for score in SCORES] == [0.5, 0.25, 0.75, 0.125]
    assert all(math.isnan(table[f"{score} std"][0]) for score in SCORES)
    table.to_csv(tmp_path / "summary.csv", index=False)
    heading, line = (tmp_path / "summary.csv").read_text().splitlines()
    assert dict(zip(heading.split(","), line.split(","), strict=True))["val std"] == ""


def test_without_a_validation_split_the_test_scores_are_still_there(tmp_path: Path) -> None:
    one = job(tmp_path, "seed=0", "cell")
    write(one, completed(None, 0.25, None, 0.125))
    (row,) = collect([one]).to_dict("records")
    assert math.isnan(row["val mean"])
    assert math.isnan(row["test/best_val mean"])
    assert (row["test/last mean"], row["test/median10 mean"], row["n"]) == (0.25, 0.125, 1)


def test_failed_missing_and_damaged_results_are_named_by_seed_and_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, failed, missing, damaged = jobs = [job(tmp_path, f"seed={seed}", "cell", seed) for seed in range(4)]
    write(good, completed(0.5, 0.25, 0.75, 0.125))
    write(failed, {"status": "failed", "error": "the loss is not finite"})
    write(damaged, '{"status": "compl')
    (row,) = collect(jobs).to_dict("records")
    assert row["n"] == 1
    assert row["val mean"] == 0.5
    nothing = "no result: not started, interrupted or killed"
    assert row["failed"] == f"seed 1: the loss is not finite; seed 2: {nothing}; seed 3: {nothing}"
    aside = damaged.folder.path / "result.json.damaged"
    assert aside.read_text() == '{"status": "compl'
    assert not damaged.folder.result.exists()
    assert "is damaged; it is set aside as result.json.damaged and not used" in caplog.text
    assert missing.folder.read_result() is None


def test_a_cell_of_which_everything_failed_keeps_its_row(tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"optimizer.lr={lr}", f"cell{lr}", optimizer={"lr": lr}) for lr in (1.0, 0.1)]
    write(jobs[0], {"status": "failed", "error": "boom"})
    write(jobs[1], completed(0.5, 0.5, 0.5, 0.5))
    table = collect(jobs)
    assert table["optimizer.lr"].tolist() == ["1", "0.1"]
    assert table["n"].tolist() == [0, 1]
    assert table["failed"].tolist() == ["seed 0: boom", ""]
    assert math.isnan(table["val mean"][0])


def test_rows_are_in_the_order_of_the_grid_with_what_the_cells_really_used(tmp_path: Path) -> None:
    grid = [
        job(tmp_path, "mixup=none mixup.alpha=0.2 seed=0", "b"),
        job(tmp_path, "mixup=manifold mixup.alpha=0.4 seed=0", "a", mixup={"alpha": 0.4}),
        job(tmp_path, "mixup=manifold mixup.alpha=0.4 seed=1", "a", seed=1, mixup={"alpha": 0.4}),
    ]
    for each in grid:
        write(each, completed(0.5, 0.5, 0.5, 0.5))
    table = collect(grid)
    assert list(table.columns[:3]) == ["mixup", "mixup.alpha", "n"]
    assert table["mixup"].tolist() == ["none", "manifold"]
    assert table["mixup.alpha"].tolist() == ["-", "0.4"]
    assert table["n"].tolist() == [1, 2]


def test_swept_keys_are_those_that_differ_and_never_the_seed(tmp_path: Path) -> None:
    grid = [
        job(tmp_path, "trainer.epochs=1 mixup=input mixup.layers=[input] seed=0", "a"),
        job(tmp_path, "trainer.epochs=1 mixup=cutmix mixup.layers=[input,block1] seed=1", "b"),
    ]
    assert swept_keys(grid) == ["mixup", "mixup.layers"]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), (True, "true"), (["input", "block1"], "[input,block1]"), (0.1, "0.1")]
)
def test_values_are_shown_as_they_were_asked_for(tmp_path: Path, value: object, shown: str) -> None:
    grid = [job(tmp_path, f"x.y={index}", str(index), x={"y": value}) for index in range(2)]
    for each in grid:
        write(each, completed(0.5, 0.5, 0.5, 0.5))
    assert collect(grid)["x.y"].tolist() == [shown, shown]
