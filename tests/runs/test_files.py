"""Reading as if somebody meant harm: whatever is wrong with a file is one line that names it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vicinal.runs import files
from vicinal.runs.files import DamagedError, read, read_json, read_yaml, write
from vicinal.runs.shapes import COMPLETED, ROW, misfit, plain, share, whole

from ..outcome import RESULT, SCORES

Harm = Callable[[Path], object]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (Path.mkdir, "it is a folder"),
        (os.mkfifo, "it is a pipe"),
        (lambda file: file.symlink_to("/dev/zero"), "it is a link"),
        (lambda file: file.symlink_to(file.name), "it is a link"),
        (lambda file: (file.touch(), os.truncate(file, 2**28 + 1)), "it has 268,435,457 bytes"),
        (lambda file: file.write_bytes(b""), "it is empty"),
        (lambda file: file.write_bytes(b"{"), "it is not JSON"),
        (lambda file: file.write_bytes(b"\xff"), "it is not JSON"),
        (lambda file: file.write_text("[" * 200_000), "it is not JSON"),
        (lambda file: file.write_text('{"a": ' + "9" * 5000 + "}"), "it is not JSON"),
        (lambda file: file.write_text("[1]"), "it is not a JSON object"),
        (lambda file: file.write_text('{"a": ' * 25 + "1" + "}" * 25), "more than 24 levels are nested in it"),
        (lambda file: file.write_text('{"a": NaN}'), "it has a number or a text that JSON does not have"),
        (lambda file: file.write_text('{"a": 1e999}'), "it has a number or a text that JSON does not have"),
        (lambda file: file.write_text('{"a": "\\ud800"}'), "it has a number or a text that JSON does not have"),
        (lambda file: file.write_text('{"a": {"b": "1"}}'), "a/b is not what was written"),
    ],
)
def test_json_that_means_harm(tmp_path: Path, harm: Harm, reason: str) -> None:
    file = tmp_path / "result.json"
    harm(file)
    with pytest.raises(DamagedError) as damage:
        read_json(file, {"a": {"b": whole}})
    assert str(damage.value).startswith(f"{file} is damaged: {reason}")
    assert damage.value.file == file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "it has an alias (*), which none of ours has"),
        (
            "a: !!python/name:os.system\n",
            "it has the tag tag:yaml.org,2002:python/name:os.system, which none of ours has",
        ),
        ("a: " + "[" * 25 + "]" * 25, "more than 24 levels are nested in it"),
        ("a: [", "it is not YAML"),
        ("\0", "it is not YAML"),
        ("# " + "x" * 2**18, "it has 262,146 bytes, and at most 262,144 are read"),
    ],
)
def test_yaml_that_means_harm(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(DamagedError) as damage:
        read_yaml(file)
    assert str(damage.value) == f"{file} is damaged: {reason}"


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"x")
    os.truncate(file, 2**40)
    with pytest.raises(DamagedError, match=r"most of its 1,099,511,627,776 bytes have never been written"):
        read(file, largest=2**50)


def test_what_is_missing_or_cannot_be_read_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as error:
        read(tmp_path / "file" / "below")
    assert error.value.filename == str(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["file", "file.{pid}.partial"])
@pytest.mark.parametrize("kind", ["link", "second name"])
def test_nothing_is_written_to_where_a_name_leads(tmp_path: Path, name: str, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    place = tmp_path / name.format(pid=os.getpid())
    place.symlink_to(precious) if kind == "link" else os.link(precious, place)
    write(tmp_path / "file", b"new")
    assert precious.read_text() == "precious"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "precious"]


def test_nothing_is_appended_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels") as error:
        files.appending(tmp_path / "metrics.jsonl")
    assert error.value.filename == str(tmp_path / "metrics.jsonl")


def test_a_new_folder_is_on_the_disk_with_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    files.make_folder(tmp_path / "outputs/runs/run")
    assert {tmp_path, tmp_path / "outputs", tmp_path / "outputs/runs"} == set(synced)
    synced.clear()
    files.make_folder(tmp_path / "outputs/runs/run")
    assert synced == []


def test_shapes_name_the_place_that_does_not_fit() -> None:
    result = {**RESULT, "status": "completed"}
    assert misfit(result, COMPLETED) is None
    for key, value, place in (
        ("test", 5, "test"),
        ("test", {"last": SCORES, "best_val": None}, "test/median10"),
        ("test", {**result["test"], "last": {"acc1": 1.5}}, "test/last/acc1"),
        ("test", {**result["test"], "last": {"acc1": 0.5, "nll": True}}, "test/last/nll"),
        ("val", {"acc1": -0.5}, "val/acc1"),
        ("task", "alchemy", "task"),
        ("epochs", 0, "epochs"),
        ("changed", ["a", 1], "changed/1"),
        ("config", {"trainer": "x"}, "config/trainer"),
        ("name", "../x", "name"),
    ):
        assert misfit({**result, key: value}, COMPLETED) == place
    assert misfit({name: value for name, value in result.items() if name != "hardware"}, COMPLETED) == "hardware"
    assert misfit({"epoch": 1, "mixing/lam": [1, 2.5], "a": 1.5}, ROW) is None
    assert misfit({"epoch": 1, "mixing/lam": [1, -1]}, ROW) == "mixing/lam"
    assert misfit({"epoch": 1, "train/loss": [1]}, ROW) == "train/loss"
    assert [share(each) for each in (0, 1, 1.1, True, "1", float("nan"))] == [True, True, False, False, False, False]
    assert [plain(each) for each in ("digits-cnn", "", "a/b", "n" * 300, 5)] == [True, False, False, False, False]


def test_a_real_result_has_the_shape_of_one_in_json(tmp_path: Path) -> None:
    """Tuples and numbers of NumPy are no JSON: the shapes are those of what was read."""
    (tmp_path / "row.json").write_text(json.dumps({"epoch": 1, "val/acc1": 0.25, "mixing/lam": (1, 2)}))
    assert read_json(tmp_path / "row.json", ROW)["mixing/lam"] == [1, 2]
