"""Reports as files, and the ends of finished sweeps, which cost nothing the second time."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from vicinal.analysis import compare as comparing
from vicinal.analysis.comparison import TESTED
from vicinal.errors import UserError
from vicinal.report.report import finish, name

from .. import forked

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"
ALPHA = ("mixup", "mixup.alpha")
FILES = {"summary.csv", "pairs.csv", "chosen.csv", "table.md", "table.tex", "notes.txt", "report.html", "report.json"}


def fill(runs: Any) -> Path:
    for seed in range(2):
        runs.add("none", None, seed, 0.5 + seed**2 / 30)
        runs.add("input", 0.2, seed, 0.7 + seed / 30)
    sweep: Path = runs.sweep(*ALPHA)
    return sweep


def printed(sweep: Path, **options: Any) -> str:
    stream = io.StringIO()
    finish(sweep, console=Console(file=stream, width=200), **options)
    return stream.getvalue()


def script(*words: object, cwd: Path) -> tuple[int, str, str]:
    done = forked.run([*map(str, words)], cwd, program=SCRIPT)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, which take a second and have tests of their own."""
    monkeypatch.setattr("vicinal.report.matplotlib_plots.draw", lambda comparison, folder: [])


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An entry for each comparison that was really made."""
    made: list[object] = []
    compare = comparing.compare

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return compare(*arguments, **options)

    monkeypatch.setattr("vicinal.analysis.compare.compare", counted)
    return made


def test_the_second_time_prints_the_same_without_comparing_again(runs: Any, compared: list[object]) -> None:
    sweep = fill(runs)
    first = printed(sweep)
    assert {path.name for path in (sweep / "report").iterdir()} >= FILES
    assert any(path.suffix == ".png" for path in (sweep / "report").iterdir())
    assert "51.67 ± 2.36" in first
    assert "note: too few seeds" in first
    stamps = {path: path.stat().st_mtime_ns for path in (sweep / "report").iterdir()}
    assert printed(sweep) == first
    assert len(compared) == 1
    assert {path: path.stat().st_mtime_ns for path in (sweep / "report").iterdir()} == stamps


def test_another_command_line_for_the_same_runs_changes_nothing(
    runs: Any, compared: list[object], undrawn: None
) -> None:
    sweep = fill(runs)
    first = printed(sweep)
    content = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps(content | {"command": ["train.py", "wandb.mode=disabled", "-m"]}))
    assert printed(sweep) == first
    assert len(compared) == 1


@pytest.mark.slow
def test_heavy_libraries_are_not_imported_the_second_time(runs: Any) -> None:
    sweep = fill(runs)
    program = (
        "import sys; from pathlib import Path; from vicinal.report.report import finish; finish(Path(sys.argv[1]));"
        "print([name for name in ('pandas', 'scipy', 'statsmodels', 'matplotlib', 'plotly', 'torch', 'numpy')"
        " if name in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "COLUMNS": "200"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, sweep], capture_output=True, text=True, check=True, env=environment
        )
        for _ in range(2)
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert "51.67 ± 2.36" in outputs[0].stdout
    assert "pandas" in outputs[0].stderr
    assert outputs[1].stderr.strip() == "[]"


@pytest.mark.parametrize(
    "change", ["result", "failure", "metrics", "checkpoint", "config", "environment", "file", "record"]
)
def test_what_changed_is_compared_again(runs: Any, compared: list[object], undrawn: None, change: str) -> None:
    missing = runs.add("input", 1.0, 0, None, status="missing")
    sweep = fill(runs)
    first = printed(sweep)
    run = next(path for path in (runs.outputs / "runs").iterdir() if "none" in path.name)
    match change:
        case "result":
            (run / "result.json").write_text("")
        case "failure":
            runs.entries.pop(0)
            missing_again = runs.add("input", 1.0, 0, None, status="failed")
            assert missing_again == missing
            runs.entries.insert(0, runs.entries.pop())
        case "metrics":
            with (run / "metrics.jsonl").open("a") as file:
                file.write("{")
        case "checkpoint":
            (run / "checkpoint.pt").write_bytes(b"weighty")
        case "config":
            missing.mkdir()
            (missing / "config.yaml").touch()
        case "environment":
            (run / "environment.json").write_text("{")
        case "file":
            (sweep / "report" / "pairs.csv").unlink()
        case "record":
            (sweep / "report" / "report.json").write_text("{")
    second = printed(sweep)
    assert len(compared) == 2
    assert (second == first) == (change in ("file", "record"))
    assert second.count("checkpoint.pt is damaged") == (change == "checkpoint")
    assert second.count("metrics.jsonl is damaged") == (change == "metrics")
    assert second.count("environment.json is damaged") == (change == "environment")
    assert {path.name for path in (sweep / "report").iterdir()} >= FILES


def test_other_options_have_a_folder_of_their_own(runs: Any, undrawn: None) -> None:
    sweep = fill(runs)
    printed(sweep)
    before = (sweep / "report" / "report.json").read_bytes()
    assert "difference to input" in printed(sweep, baseline=["mixup.alpha=0.2"])
    assert "test, median of all 2 epochs: difference" in printed(sweep, score="test/median10")
    names = {"report", "report-baseline=mixup.alpha=0.2", "report-score=test-median10"}
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == names
    assert (sweep / "report" / "report.json").read_bytes() == before


def test_names_of_folders_tell_all_options_apart_and_are_not_too_long() -> None:
    made = {
        name("x", baseline, score, swept, allow_confounded)
        for baseline in ([], ["mixup=none"])
        for score in TESTED
        for swept in ([], ["mixup"])
        for allow_confounded in (False, True)
    }
    assert len(made) == 24
    long = [name("x", [f"mixup.alpha={index}"] * 99, TESTED[0]) for index in range(2)]
    assert max(map(len, long)) < 256
    assert long[0] != long[1]


def test_damage_is_said_once(
    runs: Any, undrawn: None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sweep = fill(runs)
    run = next((runs.outputs / "runs").iterdir())
    with (run / "metrics.jsonl").open("a") as file:
        file.write("{")
    text = printed(sweep)
    assert (text + caplog.text + "".join(capsys.readouterr())).count("metrics.jsonl is damaged") == 1


def test_the_notes_are_a_file(runs: Any, undrawn: None) -> None:
    sweep = fill(runs)
    notes = [line.removeprefix("note: ") for line in printed(sweep).splitlines() if line.startswith("note: ")]
    assert (sweep / "report" / "notes.txt").read_text().splitlines() == notes
    assert len(notes) > 2


def test_a_report_that_was_interrupted_is_made_again(
    runs: Any, compared: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = fill(runs)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vicinal.report.matplotlib_plots.draw", full)
        with pytest.raises(OSError, match="No space left"):
            printed(sweep)
    assert not (sweep / "report" / "report.json").exists()
    assert "51.67 ± 2.36" in printed(sweep)
    assert len(compared) == 2


def test_a_sweep_of_nothing_but_failures_has_a_report(runs: Any) -> None:
    runs.add("none", None, 0, None, status="failed")
    runs.add("input", 0.2, 0, None, status="missing")
    sweep = runs.sweep(*ALPHA)
    text = printed(sweep)
    assert "the loss is not finite" in text
    assert "never begun" in text
    assert (sweep / "report" / "report.html").exists()


def test_a_damaged_sweep_is_one_line(runs: Any) -> None:
    sweep = fill(runs)
    (sweep / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep.json is damaged"):
        finish(sweep)


@pytest.mark.slow
def test_the_command_on_a_sweep_gives_what_its_end_gave(runs: Any, tmp_path: Path) -> None:
    sweep = fill(runs)
    done = subprocess.run([sys.executable, SCRIPT, sweep], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"report: {sweep / 'report/report.html'}\n")
    table = pd.read_csv(sweep / "report" / "summary.csv")
    assert table["test/last mean"].tolist() == pytest.approx([0.5 + 1 / 60, 0.7 + 1 / 60])


@pytest.mark.slow
def test_the_command_with_conditions_reads_outputs(runs: Any, tmp_path: Path) -> None:
    fill(runs)
    code, out, err = script("--where", "mixup=input", "--where", "trainer.epochs=2", cwd=tmp_path)
    assert (code, err) == (0, "")
    folder = Path("outputs/reports/mixup=input+trainer.epochs=2")
    assert out.endswith(f"report: {folder / 'report.html'}\n")
    table = pd.read_csv(tmp_path / folder / "summary.csv")
    assert table["n"].tolist() == [2]
    assert {path.name for path in (tmp_path / folder).iterdir()} >= FILES


@pytest.mark.slow
def test_cells_that_differ_in_more_are_refused_or_every_output_says_so(runs: Any, tmp_path: Path) -> None:
    fill(runs)
    runs.add("cutmix", 1.0, 0, 0.75, trainer__batch_size=128, trainer__epochs=3)
    code, out, err = script("outputs", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err == (
        "error: these cells differ also in trainer.epochs (3, 2), trainer.batch_size (128, 64): say "
        "--swept mixup,mixup.alpha,trainer.epochs,trainer.batch_size, or --allow-confounded, or fewer with --where\n"
    )
    code, out, err = script(tmp_path / "outputs", "--allow-confounded", cwd=tmp_path.parent)
    assert (code, err) == (0, "")
    assert (tmp_path / "outputs/reports/outputs-allow-confounded/report.html").exists()
    code, out, err = script("outputs", "--allow-confounded", "--output", "here", cwd=tmp_path)
    assert (code, err) == (0, "")
    caveat = "the cells differ in more than the swept keys: trainer.epochs (3, 2), trainer.batch_size (128, 64)"
    assert f"note: {caveat}" in out
    for file in ("table.md", "table.tex", "notes.txt", "report.html"):
        assert caveat in (tmp_path / "here" / file).read_text()
    swept = "mixup,mixup.alpha,trainer.epochs,trainer.batch_size"
    code, out, err = script("outputs", "--swept", swept, "--output", "here", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "differ in more" not in out
    assert list(pd.read_csv(tmp_path / "here" / "summary.csv").columns[:4]) == swept.split(",")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "say what to report on: the folder of a sweep, a folder of runs, or --where key=value"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["outputs", "--score", "test"], "argument --score: invalid choice: 'test'"),
        (["outputs", "--wear", "x=1"], "unrecognized arguments: --wear x=1; --help says more"),
        (["--where", "mixup=cutmix"], "mixup=cutmix: no such run; there are: input, none"),
        (
            ["outputs", "--baseline", "mixup=cutmix"],
            "--baseline mixup=cutmix: no such cell; there are: none, input",
        ),
        (["outputs", "--output", "file/below"], "file"),
    ],
)
def test_mistakes_are_one_line(runs: Any, tmp_path: Path, words: list[str], line: str) -> None:
    fill(runs)
    (tmp_path / "file").touch()
    code, _, err = script(*words, cwd=tmp_path)
    assert code == 1
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


def test_help_explains_each_word(tmp_path: Path) -> None:
    code, out, _ = script("--help", cwd=tmp_path)
    assert code == 0
    for word in ("SWEEP|FOLDER", "--where", "--baseline", "--score", "--swept", "--allow-confounded", "--output"):
        assert word in out
