"""What a table says of code and data that are not those of today, or not the same for all of its runs."""

import json
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from vicinal.analysis.compare import compare
from vicinal.report.report import finish
from vicinal.runs import source
from vicinal.runs.folder import RunFolder

SWEPT = ("mixup", "mixup.alpha")
LAWS, MASKS = "vicinal/mixing/laws.py", "vicinal/mixing/masks.py"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A package like ours, of two files that compute, and a file of one's own; hashes by name."""
    for name in (LAWS, MASKS, "fade.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("value = 1\n")
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "vicinal")
    monkeypatch.setattr(source, "COMPUTING", ("mixing",))
    monkeypatch.chdir(tmp_path)
    source.forget()
    yield source.counterparts(["fade.py"])
    source.forget()


def made_with(path: Path, files: Mapping[str, str]) -> None:
    """Let a completed run say that this was its code."""
    folder = RunFolder(path)
    folder.environment.write_text(json.dumps(json.loads(folder.environment.read_text()) | {"sources": {**files}}))
    folder.complete(folder.completed() or {})


def notes(runs: Any, word: str, *swept: str) -> list[str]:
    return [note for note in compare(runs.found(*(swept or SWEPT))).notes if word in note]


@pytest.fixture
def three(runs: Any, here: dict[str, str]) -> list[Path]:
    """Runs made with the code that is here."""
    paths = [runs.add("none", None, 0, 0.5), runs.add("none", None, 1, 0.5), runs.add("input", 0.2, 0, 0.75)]
    for path in paths:
        made_with(path, here)
    return paths


def test_the_code_that_is_here_is_not_mentioned(runs: Any, three: list[Path]) -> None:
    assert notes(runs, "code") == []


def test_runs_made_with_other_code_are_named_once(runs: Any, three: list[Path], here: dict[str, str]) -> None:
    made_with(three[2], here | {LAWS: "0"})
    line = f"made with other code than here ({LAWS}): input alpha=0.2 seed 0; rerun=true trains again"
    assert notes(runs, "code") == [line]
    made_with(three[0], here | {LAWS: "0"})
    line = f"made with other code than here ({LAWS}): none seed 0, input alpha=0.2 seed 0; rerun=true trains again"
    assert notes(runs, "code") == [line]
    made_with(three[0], here | {"fade.py": "1"})
    line = (
        f"made with other code than here (fade.py, {LAWS}), and not all with the same: "
        "none seed 0, input alpha=0.2 seed 0; rerun=true trains again"
    )
    assert notes(runs, "code") == [line]


def test_files_that_came_since_are_named(runs: Any, three: list[Path], here: dict[str, str]) -> None:
    made_with(three[0], {name: each for name, each in here.items() if name != MASKS})
    line = f"made with other code than here ({MASKS}): none seed 0; rerun=true trains again"
    assert notes(runs, "code") == [line]


def test_files_that_went_since_are_named(runs: Any, three: list[Path], here: dict[str, str]) -> None:
    made_with(three[0], here | {"vicinal/mixing/gone.py": "0"})
    line = "made with other code than here (vicinal/mixing/gone.py): none seed 0; rerun=true trains again"
    assert notes(runs, "code") == [line]


def test_a_file_that_is_not_here_is_compared_between_the_runs(
    runs: Any, three: list[Path], here: dict[str, str]
) -> None:
    for path, each in zip(three, "001", strict=True):
        made_with(path, here | {"elsewhere.py": each})
    runs_of = "none seed 0, none seed 1; input alpha=0.2 seed 0"
    line = f"not all runs were made with the same code (elsewhere.py): {runs_of}; rerun=true trains again"
    assert notes(runs, "code") == [line]


def test_a_run_that_does_not_say_its_code_is_not_judged(runs: Any, three: list[Path]) -> None:
    made_with(three[0], {})
    assert notes(runs, "code") == []


@pytest.mark.parametrize("name", ["../secret.py", "/dev/zero", "secret.txt", "secret", "a/../secret.py", "", "\0.py"])
def test_only_python_files_below_the_search_path_are_read(tmp_path: Path, name: str) -> None:
    for place in (tmp_path.parent / "secret.py", tmp_path / "secret.txt", tmp_path / "secret.py"):
        place.write_text("secret = 1\n")
    assert source.counterparts([name]) == source.of_package()
    assert source.counterparts(["secret.py"]).keys() - source.of_package() == {"secret.py"}


def test_runs_of_one_request_on_other_data_are_named(runs: Any) -> None:
    for seed, each in enumerate("aab"):
        runs.add("none", None, seed, 0.5, about={"data": {"labels": "0", "images": each}})
    runs.add("none", None, 3, 0.5)  # an older result, which does not say
    runs_of = "none seed 0, none seed 1; none seed 2"
    line = f"not all runs were made with the same data (images): {runs_of}; rerun=true trains again"
    assert notes(runs, "same data") == [line]


def test_cells_that_ask_for_other_data_may_have_them(runs: Any) -> None:
    runs.add("none", None, 0, 0.5, about={"data": {"train": "0"}})
    runs.add("none", None, 1, 0.5, about={"data": {"train": "1"}}, dataset__val_size=100)
    assert notes(runs, "same data", "dataset.val_size") == []


@pytest.mark.parametrize("content", [None, 3, "labels", ["labels"], {"labels": ["0"]}])
def test_data_of_another_kind_are_damage(runs: Any, content: object) -> None:
    folder = RunFolder(runs.add("none", None, 0, 0.5))
    folder.complete({**(folder.completed() or {}), "data": content})
    assert folder.completed() is None
    assert notes(runs, "missing: its result.json is damaged") != []


def test_a_report_is_made_again_when_the_code_here_is_edited(runs: Any, three: list[Path], tmp_path: Path) -> None:
    sweep = runs.sweep(*SWEPT)

    def printed() -> str:
        source.forget()
        out = StringIO()
        finish(sweep, console=Console(file=out, width=200))
        return out.getvalue()

    assert "other code" not in printed()
    (tmp_path / LAWS).write_text("value = 2\n")
    assert f"made with other code than here ({LAWS}): none seed 0, none seed 1, input alpha=0.2 seed 0" in printed()
    (tmp_path / LAWS).write_text("value = 1  # as before\n")
    assert "other code" not in printed()


@pytest.mark.parametrize("metric", ["nll", "ece", "acc5"])
def test_a_metric_that_older_results_lack_is_an_empty_cell_and_a_note(runs: Any, metric: str) -> None:
    paths = [runs.add("none", None, seed, 0.5) for seed in (0, 1)]
    paths += [runs.add("input", 0.2, seed, 0.75) for seed in (0, 1)]
    for path in paths[:2]:
        folder = RunFolder(path)
        result = folder.completed() or {}
        for scores in (result["val"], result["val_best"], *result["test"].values()):
            del scores[metric]
        rows = [{key: value for key, value in row.items() if not key.endswith(f"/{metric}")} for row in folder.rows()]
        folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        folder.complete(result)
    out = StringIO()
    report = finish(runs.sweep(*SWEPT), console=Console(file=out, width=250))
    line = f"results of an older version lack {metric}, and are left out of its column: none seed 0, none seed 1"
    for name in ("table.md", "table.tex", "notes.txt", "report.html"):
        assert line in (report / name).read_text(), name
    assert line in out.getvalue()
    table = pd.read_csv(report / "summary.csv").set_index("mixup")
    for column in [f"test/last/{metric} mean", f"val/{metric} mean"]:
        assert table[column].isna().to_dict() == {"none": True, "input": False}
    assert table.loc["input", "test/last mean"] == 0.75
    assert "| none | - | 2 | 50.00 ± 0.00 |" in (report / "table.md").read_text()
