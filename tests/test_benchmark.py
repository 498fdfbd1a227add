"""The measuring stick: turns, medians, ratios, bars, refusals, and what it writes. Nothing is timed by the wall."""

import importlib.util
import json
import operator
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from vicinal.benchmarks import mixing, suite
from vicinal.benchmarks.aside import Aside
from vicinal.benchmarks.bench import Bar, Bench, Row, SkippedError, UnequalWorkError, line, peer, verdict
from vicinal.benchmarks.gpu import covered
from vicinal.benchmarks.loading import is_crop, our_loader
from vicinal.benchmarks.machine import slug
from vicinal.benchmarks.synthetic import images
from vicinal.benchmarks.table import markdown
from vicinal.benchmarks.timing import Case, Spread, Timings, measure, slope
from vicinal.config import CONF
from vicinal.data import Images
from vicinal.mixing import MixPlan


class Clock:
    """Each case says how long it takes; reading the clock takes no time."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []

    def __call__(self) -> float:
        return self.now

    def case(self, name: str, *seconds: float) -> Case:
        left: Iterator[float] = iter(seconds)

        def call() -> None:
            self.log.append(name)
            self.now += next(left)

        return Case(name, call)


def test_cases_take_turns_after_their_warm_up():
    clock = Clock()
    cases = [clock.case("a", 9, 1, 2, 3), clock.case("b", 90, 10, 30, 60)]
    timings = measure(cases, 3, clock=clock)
    assert clock.log == ["a", "b", "a", "b", "a", "b", "a", "b"]
    assert timings.seconds == {"a": [1, 2, 3], "b": [10, 30, 60]}
    assert timings.ratio("b", "a") == Spread(15, 12.5, 17.5)  # of 10, 15, 20: a round's own, not 30 / 2 of the medians


def test_a_ratio_is_of_the_rounds_and_not_of_the_medians():
    # The machine is ten times as slow in every other round, for both alike.
    assert Timings({"ours": [1, 10, 1], "theirs": [3, 30, 3]}).ratio("theirs", "ours") == Spread(3, 3, 3)
    assert Timings({"ours": [1, 2, 10], "theirs": [8, 2, 20]}).ratio("theirs", "ours").median == 2


def test_a_fast_case_is_called_several_times_in_a_timing_and_a_slow_one_once():
    clock = Clock()
    timings = measure([clock.case("a", *[0.25] * 20), clock.case("b", *[2.0] * 4)], 2, least=1.0, clock=clock)
    assert clock.log == ["a", "a", "b", "b", *(["a"] * 4 + ["b"]) * 2]
    assert timings.seconds == {"a": [0.25, 0.25], "b": [2, 2]}


def test_preparing_is_not_timed_and_waiting_is():
    clock = Clock()

    def prepare() -> None:
        clock.now += 100

    def wait() -> None:
        clock.now += 5

    case = Case("a", clock.case("a", 1, 1).call, prepare=prepare)
    assert measure([case], 1, clock=clock, wait=wait).seconds == {"a": [6]}


def test_threads_are_set_before_each_timing():
    seen = []
    cases = [Case(str(n), lambda: seen.append(torch.get_num_threads()), threads=n) for n in (1, 2)]
    before = torch.get_num_threads()
    try:
        measure(cases, 2)
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2, 1, 2, 1, 2]


def test_quartiles_and_slope_are_those_of_textbooks():
    assert Spread.of([1, 2, 3, 4, 5]) == Spread(3, 2, 4)
    assert Spread.of([7]) == Spread(7, 7, 7)
    assert slope([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert slope([2, 4, 8], [5 * size**1.5 for size in (2, 4, 8)]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("bar", "value", "expected"),
    [
        (Bar(20), 20.0, "holds"),
        (Bar(20), 19.9, "does not hold"),
        (Bar(3, at_least=False), 3.0, "holds"),
        (Bar(3, at_least=False), 3.1, "does not hold"),
        (Bar(3), None, "skipped"),
        (None, 1.0, ""),
    ],
)
def test_a_bar_is_held_against_the_median(bar: Bar | None, value: float | None, expected: str):
    spread = None if value is None else Spread(value, 0, 1000)
    row = Row("a", "b", spread, bar=bar, skipped="" if spread else "not there")
    assert verdict(row) == expected
    assert row.record()["holds"] == {"holds": True, "does not hold": False}.get(expected)


def test_a_line_says_what_against_what_by_how_many_threads():
    row = Row("mixing", "timm", Spread(7.123, 6.9, 7.5), bar=Bar(7), threads=1)
    assert line(row) == "mixing, against timm (1 thread): 7.12x (6.9 to 7.5), bar >= 7: holds"
    skipped = Row("mixing", "timm", None, bar=Bar(7), skipped="timm is not here")
    assert line(skipped) == "mixing, against timm: skipped: timm is not here, bar >= 7: skipped"


def test_a_peer_that_is_not_installed_is_skipped():
    with pytest.raises(SkippedError, match=r"^no_such_peer cannot be imported .*\.\[bench\]"):
        peer("no_such_peer.augmentation")


def test_the_file_is_named_by_hardware_and_torch():
    versions = {"torch": "2.15.0+cu130"}
    about = {"device_name": "Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", "cores": 4, "versions": versions}
    assert slug(about) == "intel-xeon-e5-2690-v4-4-cores-torch-2.15.0"
    assert slug({**about, "device_name": "NVIDIA H100"}) == "nvidia-h100-4-cores-torch-2.15.0"


def test_what_intervals_cover_is_counted_once():
    assert covered([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4


def test_unequal_work_is_refused():
    pictures = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plan = MixPlan(torch.tensor([0.75, 1, 1, 1]), torch.tensor([1, 1, 2, 3]))
    mixed = pictures.clone()
    mixed[0, :, :4, :4] = pictures[1, :, :4, :4]
    mixing._check_boxes("right", pictures, mixed, plan)
    with pytest.raises(UnequalWorkError, match="lambda"):
        mixing._check_boxes("no box", pictures, pictures, plan)
    with pytest.raises(UnequalWorkError, match="neither"):
        mixing._check_boxes("another image", pictures, mixed + 1, plan)


def test_a_crop_is_told_from_another_image():
    data = images(8)
    alone = our_loader(Images(data.images, torch.arange(8)), torch.device("cpu"))
    [(made, indices)] = alone.epoch(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    assert is_crop(made, data.images[indices]).all()
    assert not is_crop(made, data.images[indices].roll(1, 0)).any()
    assert not is_crop(made.flip(-2), data.images[indices]).any()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """What a quick run of two parts leaves."""
    assert suite.run(["mixing", "loader"], quick=True, out=tmp_path) == 0
    return tmp_path


@pytest.mark.slow
def test_a_quick_run_writes_all_numbers_and_a_table(written: Path):
    [file] = written.glob("*.json")
    content = json.loads(file.read_text())
    about, parts = content["machine"], content["parts"]
    assert content["schema"] == 1
    assert content["quick"]
    assert file.stem == slug(about) + "-quick"
    assert about["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert {"device", "device_name", "cores", "precision", "cpu_capabilities"} <= set(about)
    assert not {"host", "command", "user"} & set(about)
    assert str(Path.home()) not in file.read_text()
    assert list(parts) == ["loader", "mixing"]  # in the order of the parts, not of the words
    for part in parts.values():
        assert {"date", "commit", "changed", "threads", "took", "failed"} <= set(part)
        for row in part["rows"]:
            assert row["skipped"] or row["value"]["low"] <= row["value"]["median"] <= row["value"]["high"]
            if row["bar"] and row["value"]:
                assert row["holds"] is Bar(**row["bar"]).holds(row["value"]["median"])
        for timing in part["timings"]:
            assert len(timing["seconds"]) == 2
            assert min(timing["seconds"]) > 0
            assert timing["threads"] >= 1
    against = {row["against"] for row in parts["loader"]["rows"]}
    assert against == {"DataLoader with PIL, 0 workers", "DataLoader with PIL, 2 workers"}
    assert {row["name"].partition(",")[0] for row in parts["mixing"]["rows"]} == {"none", "input", "manifold", "cutmix"}
    table = file.with_suffix(".md").read_text()
    assert table == markdown(content)
    assert table.count("\n| ") == sum(len(part["rows"]) + 1 for part in parts.values())
    assert "Only ratios count on a CPU" in table


def test_a_part_that_fails_is_told_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def good(bench: Bench) -> None:
        bench.row("a", "b", Spread(2, 1, 3), bar=Bar(1))

    def bad(bench: Bench) -> None:
        bench.row("c", "d", Spread(5, 5, 5))
        raise RuntimeError(f"{bench.folder} is odd")

    monkeypatch.setattr("vicinal.benchmarks.loading.measure", good)
    assert suite.run(["loader"], quick=False, out=tmp_path) == 0
    monkeypatch.setattr("vicinal.benchmarks.mixing.measure", bad)
    assert suite.run(["mixing"], quick=False, out=tmp_path) == 1
    [file] = tmp_path.glob("*.json")
    parts = json.loads(file.read_text())["parts"]
    assert [row["name"] for row in parts["loader"]["rows"]] == ["a"]
    assert [row["name"] for row in parts["mixing"]["rows"]] == ["c"]
    assert parts["mixing"]["failed"] == "RuntimeError: <folder> is odd"
    table = file.with_suffix(".md").read_text()
    assert "**Failed: RuntimeError: <folder> is odd**" in table
    assert re.search(r"^\| a \| b \|  \| 2x \(1 to 3\) \| >= 1 \| holds \|$", table, re.MULTILINE)


def test_the_script_knows_its_parts(capsys: pytest.CaptureFixture[str]):
    spec = importlib.util.spec_from_file_location("benchmark", CONF.parent / "scripts" / "benchmark.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    words = script.parser().parse_args(["--only", "loader", "mixing", "--quick"])
    assert (words.only, words.quick, words.out) == (["loader", "mixing"], True, Path("benchmarks"))
    assert script.parser().parse_args([]).only == list(suite.PARTS)
    with pytest.raises(SystemExit, match=r"^error: argument --only: invalid choice: 'speed'"):
        script.parser().parse_args(["--only", "speed"])


def test_what_goes_wrong_aside_comes_back(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with Aside(partial, os.rmdir, folder) as aside:
        aside()
        assert not folder.exists()
        with pytest.raises(FileNotFoundError):
            aside()
    with pytest.raises(ZeroDivisionError):
        Aside(operator.truediv, 1, 0)


def test_a_side_has_a_process_of_its_own_that_ends(tmp_path: Path):
    here = Path.cwd()
    with Aside(partial, os.chdir, tmp_path) as aside:
        aside()
        assert Path.cwd() == here
        assert Path(f"/proc/{aside._process.pid}/cwd").readlink() == tmp_path
    assert aside._process.exitcode == 0
