"""``python train.py`` and ``vicinal-train`` as they are started by a user."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.tracking.run_files import TIME_FIELDS

from .. import forked

Train = Callable[..., tuple[int, str, str]]
REPO = Path(__file__).parents[2]
TRAIN = [sys.executable, str(REPO / "train.py")]
HEAVY = {"torch", "torchvision", "sklearn", "wandb", "pandas", "scipy", "numpy", "rich"}
SMALL = ["trainer.epochs=1", "trainer.threads=1", "trainer.precision=fp32", "dataset.train_size=128"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return kept | {"WANDB_MODE": "disabled"}


def start(command: list[str], *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *words], cwd=folder, env=environment(), capture_output=True, text=True)


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(name in row for row in rows for name in TIME_FIELDS)
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows]


def test_help_shows_groups_options_keys_and_examples(tmp_path: Path) -> None:
    ended = start(TRAIN, "--help", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    for group in ("dataset", "experiment", "mixup", "model", "optimizer", "scheduler", "trainer", "wandb"):
        files = [path.relative_to(REPO / "conf" / group) for path in (REPO / "conf" / group).rglob("*.yaml")]
        options = sorted(str(path.with_suffix("")) for path in files)
        assert f"{group}: {', '.join(options)}" in lines
    examples = [line for line in lines if line.startswith("  python train.py")]
    assert len(examples) >= 3
    assert any(line.split("#")[0].split("  ")[1].endswith(" -m") for line in examples)
    assert "  batch_size: 64" in lines
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["import vicinal", "from vicinal.cli.train import main; main()"])
def test_help_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {command}"
    ended = start([sys.executable, "-c", code], "--help", folder=tmp_path)
    assert ended.returncode == 0
    imported = set(ended.stderr.split())
    assert "vicinal" in imported
    assert imported & HEAVY == set()


REPORTING = {"sklearn", "scipy", "pandas", "matplotlib", "plotly", "statsmodels", "torchvision"}


def test_a_job_imports_no_library_that_only_a_report_or_another_data_set_needs(tmp_path: Path) -> None:
    code = "import atexit, gc, sys; atexit.register(lambda: print(*sys.modules, gc.isenabled(), file=sys.stderr)); "
    ended = start([sys.executable, "-c", code + "from vicinal.cli.train import main; main()"], *SMALL, folder=tmp_path)
    assert ended.returncode == 0
    *imported, collecting = ended.stderr.split()
    assert {"vicinal.jobs.session", "torch"} <= set(imported)
    assert set(imported) & {*REPORTING, "wandb"} == set()
    assert collecting == "True"


FIRST_STEP = """
import os, sys
from vicinal.cli.train import main
from vicinal.training.learner import Learner

def step(*_):
    print(*sys.modules, flush=True)
    os._exit(0)

Learner.step = step
main()
"""


def test_the_first_step_does_not_wait_for_wandb(tmp_path: Path) -> None:
    ended = start([sys.executable, "-c", FIRST_STEP], *SMALL, "wandb.mode=offline", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    imported = set(ended.stdout.splitlines()[-1].split())
    assert "vicinal.tracking.wandb.tracker" in imported
    assert imported & {*REPORTING, "wandb"} == set()


ENDING = """
import atexit, sys
from vicinal.cli import train as main

atexit.register(print, "after Python was taken apart")

def end():
    atexit.register(print, "bye")
    {end}

main.main = end
main.command()
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("return", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(143)", 143, ""),
        ("sys.exit('error: no')", 1, "error: no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    ],
)
def test_the_process_ends_as_python_would(end: str, code: int, said: str) -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING.format(end=end)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "bye\n")
    assert ended.stderr.endswith(said)
    assert bool(ended.stderr) == bool(said)


def test_output_that_cannot_be_read_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as pipe:
        code = [sys.executable, "-c", ENDING.format(end="return")]
        ended = subprocess.run(code, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


RESTING = """
import gc, sys
from vicinal.utils.gc_pause import without_collections
with without_collections():
    import torch
    print(gc.isenabled())
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
with without_collections():
    print(gc.isenabled())
"""


def test_the_garbage_collector_rests_for_the_first_imports_alone() -> None:
    ended = subprocess.run([sys.executable, "-c", RESTING], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("False\nTrue True\nTrue\n", "")


@pytest.mark.slow
def test_both_commands_make_the_same_run(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "vicinal-train"
    if not script.exists():
        pytest.skip("vicinal-train is not installed beside this Python")
    results, rows = [], []
    for name, command in {"file": TRAIN, "script": [str(script)]}.items():
        folder = tmp_path / name
        folder.mkdir()
        ended = start(command, *SMALL, folder=folder)
        assert (ended.returncode, ended.stderr) == (0, "")
        (run,) = (folder / "outputs/runs").iterdir()
        assert run.name.endswith(results[0]["run_id"] if results else "-s0")
        results.append(json.loads((run / "result.json").read_text()))
        rows.append(metrics(run))
    same = ("cell_id", "run_id", "val", "test", "best_epoch", "choices")
    assert [results[0][name] for name in same] == [results[1][name] for name in same]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGTERM, 143, "SIGTERM: finishing the step and saving\n"),
        (signal.SIGINT, 130, "SIGINT: finishing the step and saving; again: stop without saving\ninterrupted\n"),
    ],
    ids=["TERM", "INT"],
)
def test_an_interrupted_run_says_so_and_is_not_done(sent: signal.Signals, code: int, said: str, tmp_path: Path) -> None:
    words = [word for word in SMALL if "epochs" not in word]
    with subprocess.Popen(
        [*TRAIN, *words, "trainer.epochs=100000"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs, this test among them perhaps, with SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not list(tmp_path.glob("outputs/runs/*/metrics.jsonl")):
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.05)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, said)
    assert not list(tmp_path.glob("outputs/runs/*/result.json"))


IMPORTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.{sent})
    time.sleep(60)
except BaseException:
    os.abort()
"""
"""What torch, C++ that imports Python, does with an exception."""


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138), (signal.SIGUSR2, 140)],
)
@pytest.mark.parametrize("words", [[], ["-m"]], ids=["run", "sweep"])
def test_a_signal_in_the_middle_of_an_import_ends_the_command(
    tmp_path: Path, sent: signal.Signals, code: int, words: list[str]
) -> None:
    (tmp_path / "nets.py").write_text(IMPORTED.format(sent=sent.name))
    given, own = ["model._target_=nets.Net", *words], environment() | {"PYTHONPATH": str(tmp_path)}
    if sent == signal.SIGTERM:
        ended = subprocess.run([*TRAIN, *given], cwd=tmp_path, env=own, capture_output=True, text=True)
    else:
        ended = forked.run(given, tmp_path, own)
    assert ended.returncode == code, ended.stderr
    assert "terminate" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("words", [[], ["mixup.alpha=0.2,0.4", "-m"]], ids=["run", "sweep"])
def test_a_signal_of_which_a_library_makes_an_error_still_ends_the_command(
    train: Train, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int, words: list[str]
) -> None:
    """OmegaConf does, where the signal comes while it puts its flags back."""
    begun = []

    def interrupted(*_: object) -> None:
        begun.append(1)
        try:
            signal.raise_signal(sent)
        except BaseException:
            raise AttributeError("what was interrupted is half done") from None

    monkeypatch.setattr("vicinal.experiment.Experiment.of", interrupted)
    assert train(*words)[0] == code
    assert len(begun) == 1
