"""No sweep replaces the record of another one."""

import json
from pathlib import Path

import pytest

from vicinal.errors import UserError
from vicinal.launch.own_folder import check_grid, check_search


def record(folder: Path, *seeds: int) -> None:
    runs = [
        {"run_id": f"cell-s{seed}", "cell_id": "cell", "seed": seed, "name": "a", "folder": "a", "values": {"lr": "1"}}
        for seed in seeds
    ]
    (folder / "sweep.json").write_text(json.dumps({"swept": ["lr"], "runs": runs}))


def test_the_same_grid_and_one_that_has_grown_may_use_a_folder(tmp_path: Path) -> None:
    check_grid(tmp_path / "new", ["cell-s0"])
    record(tmp_path, 0, 1)
    check_grid(tmp_path, ["cell-s1", "cell-s0"])
    check_grid(tmp_path, ["cell-s0", "cell-s2", "cell-s1"])


@pytest.mark.parametrize(("runs", "lost"), [(["cell-s5"], 2), (["cell-s0", "cell-s5"], 1), (["cell-s0"], 1)])
def test_a_grid_that_lacks_recorded_runs_is_refused(runs: list[str], lost: int, tmp_path: Path) -> None:
    record(tmp_path, 0, 1)
    with pytest.raises(UserError) as refused:
        check_grid(tmp_path, runs)
    other = f"is the folder of another sweep (swept: lr; runs: 2, not in this one: {lost})"
    assert str(refused.value) == f"{tmp_path}: {other}; hydra.sweep.dir needs one of its own"


def test_a_damaged_record_is_written_again(tmp_path: Path) -> None:
    record(tmp_path, 0)
    (tmp_path / "sweep.json").write_text((tmp_path / "sweep.json").read_text()[:-9])
    check_grid(tmp_path, ["cell-s5"])


def test_grids_and_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    check_search(tmp_path)
    record(tmp_path, 0)
    with pytest.raises(
        UserError, match=r"is the folder of a sweep that is no search; hydra\.sweep\.dir needs one of its"
    ):
        check_search(tmp_path)
    (tmp_path / "trials").mkdir()
    check_search(tmp_path)  # whose journal was damaged and moved away
    with pytest.raises(UserError, match=r"is the folder of a search; hydra\.sweep\.dir needs one of its own"):
        check_grid(tmp_path, ["cell-s0"])
