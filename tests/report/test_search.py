"""The report of a search, from a record with known numbers."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vicinal.errors import UserError
from vicinal.report import search
from vicinal.report.report import finish

VALUES = (0.5, 0.75, None, 0.625, 0.75)
"""Of the trials: the third has failed; of the two best, the first counts."""


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    trials = [
        {
            "number": number,
            "values": {"mixup.alpha": f"{0.1 * 2**number:g}", "mixup": ("input", "none")[number % 2]},
            "state": "failed" if value is None else "completed",
            "value": value,
            "warm": number == 0,
            "runs": [f"c0ffee000{number}-s0"],
            "reason": "it <b>diverged</b>" if value is None else "",
        }
        for number, value in enumerate(VALUES)
    ]
    content = {
        "objective": {"name": "val/acc1", "higher": True},
        "task": "classification",
        "sampler": "tpe",
        "pruner": None,
        "seeds": 1,
        "space": [
            {
                "key": "mixup.alpha",
                "shown": "0.05 to 8, logarithmic",
                "options": [],
                "low": 0.05,
                "high": 8,
                "log": True,
            },
            {"key": "mixup", "shown": "input, none", "options": ["input", "none"], "low": 0, "high": 0, "log": False},
        ],
        "trials": trials,
        "best": 1,
        "confirm": None,
    }
    (folder / "search.json").write_text(json.dumps(content | changes))
    return folder


def confirmed(runs: Any, folder: Path) -> Path:
    """The search, and the sweep of its choice on three new seeds: 0.3 better on average."""
    for seed in (1, 2, 3):
        runs.add("input", 0.2, seed, 0.5 + 0.01 * seed)
        runs.add("none", None, seed, 0.8 + 0.01 * seed)
    sweep = runs.sweep("mixup", "mixup.alpha", name=f"{folder.name}-confirm")
    content = json.loads((sweep / "sweep.json").read_text())
    content["baseline"] = content["runs"][0]["cell_id"]
    (sweep / "sweep.json").write_text(json.dumps(content))
    return write(folder, confirm=sweep.name)


def test_the_best_trials_are_printed_with_what_they_are_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "sweeps/search-alpha-0123456789")
    (folder / "sweep.json").write_text(json.dumps({"swept": [], "runs": []}))
    report = finish(folder)
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert rows == [
        ["1", "0.2", "none", "75.00"],
        ["4", "1.6", "input", "75.00"],
        ["3", "0.8", "none", "62.50"],
        ["0", "0.1", "input", "50.00"],
    ]
    lines = (report / "notes.txt").read_text().splitlines()
    assert lines == [
        "the search's own best, val/acc1 75.00 % (trial 1), is optimistic: it is the best of 4 on the samples that it "
        "was chosen by",
        "the choice was not trained on new seeds (hydra.sweeper.confirm), so what it gains is not known",
        "trials that were completed before the search began: 1",
        "trials that failed: 1 (it <b>diverged</b>)",
    ]
    assert {file.name for file in report.iterdir()} == {
        *("report.html", "notes.txt", "trials.csv"),
        *(f"{name}.{kind}" for name in ("best_so_far", "slices") for kind in ("png", "svg")),
    }
    page = (report / "report.html").read_text()
    assert "<b>diverged" not in page
    assert "0.05 to 8, logarithmic" in page
    with (report / "trials.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["val/acc1"] for row in table] == ["0.5", "0.75", "", "0.625", "0.75"]
    assert [row["mixup.alpha"] for row in table] == ["0.1", "0.2", "0.4", "0.8", "1.6"]


def test_trials_that_were_stopped_early_count_among_those_that_the_best_is_the_best_of(tmp_path: Path) -> None:
    """They were left out by their scores on the same samples."""
    folder = write(tmp_path, pruner="asha")
    content = json.loads((folder / "search.json").read_text())
    content["trials"][3] |= {"state": "pruned", "value": None}
    (folder / "search.json").write_text(json.dumps(content))
    first, *others = search.notes(search.read(folder))
    assert first.endswith("it is the best of 4 on the samples that it was chosen by")
    assert "trials that were stopped early (asha) and have no value: 1" in others


@pytest.mark.parametrize(("higher", "so_far"), [(True, (0.5, 0.75, 0.75, 0.75)), (False, (0.5, 0.5, 0.5, 0.5))])
def test_the_best_so_far_and_the_slices_are_the_values_of_the_trials(
    higher: bool, so_far: tuple[float, ...], tmp_path: Path
) -> None:
    found = search.read(write(tmp_path, objective={"name": "val/acc1", "higher": higher}))
    best, slices = search.pictures(found)
    curve, dots = best.panels[0].series
    assert (curve.x, curve.y) == ((0, 1, 3, 4), so_far)
    assert (dots.x, dots.y) == ((0, 1, 3, 4), (0.5, 0.75, 0.625, 0.75))
    alpha, mixup = (panel.series[0] for panel in slices.panels)
    assert (alpha.x, alpha.y) == ((0.1, 0.2, 0.8, 1.6), dots.y)
    assert (mixup.x, mixup.y) == (dots.y, (0, 1, 1, 0))
    assert alpha.hover[1] == "trial 1: mixup.alpha=0.2"
    assert mixup.hover[1] == "trial 1: mixup=none"
    assert slices.panels[0].x.log
    assert [text for _, text in slices.panels[0].x.ticks] == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"]
    assert slices.panels[1].y.ticks == ((0, "input"), (1, "none"))


def test_the_page_has_the_choice_on_new_seeds_beside_the_config_without_the_space(runs: Any) -> None:
    folder = confirmed(runs, runs.outputs / "sweeps/search-alpha-0123456789")
    found = search.read(folder)
    cells, pairs = search.comparison_grids(found)
    assert [row[:2] for row in cells.rows] == [["input", "0.2"], ["none", "-"]]
    [pair] = pairs.rows  # against the first, although the second does not mix
    assert pair[0] == "none"
    assert pair[pairs.headings.index("difference")] == "+30.00"
    place = search.finish(folder)
    page = (place / "report.html").read_text()
    assert 'href="../../search-alpha-0123456789-confirm/report/report.html"' in page
    assert "+30.00" in page


def test_a_choice_that_is_the_config_without_the_space_is_compared_with_nothing(runs: Any) -> None:
    runs.add("input", 0.2, 1, 0.5)
    runs.sweep("mixup", name="s-confirm")
    found = search.read(write(runs.outputs / "sweeps/s", confirm="s-confirm"))
    assert "the choice is the config without the space: there is nothing to compare it with" in search.notes(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": [{"number": 0}]},
        {"objective": {"name": "val/nothing", "higher": True}},
        {"space": []},
        {"space": [{"key": "mixup.alpha", "shown": "", "options": [], "low": 0, "high": 8, "log": True}]},
        {"confirm": "../elsewhere"},
        {"task": "cooking"},
    ],
)
def test_a_damaged_record_is_named(changes: Mapping[str, Any], tmp_path: Path) -> None:
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=r"search\.json is damaged; the command of the search writes it again"):
        search.read(tmp_path)


def test_one_trial_has_no_pictures(tmp_path: Path) -> None:
    found = search.read(write(tmp_path))
    found.content["trials"] = found.content["trials"][:1]
    found.content["best"] = 0
    assert search.pictures(found) == []
    assert search.finish(tmp_path).name == "report"  # the folder's record is whole
