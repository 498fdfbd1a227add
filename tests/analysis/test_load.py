"""Which runs a report is about, and what is said of those without scores."""

from pathlib import Path
from typing import Any

import pytest

from vicinal.analysis.compare import compare
from vicinal.analysis.load import load_runs
from vicinal.errors import UserError


def test_a_sweep_brings_its_runs_in_grid_order_with_the_state_of_each(runs: Any) -> None:
    runs.add("none", None, 1, 0.75)
    runs.add("none", None, 0, None, status="failed", about={"error": "the loss is not finite"})
    runs.add("input", 0.2, 0, None, status="stopped")
    runs.add("input", 0.2, 1, None, status="missing")
    found = runs.found("mixup", "mixup.alpha")
    assert [(run.name, run.seed, run.status) for run in found.runs] == [
        ("digits-cnn-none", 1, "completed"),
        ("digits-cnn-none", 0, "failed"),
        ("digits-cnn-input-alpha0.2", 0, "stopped"),
        ("digits-cnn-input-alpha0.2", 1, "missing"),
    ]
    assert [run.error for run in found.runs] == [
        "",
        "the loss is not finite",
        "not finished: interrupted or killed",
        "never begun",
    ]
    assert found.swept == ["mixup", "mixup.alpha"]
    assert found.runs[2].choices["mixup"] == "input"
    first = found.runs[0]
    assert (first.epochs, first.best_epoch, first.score("val"), first.score("test/last", "nll")) == (2, 1, 0.5, 0.5)
    assert [row["epoch"] for row in first.rows()] == [1, 2]


def test_a_sweep_and_its_runs_can_be_moved_together(runs: Any, tmp_path: Path) -> None:
    runs.add("none", None, 0, 0.75)
    runs.sweep("mixup")
    moved = runs.outputs.rename(tmp_path / "elsewhere")
    (run,) = load_runs(moved / "sweeps" / "mixup+alpha-0123456789").runs
    assert run.completed
    assert run.folder.is_relative_to(moved)


def test_a_run_that_an_equal_option_of_another_name_has_made_is_that_of_the_sweep(runs: Any) -> None:
    """As mixup=matched/resizemix, which has the content of mixup=resizemix and so its id."""
    runs.add("input", 0.2, 0, 0.75)
    runs.entries[0]["values"]["mixup"] = "reference/mixup_cifar10"
    (run,) = runs.found("mixup", "mixup.alpha").runs
    assert (run.completed, run.choices["mixup"]) == (True, "input")
    assert compare(runs.found("mixup", "mixup.alpha")).cells[0].label == "reference/mixup_cifar10 alpha=0.2"
    runs.entries[0]["values"]["mixup.alpha"] = "0.3"
    with pytest.raises(UserError, match=r"sweep\.json is damaged"):
        runs.found("mixup", "mixup.alpha")


def test_a_relative_sweep_folder(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.add("none", None, 0, 0.75)
    monkeypatch.chdir(runs.sweep("mixup"))
    assert load_runs(Path()).runs[0].completed


@pytest.mark.parametrize("where", ["", "runs", "runs/digits-cnn-none-{cell}-s0"])
def test_any_folder_above_runs(runs: Any, where: str) -> None:
    runs.add("none", None, 0, 0.75, cell="00000000aa")
    runs.sweep("mixup")
    (run,) = load_runs(runs.outputs / where.format(cell="00000000aa")).runs
    assert (run.cell_id, run.seed, run.completed) == ("00000000aa", 0, True)


def test_seeds_of_a_folder_are_in_the_order_of_numbers(runs: Any) -> None:
    for seed in (10, 9, 0):
        runs.add("none", None, seed, 0.75)
    assert [run.seed for run in load_runs(runs.outputs).runs] == [0, 9, 10]


def test_conditions_on_options_and_on_values_which_are_numbers(runs: Any) -> None:
    runs.add("none", None, 0, 0.75)
    runs.add("input", 0.2, 0, 0.5)
    runs.add("input", 1.0, 0, 0.25)
    runs.add("input", 1.0, 1, None, status="stopped")

    def chosen(*where: str) -> list[str]:
        return [f"{run.name} {run.seed}" for run in load_runs(runs.outputs, where).runs]

    assert chosen("mixup=none") == ["digits-cnn-none 0"]
    assert (
        chosen("mixup.alpha=1")
        == chosen("mixup.alpha=1.0")
        == ["digits-cnn-input-alpha1 0", "digits-cnn-input-alpha1 1"]
    )
    assert chosen("mixup=input", "mixup.alpha=.2") == ["digits-cnn-input-alpha0.2 0"]
    assert chosen("seed=1") == ["digits-cnn-input-alpha1 1"]
    assert len(chosen("trainer.epochs=2")) == 4


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("mixup=inptu", "mixup=inptu: no such run; there are: input, none"),
        ("mixp=input", "mixp=input: no run has the key mixp; did you mean mixup?"),
        ("trainer.epoch=2", "trainer.epoch=2: no run has the key trainer.epoch; did you mean trainer.epochs?"),
        ("input", "input: a condition is key=value, such as mixup=input"),
    ],
)
def test_wrong_conditions_are_answered_with_the_right_ones(runs: Any, where: str, line: str) -> None:
    runs.add("none", None, 0, 0.75)
    runs.add("input", 0.2, 0, 0.5)
    with pytest.raises(UserError, match=f"^{line.replace('?', '[?]')}"):
        load_runs(runs.outputs, [where])


def test_no_folder_and_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        load_runs(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"there is neither a run nor a sweep.json in it"):
        load_runs(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": [{}], "swept": []}', '{"runs": []}'])
def test_a_damaged_sweep_is_named(runs: Any, content: str) -> None:
    runs.add("none", None, 0, 0.75)
    folder = runs.sweep("mixup")
    (folder / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"sweep.json is damaged; the command of the sweep writes it again$"):
        load_runs(folder)


def test_a_result_with_another_number_is_not_used(runs: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = runs.add("none", None, 0, 0.75)
    (path / "result.json").write_text((path / "result.json").read_text().replace("0.75", "0.85"))
    for _ in range(2):
        (run,) = runs.found("mixup").runs
        assert (run.status, run.error, run.test) == ("missing", "its result.json is damaged", {})
    assert caplog.text.count("is damaged") == 1
    assert "0.85" in (path / "result.json").read_text()  # named, and left where it is


def test_damaged_metrics_are_named_and_have_no_rows(runs: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = runs.add("none", None, 0, 0.75)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "test/acc1": .99}\n')
    found = runs.found("mixup")
    assert found.runs[0].rows() == []
    (note,) = found.notes
    assert note.startswith(f"{path / 'metrics.jsonl'} is damaged")
    assert caplog.text == ""  # it is said once
    assert found.runs[0].score("test/last") == 0.75


def test_a_folder_with_the_result_of_another_run(runs: Any) -> None:
    other = runs.add("input", 0.2, 0, 0.5, cell="00000000bb")
    mine = runs.add("none", None, 0, 0.75, cell="00000000aa")
    for name in ("result.json", "SHA256SUMS"):
        (mine / name).write_bytes((other / name).read_bytes())
    run = runs.found("mixup").runs[1]
    assert (run.status, run.error) == ("missing", "its result.json is that of another run, 00000000bb-s0")


def test_a_run_that_is_there_twice_counts_once(runs: Any, tmp_path: Path) -> None:
    path = runs.add("none", None, 0, 0.75, cell="00000000aa")
    twin = tmp_path / "outputs" / "copy" / path.name
    twin.parent.mkdir()
    for file in [path, *path.iterdir()]:
        target = twin / file.name if file != path else twin
        target.mkdir() if file.is_dir() else target.write_bytes(file.read_bytes())
    found = load_runs(runs.outputs)
    assert len(found.runs) == 1
    assert [note for note in found.notes if "00000000aa-s0 is there twice" in note]


@pytest.mark.parametrize("place", ["a", "z"])
def test_of_two_copies_the_completed_one_is_used(runs: Any, place: str) -> None:
    runs.outputs /= "m"
    path = runs.add("none", None, 0, 0.75, cell="00000000aa")
    runs.outputs = runs.outputs.parent / place
    runs.add("none", None, 0, None, status="failed", cell="00000000aa")
    (run,) = load_runs(runs.outputs.parent).runs
    assert (run.folder, run.status) == (path, "completed")


def test_of_two_completed_copies_with_other_scores_it_is_said(runs: Any) -> None:
    for place, acc1 in (("b", 0.5), ("a", 0.75)):
        runs.outputs = runs.outputs.parent / place
        runs.add("none", None, 0, acc1, cell="00000000aa")
    found = load_runs(runs.outputs.parent)
    assert found.runs[0].score("test/last") == 0.75
    assert [note for note in found.notes if note.endswith(" is not and has other scores")]


def test_an_unreadable_config_leaves_a_partial_run_without_choices(runs: Any) -> None:
    path = runs.add("none", None, 0, None, status="stopped")
    (path / "config.yaml").write_text("a: [")
    (run,) = runs.found("mixup").runs
    assert (run.status, run.choices) == ("stopped", {})
