"""The measuring stick: turns, medians, ratios, bars, refusals, and what it writes. Nothing is timed by the wall."""

import importlib.util
import json
import math
import operator
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.suite import gpu, mixing, suite
from benchmarks.suite.bench import Bar, Bench, Row, SkippedError, UnequalWorkError, line, peer, verdict
from benchmarks.suite.budget import OutOfTime, noticed, time_limit
from benchmarks.suite.gpu import step_checks, training_checks
from benchmarks.suite.gpu.speed import covered
from benchmarks.suite.loading import is_crop, our_loader
from benchmarks.suite.machine import slug
from benchmarks.suite.subprocess_case import SubprocessCase
from benchmarks.suite.synthetic import images
from benchmarks.suite.table import markdown
from benchmarks.suite.timing import Case, Spread, Timings, measure, slope
from vicinal.config.schema import CONF
from vicinal.data import Samples
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
    alone = our_loader(Samples(data.inputs, torch.arange(8)), torch.device("cpu"))
    [(made, indices)] = alone.epoch(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    assert is_crop(made, data.inputs[indices]).all()
    assert not is_crop(made, data.inputs[indices].roll(1, 0)).any()
    assert not is_crop(made.flip(-2), data.inputs[indices]).any()


STOPPED_AT = range(5)
NOT_A_NUMBER = "not a finite number"


@pytest.mark.parametrize("stop", STOPPED_AT)
@pytest.mark.parametrize("inside", [False, True])
def test_what_was_done_when_the_budget_ends_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, inside: bool, caplog: pytest.LogCaptureFixture
):
    def make(number: int):
        def item(bench: Bench) -> None:
            if number == stop and not inside:
                signal.raise_signal(signal.SIGALRM)
            bench.row(f"row {number}", "", Spread.of([number]), unit="")
            if number == stop and inside:
                signal.raise_signal(signal.SIGALRM)
            bench.row(f"more {number}", "", Spread.of([number]), unit="")

        return item

    caplog.set_level("INFO")
    items = {f"item {number}": make(number) for number in STOPPED_AT}
    monkeypatch.setattr(gpu, "measure", partial(gpu.measure, items=items))
    before = signal.getsignal(signal.SIGALRM)
    assert suite.run(["gpu"], quick=True, out=tmp_path, budget=1000) == 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before
    [file] = tmp_path.glob("*.json")
    part = json.loads(file.read_text())["parts"]["gpu"]
    assert part["failed"] == "the budget was used up"
    done = [f"{kind} {number}" for number in range(stop) for kind in ("row", "more")] + [f"row {stop}"] * inside
    left = [f"item {number}" for number in STOPPED_AT if number >= stop]
    assert [row["name"] for row in part["rows"]] == done + left
    assert {row["skipped"] for row in part["rows"][len(done) :]} == {"did not fit into the budget"}
    assert file.with_suffix(".md").read_text() == markdown(json.loads(file.read_text()))
    *_, last_but_one, last = caplog.messages
    assert last_but_one == "the budget of 1000 s is used up; not finished: gpu"
    table = last.partition("written: ")[0].strip().splitlines()
    assert [line.rpartition("  ")[2] for line in table if "row" in line or "more" in line] == done
    assert table[-1].endswith("item 4")


def test_the_budget_ends_what_takes_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def endless(bench: Bench) -> None:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])

    monkeypatch.setattr(gpu, "measure", partial(gpu.measure, items={"endless": endless, "more": endless}))
    assert suite.run(["gpu", "loader"], quick=True, out=tmp_path, budget=0.2) == 0  # loader comes first
    [file] = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["parts"]["loader"]["failed"] == "the budget was used up"
    assert suite.run(["gpu"], quick=True, out=tmp_path, budget=0.2) == 0
    rows = json.loads(file.read_text())["parts"]["gpu"]["rows"]
    assert [(row["name"], row["skipped"]) for row in rows] == [
        ("endless", "did not fit into the budget"), ("more", "did not fit into the budget")
    ]  # fmt: skip


def test_an_item_that_fails_is_told_and_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def bad(bench: Bench) -> None:
        bench.row("before", "", Spread.of([1]), unit="")
        raise ValueError("it is\nodd")

    def good(bench: Bench) -> None:
        bench.row("good", "", Spread.of([2]), unit="")

    monkeypatch.setattr(gpu, "measure", partial(gpu.measure, items={"bad": bad, "fine": good}))
    assert suite.run(["gpu"], quick=True, out=tmp_path) == 1
    [file] = tmp_path.glob("*.json")
    part = json.loads(file.read_text())["parts"]["gpu"]
    assert part["failed"] == "bad: ValueError: it is odd"
    assert [(row["name"], row["failed"]) for row in part["rows"]] == [
        ("before", ""), ("bad", "ValueError: it is odd"), ("good", "")
    ]  # fmt: skip
    assert set(part["seconds of items"]) == {"bad", "fine"}
    assert re.search(
        r"^\| bad \|  \|  \| failed: ValueError: it is odd \|  \| FAILED \|$", table_of(file), re.MULTILINE
    )


def table_of(file: Path) -> str:
    return file.with_suffix(".md").read_text()


@pytest.mark.parametrize(("value", "failed"), [(0.0, ""), (1.0, "must be <= 0"), (math.nan, NOT_A_NUMBER),
                                               (math.inf, NOT_A_NUMBER)])  # fmt: skip
@pytest.mark.parametrize("late", [False, True])
def test_what_is_wrong_is_a_failure_whatever_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, failed: str, late: bool
):
    def item(bench: Bench) -> None:
        bench.check("right?", "", value, Bar(0, at_least=False))

    def more(bench: Bench) -> None:
        bench.row("slow", "", Spread.of([1]), bar=Bar(2))  # which is a result, and no failure
        if late:
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(gpu, "measure", partial(gpu.measure, items={"item": item, "more": more}))
    assert suite.run(["gpu"], quick=True, out=tmp_path, budget=1000) == int(bool(failed))
    [file] = tmp_path.glob("*.json")
    part = json.loads(file.read_text())["parts"]["gpu"]
    reasons = [f"right?: {failed}"] * bool(failed) + ["the budget was used up"] * late
    assert part["failed"] == "; ".join(reasons)
    assert part["rows"][0]["failed"] == failed
    assert part["rows"][1]["holds"] is False


def test_an_alarm_while_cleaning_up_is_not_heard():
    with time_limit(1000):
        with pytest.raises(OutOfTime):
            signal.raise_signal(signal.SIGALRM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        noticed()
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_without_a_gpu_its_figures_are_skipped_and_say_how_to_rehearse(tmp_path: Path):
    bench = Bench(torch.device("cpu"), 1, False, tmp_path, tmp_path, "cpu")
    gpu.measure(bench)
    assert [row.name for row in bench.rows] == list(gpu.ITEMS)
    assert {row.skipped for row in bench.rows} == {"there is no CUDA device; --device cpu --quick rehearses it"}


def test_each_wait_is_seen_with_its_place():
    with training_checks.Watch(torch.device("cpu"), steps=3) as watch:
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert len(watch.places) == 2
    assert re.fullmatch(r".*test_benchmark\.py:\d+", watch.places[0])


def test_two_states_of_a_training_are_compared_tensor_by_tensor():
    state = {"weights": {"a": torch.ones(2), "b": torch.zeros(1)}, "rows": [{"loss": 0.5}], "clock": {"train": 1.0}}
    other = {"weights": {"a": torch.ones(2), "b": torch.zeros(1)}, "rows": [{"loss": 0.5}], "clock": {"train": 2.0}}
    assert training_checks.differences(state, other) == []
    other["weights"]["b"] += torch.finfo(torch.float32).tiny
    other["rows"][0]["loss"] = 0.25
    assert sorted(training_checks.differences(state, other)) == [".rows.0.loss", ".weights.b"]
    del other["weights"]["a"]
    assert ".weights.a" in training_checks.differences(state, other)
    assert ".weights.a" in training_checks.differences(other, state)


def test_the_error_of_a_step_is_large_where_a_plan_is_not_carried_out(monkeypatch: pytest.MonkeyPatch):
    """So the limit of the check means something: a step on images that are not mixed is far beyond it."""
    strategy = step_checks.STRATEGIES["input, per sample"]
    device = torch.device("cpu")
    assert step_checks.step_error(strategy, "fp32", device, seed=0) < step_checks.TOLERANCES["fp32"]
    mix = MixPlan.mix
    monkeypatch.setattr(MixPlan, "mix", lambda plan, x, out=None: x if x.dtype == torch.float32 else mix(plan, x, out))
    assert step_checks.step_error(strategy, "fp32", device, seed=0) > 0.1


def test_a_gradient_that_is_no_number_is_an_infinite_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step_checks, "gradient", lambda model: torch.tensor([math.nan]))
    error = step_checks.step_error(step_checks.STRATEGIES["none"], "fp32", torch.device("cpu"), seed=0)
    assert error == math.inf
    assert step_checks.worst([1e-6, math.nan]) == math.inf
    assert step_checks.worst([1e-6, 2e-6]) == 2e-6


def test_a_check_of_compiled_steps_refuses_what_was_not_compiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.compile", lambda model, **options: model)
    with pytest.raises(UnequalWorkError, match="nothing was compiled"):
        step_checks.step_error(step_checks.STRATEGIES["none"], "fp32", torch.device("cpu"), seed=0, compiled=True)


@pytest.mark.slow
def test_the_gpu_check_can_be_rehearsed_on_a_cpu(tmp_path: Path):
    """Every line of it; what is right on a CPU is within the limits, and the times mean nothing."""
    script = CONF.parent / "scripts" / "benchmark.py"
    words = ["--only", "gpu", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = tmp_path.glob("*.json")
    part = json.loads(file.read_text())["parts"]["gpu"]
    assert list(part["seconds of items"]) == list(gpu.ITEMS)
    checks = [row for row in part["rows"] if row["bar"] and not row["unit"]]
    assert len(checks) >= 36
    assert [row["name"] for row in checks if row["holds"] is not True] == []
    assert {row["skipped"] for row in part["rows"] if "cannot be imported" not in row["skipped"]} == {""}
    about = {row["name"].partition(":")[0] for row in checks}
    assert {f"{name}, {precision}" for name in step_checks.STRATEGIES for precision in ("fp32", "bf16")} <= about
    assert {len(kernels) for kernels in part["kernels"].values()} == {10}
    last_row = done.stdout.rpartition("written: ")[0].strip().splitlines()[-1]
    assert last_row.endswith("CIFAR-10 (JPEG), preact_resnet18, 15 epochs, cutmix, seed 0: steps and evaluation")


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

    monkeypatch.setattr("benchmarks.suite.loading.measure", good)
    assert suite.run(["loader"], quick=False, out=tmp_path) == 0
    monkeypatch.setattr("benchmarks.suite.mixing.measure", bad)
    assert suite.run(["mixing"], quick=False, out=tmp_path) == 1
    [file] = tmp_path.glob("*.json")
    parts = json.loads(file.read_text())["parts"]
    assert [row["name"] for row in parts["loader"]["rows"]] == ["a"]
    assert [row["name"] for row in parts["mixing"]["rows"]] == ["c"]
    assert parts["mixing"]["failed"] == "RuntimeError: <folder> is odd"
    table = file.with_suffix(".md").read_text()
    assert "**Not finished: RuntimeError: <folder> is odd**" in table
    assert re.search(r"^\| a \| b \|  \| 2x \(1 to 3\) \| >= 1 \| holds \|$", table, re.MULTILINE)


def test_the_script_knows_its_parts(capsys: pytest.CaptureFixture[str]):
    spec = importlib.util.spec_from_file_location("benchmark", CONF.parent / "scripts" / "benchmark.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    words = script.parser().parse_args(["--only", "loader", "mixing", "--quick"])
    assert (words.only, words.quick, words.out) == (["loader", "mixing"], True, Path("benchmarks"))
    assert script.parser().parse_args([]).only == list(suite.PARTS)
    assert (words.budget, words.device) == (None, "auto")
    assert script.parser().parse_args(["--budget", "480", "--device", "cpu"]).budget == 480
    with pytest.raises(SystemExit, match=r"^error: argument --budget: 0: must be a finite number > 0"):
        script.parser().parse_args(["--budget", "0"])
    with pytest.raises(SystemExit, match=r"^error: argument --only: invalid choice: 'speed'"):
        script.parser().parse_args(["--only", "speed"])


def test_an_error_in_the_subprocess_comes_back(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with SubprocessCase(partial, os.rmdir, folder) as case:
        case()
        assert not folder.exists()
        with pytest.raises(FileNotFoundError):
            case()
    with pytest.raises(ZeroDivisionError):
        SubprocessCase(operator.truediv, 1, 0)


def test_a_subprocess_case_has_a_process_that_ends(tmp_path: Path):
    here = Path.cwd()
    with SubprocessCase(partial, os.chdir, tmp_path) as case:
        case()
        assert Path.cwd() == here
        assert Path(f"/proc/{case._process.pid}/cwd").readlink() == tmp_path
    assert case._process.exitcode == 0
