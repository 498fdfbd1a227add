"""A sweep of real processes, killed at twenty random moments, ends with the files of the sweep that nobody touched."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.tracking.run_files import TIME_FIELDS

from ..forked import Forked

pytestmark = pytest.mark.slow

TRAIN = Path(__file__).parents[2] / "train.py"
STRATEGIES = ("none", "input", "manifold", "cutmix")
EPOCHS = 24
STEPS = 10
TRAINER = (
    f"trainer.epochs={EPOCHS}",
    "dataset.train_size=200",
    "dataset.val_size=100",
    "trainer.batch_size=20",
    "trainer.ema_decay=0.9",
    "trainer.precision=fp32",  # bf16 is ten times slower where no instruction multiplies it; test_resume.py has it
    "trainer.threads=1",
    "wandb.mode=offline",
    "wandb.images=3",
)
SWEEP = (f"mixup={','.join(STRATEGIES)}", "mixup.alpha=1", *TRAINER, "-m")
KILLS = 20
RESERVE = 6
"""Epochs that are kept for the last process."""
NOT_SAVED_BY_ITSELF = 1000


@dataclass
class Session:
    """One process, from its start to its end."""

    code: int
    out: str
    kind: str
    """The phase that it was killed in; "" if it ended by itself."""
    positions: dict[str, tuple[int, int]]
    """{run folder: epochs done, steps done in the next}, as the checkpoints say afterwards."""


class Sweep:
    """The same command in one folder, again and again."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.words = folder, words
        folder.mkdir()
        self.sessions: list[Session] = []
        home = folder.with_name(f"{folder.name}-wandb")
        home.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR"):
            self.environment[name] = str(home)
        self.environment |= {"NETRC": str(home / "netrc"), "OMP_NUM_THREADS": "1"}
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._state: dict[Path, int] = {}

    def start(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """Start a process, the leader of a group of its own."""
        self._state = self.state()
        with (self.folder / "out.txt").open("wb") as out:
            self.process = process = subprocess.Popen(
                [sys.executable, *(command or (TRAIN, *self.words))],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # pytest may run under nohup
            )
        return process

    def fork(self) -> Forked:
        """Start the same without the imports."""
        self._state = self.state()
        out = self.folder / "out.txt"
        out.write_bytes(b"")
        self.process = process = Forked(self.words, self.folder, out, self.environment)
        return process

    def wait(self, kind: str = "") -> Session:
        assert self.process is not None
        code = self.process.wait(timeout=300)
        out = (self.folder / "out.txt").read_text()
        self.sessions.append(Session(code, out, kind, self.positions()))
        return self.sessions[-1]

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for it; whether the process is still there."""
        assert self.process is not None
        limit = time.monotonic() + 300
        while self.process.poll() is None and not condition():
            assert time.monotonic() < limit, (self.folder / "out.txt").read_text()
            time.sleep(0.01)
        return self.process.poll() is None

    def state(self, pattern: str = "*") -> dict[Path, int]:
        """When each file of the runs was written last."""
        found = {}
        for file in self.folder.glob(f"outputs/runs/*/{pattern}"):
            try:
                found[file] = file.stat().st_mtime_ns
            except FileNotFoundError:  # a temporary one
                continue
        return found

    def touched(self, pattern: str = "*") -> bool:
        """Whether the process has written to the runs."""
        return any(self._state.get(file) != changed for file, changed in self.state(pattern).items())

    def runs(self) -> list[Path]:
        return sorted(self.folder.glob("outputs/runs/*"))

    def epochs(self) -> int:
        """Rows there are, of all runs."""
        return sum(file.read_bytes().count(b"\n") for file in self.folder.glob("outputs/runs/*/metrics.jsonl"))

    def positions(self) -> dict[str, tuple[int, int]]:
        found = {}
        for file in self.folder.glob("outputs/runs/*/checkpoint.pt"):
            content = torch.load(file, weights_only=True)
            if "training" in content:
                training = content["training"]
                found[file.parent.name] = (
                    len(training["history"]["rows"]),
                    training["totals"][0]["train_metrics"]["steps"],
                )
        return found

    def strike(self, number: signal.Signals, wandb_too: bool) -> None:
        """Send a signal to the whole group, and to wandb's process, which has a group of its own."""
        assert self.process is not None
        children: list[int] = []
        if wandb_too:
            for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
                children += map(int, file.read_text().split())
        os.killpg(self.process.pid, number)
        for child in children:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Pace:
    """How long the phases of the untouched sweep took, in seconds."""

    start: float
    """To the first checkpoint."""
    setup: float
    """From the first sign of a run to its first checkpoint."""
    epoch: float


def whole(sweep: Sweep) -> Pace:
    """Run the sweep to its end and take the times."""
    began = time.monotonic()
    sweep.start()
    assert sweep.until(sweep.touched)
    first = time.monotonic()
    assert sweep.until(lambda: sweep.touched("checkpoint.pt"))
    second = time.monotonic()
    assert sweep.until(lambda: sweep.epochs() == EPOCHS * len(STRATEGIES))
    last = time.monotonic()
    session = sweep.wait()
    assert session.code == 0, session.out
    return Pace(second - began, second - first, (last - second) / (EPOCHS * len(STRATEGIES)))


def struck(sweep: Sweep, number: signal.Signals, pace: Pace, draw: random.Random) -> None:
    """Start, kill and start again, until as many processes as planned were hit, then let it come to its end.

    The moments are random: most in the training, some while a run is prepared, some anywhere from the start of the
    process. How many epochs a process may live for follows from those and the kills that are left, on any machine.
    """
    kinds = ["training"] * 12 + ["preparation"] * 4 + ["anywhere"] * 4
    assert len(kinds) == KILLS
    draw.shuffle(kinds)
    while kinds:
        kind = kinds[-1]
        if kind == "anywhere":
            sweep.start()
            seconds, more = draw.uniform(0, pace.start), 1
        elif kind == "preparation":
            sweep.fork()
            sweep.until(sweep.touched)
            seconds, more = draw.uniform(0, pace.setup), 1
        else:
            sweep.fork()
            sweep.until(lambda: sweep.touched("checkpoint.pt"))
            seconds, more = 300.0, 0
        done = sweep.epochs()
        share = max(0, EPOCHS * len(STRATEGIES) - RESERVE - done) / (kinds.count("training") + 2)
        sweep.until(moment(sweep, done + int(draw.uniform(0, 2 * share)) + more, seconds))
        time.sleep(draw.uniform(0, pace.epoch / 2))
        if sweep.process is not None and sweep.process.poll() is None:
            sweep.strike(number, wandb_too=draw.random() < 0.5)
            kinds.pop()
            sweep.wait(kind)
        else:
            session = sweep.wait()
            pytest.fail(f"the process has ended before it was hit, {len(kinds)} kills early:\n{session.out}")
    sweep.fork()
    session = sweep.wait()
    assert session.code == 0, session.out


def moment(sweep: Sweep, epochs: int, seconds: float) -> Callable[[], bool]:
    """When there are so many epochs, or so much time has passed: on a machine that has become faster, the former."""
    end = time.monotonic() + seconds
    return lambda: sweep.epochs() >= epochs or time.monotonic() > end


Sweeps = dict[str, Sweep]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeps]:
    """The untouched sweep, and the two that were hit, at the same time on the machine's cores."""
    folder = tmp_path_factory.mktemp("kill")
    never = f"trainer.checkpoint_every={NOT_SAVED_BY_ITSELF}"  # all that SIGTERM leaves is of its own saving
    found = {
        "whole": Sweep(folder / "whole", *SWEEP, "trainer.checkpoint_every=5steps"),
        "SIGKILL": Sweep(folder / "SIGKILL", *SWEEP, "trainer.checkpoint_every=5steps"),
        "SIGTERM": Sweep(folder / "SIGTERM", *SWEEP, never),
    }
    seed = int(os.environ.get("VICINAL_TEST_SEED", "0")) or random.SystemRandom().randrange(10**6)
    print(f"\nVICINAL_TEST_SEED={seed}")
    try:
        pace = whole(found["whole"])
        with ThreadPoolExecutor() as pool:
            work = [
                pool.submit(struck, found[name], signal.Signals[name], pace, random.Random(f"{seed} {name}"))
                for name in ("SIGKILL", "SIGTERM")
            ]
            for each in work:
                each.result()
        yield found
    finally:
        for sweep in found.values():
            sweep.clean()


HIT = ("SIGKILL", "SIGTERM")


@pytest.mark.parametrize("name", HIT)
def test_twenty_were_hit(sweeps: Sweeps, name: str) -> None:
    *hit, last = sweeps[name].sessions
    assert len(hit) == KILLS
    assert (last.code, last.kind) == (0, "")
    for session in hit:
        assert session.code in {"SIGKILL": (-9,), "SIGTERM": (143, -15)}[name], session.out
        assert "Traceback" not in session.out
    # The moments were spread: over the runs, their epochs and, with saving in between, steps.
    positions = {(run, *position) for session in hit for run, position in session.positions.items()}
    assert len({run for run, *_ in positions}) >= 3
    assert len(positions) >= 8


def test_sigterm_leaves_with_its_code(sweeps: Sweeps) -> None:
    """Nothing of Vicinal's is there yet in the first moments, while Python starts."""
    sessions = [session for session in sweeps["SIGTERM"].sessions if session.kind in ("training", "preparation")]
    assert len(sessions) == 16
    assert [session.code for session in sessions] == [143] * 16


def test_sigterm_loses_not_a_step(sweeps: Sweeps) -> None:
    """Nothing else saves in this sweep. The next process goes on from there, and what it says of it is true."""
    saved = 0
    for before, session in pairwise(sweeps["SIGTERM"].sessions):
        saved += "SIGTERM: finishing the step and saving" in before.out
        going_on = re.findall(r"^going on in epoch (\d+) after step (\d+)$", session.out, re.MULTILINE)
        assert len(going_on) <= 1
        if going_on:
            epoch, step = map(int, going_on[0])
            assert (epoch - 1, step) in before.positions.values()
    assert saved >= 8


@pytest.mark.parametrize("name", HIT)
def test_no_run_was_trained_anew(sweeps: Sweeps, name: str) -> None:
    """From one process to the next no checkpoint goes back."""
    for before, after in pairwise(sweeps[name].sessions):
        for run, position in before.positions.items():
            assert after.positions.get(run, (EPOCHS, 0)) >= position


def test_neighbours_of_the_whole_differ(sweeps: Sweeps) -> None:
    """So that equal files say something."""
    assert len({(run / "checkpoint.pt").read_bytes() for run in sweeps["whole"].runs()}) == len(STRATEGIES)
    assert len({without_times(run / "metrics.jsonl") for run in sweeps["whole"].runs()}) == len(STRATEGIES)


def without_times(metrics: Path) -> str:
    text, count = re.subn(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", metrics.read_text())
    assert count == len(TIME_FIELDS) * len(text.splitlines()) == len(TIME_FIELDS) * EPOCHS
    return text


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_bytes())
    del content["seconds"], content["images_per_second"], content["wandb"]["id"], content["checksum"]
    assert content["config"]["trainer"].pop("checkpoint_every") in ("5steps", NOT_SAVED_BY_ITSELF)
    return content


def config(run: Path) -> str:
    text = (run / "config.yaml").read_text().partition("\n")[2]
    return re.sub(r"(?m)^  checkpoint_every: .*\n", "", text)


PARTS: dict[str, Callable[[Path], object]] = {
    "checkpoint.pt": lambda run: (run / "checkpoint.pt").read_bytes(),
    "metrics.jsonl": lambda run: without_times(run / "metrics.jsonl"),
    "mixed.png": lambda run: (run / "mixed.png").read_bytes(),
    "predictions.npz": lambda run: (run / "predictions.npz").read_bytes(),
    "result.json": result,
    "config.yaml": config,
}


@pytest.mark.parametrize("name", HIT)
@pytest.mark.parametrize("part", PARTS)
def test_the_files_are_those_of_the_untouched_sweep(sweeps: Sweeps, name: str, part: str) -> None:
    runs, others = sweeps["whole"].runs(), sweeps[name].runs()
    assert [run.name for run in runs] == [other.name for other in others]
    assert len(runs) == len(STRATEGIES)
    for run, other in zip(runs, others, strict=True):
        assert PARTS[part](run) == PARTS[part](other)


@pytest.mark.parametrize("name", ["whole", *HIT])
def test_the_folders_hold_nothing_else(sweeps: Sweeps, name: str) -> None:
    """No temporary file, no earlier checkpoint, nothing damaged; and the checksums agree."""
    for run in sweeps[name].runs():
        assert sorted(file.name for file in run.iterdir()) == [
            ".lock", "SHA256SUMS", "checkpoint.pt", "config.yaml", "environment.json", "metrics.jsonl", "mixed.png",
            "predictions.npz", "result.json", "train.log", "wandb",
        ]  # fmt: skip
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=run, check=True)


@pytest.mark.parametrize("name", HIT)
def test_the_table_is_that_of_the_untouched_sweep(sweeps: Sweeps, name: str) -> None:
    folders = [sweeps[each].folder for each in ("whole", name)]
    tables = []
    for folder in folders:
        (sweep,) = folder.glob("outputs/sweeps/*")
        files = {file.name: file for file in sweep.rglob("*.csv")}
        assert "summary.csv" in files
        tables.append({name: file.read_text().replace(str(folder), "") for name, file in files.items()})
        assert len(tables[-1]["summary.csv"].splitlines()) == 1 + len(STRATEGIES)
    assert tables[0] == tables[1]


@pytest.fixture(scope="module")
def offline(sweeps: Sweeps, read_offline_run: Callable[[Path], Any]) -> dict[str, dict[str, Any]]:
    """{sweep: {run folder: what W&B has of it}}; the reader refuses a folder with two."""
    return {name: {run.name: read_offline_run(run) for run in sweep.runs()} for name, sweep in sweeps.items()}


@pytest.mark.parametrize("name", ["whole", *HIT])
def test_wandb_has_one_run_with_each_epoch_once(sweeps: Sweeps, offline: dict[str, dict[str, Any]], name: str) -> None:
    for run in sweeps[name].runs():
        found = offline[name][run.name]
        content = json.loads((run / "result.json").read_bytes())
        assert (content["wandb"]["mode"], content["wandb"]["id"]) == ("offline", found.id)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert found.history == rows
        assert [row["epoch"] for row in found.history] == list(range(1, EPOCHS + 1))
        assert found.exit_code == 0
        assert found.summary["test/last/acc1"] == content["test"]["last"]["acc1"]
    assert len({found.id for found in offline[name].values()}) == len(STRATEGIES)


@pytest.mark.parametrize("name", HIT)
def test_the_panel_of_mixed_images_is_that_of_the_untouched_sweep(
    offline: dict[str, dict[str, Any]], name: str
) -> None:
    for run, ours in offline["whole"].items():
        theirs = offline[name][run]
        assert ours.captions == theirs.captions
        pictures = [[file.read_bytes() for file in each.images["mixed_images"]] for each in (ours, theirs)]
        assert pictures[0] == pictures[1]
        assert len(pictures[0]) == 3


# One run, and each of the signals.

ONE = ("mixup=manifold", *TRAINER, "wandb.mode=disabled", "trainer.epochs=400", f"trainer.checkpoint_every={10**6}")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path / "one", *ONE)
    yield sweep
    sweep.clean()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGHUP", 129), ("SIGUSR1", 138), ("SIGUSR2", 140)])
def test_a_signal_finishes_the_step_saves_and_leaves(one: Sweep, name: str, code: int) -> None:
    process = one.fork()
    assert one.until(lambda: one.epochs() >= 2)
    process.send_signal(signal.Signals[name])
    session = one.wait()
    assert session.code == code, session.out
    assert f"{name}: finishing the step and saving" in session.out
    assert "Traceback" not in session.out
    ((epochs, steps),) = session.positions.values()
    assert epochs == one.epochs() >= 2  # saved nowhere else than at the signal
    assert 0 <= steps <= STEPS
    assert [run.name for run in one.runs() if (run / "result.json").exists()] == []


def test_a_second_ctrl_c_stops_at_once(one: Sweep) -> None:
    slow = (
        "import sys, time; from vicinal.jobs import session; from vicinal.cli import train as main\n"
        f"sys.argv = ['train.py', *{ONE!r}]\n"
        "save, calls = session.RunContext.save, []\n"
        "def slowly(*args):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 1: print('saving', flush=True); time.sleep(300)\n"
        "    save(*args)\n"
        "session.RunContext.save = slowly\n"
        "main.main()\n"
    )
    process = one.start("-c", slow)
    assert one.until(lambda: one.epochs() >= 1)
    process.send_signal(signal.SIGINT)
    assert one.until(lambda: "saving" in (one.folder / "out.txt").read_text().splitlines())
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    session = one.wait()
    assert time.monotonic() - began < 10
    assert session.code == 130, session.out
    assert session.out.splitlines()[-1] == "interrupted"
    assert session.positions == {one.runs()[0].name: (0, 0)}  # of the beginning, and whole


def test_nohup_is_respected(one: Sweep) -> None:
    ignoring = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        f"from vicinal.cli import train as main; sys.argv = ['train.py', *{ONE!r}]; main.main()\n"
    )
    process = one.start("-c", ignoring)
    assert one.until(lambda: one.epochs() >= 1)
    process.send_signal(signal.SIGHUP)
    rows = one.epochs()
    assert one.until(lambda: one.epochs() >= rows + 3)  # it goes on
    process.send_signal(signal.SIGTERM)
    session = one.wait()
    assert session.code == 143
    assert "SIGHUP" not in session.out


def test_a_launchers_handler_comes_when_all_is_saved_and_told(
    one: Sweep, read_offline_run: Callable[[Path], Any]
) -> None:
    """Such as submitit's, which puts the job back into Slurm's queue. This one leaves before anything else is done."""
    words = [word.replace("disabled", "offline") for word in ONE]
    launcher = (
        "import os, signal, sys\n"
        "def requeue(number, frame):\n"
        "    print('requeue', flush=True)\n"
        "    os._exit(7)\n"
        "signal.signal(signal.SIGUSR2, requeue)\n"
        f"from vicinal.cli import train as main; sys.argv = ['train.py', *{words!r}]; main.main()\n"
    )
    process = one.start("-c", launcher)
    assert one.until(lambda: one.epochs() >= 2)
    process.send_signal(signal.SIGUSR2)
    session = one.wait()
    assert session.code == 7, session.out
    assert session.out.endswith("requeue\n")
    ((epochs, _),) = session.positions.values()
    offline = read_offline_run(one.runs()[0])
    assert [row["epoch"] for row in offline.history] == list(range(1, epochs + 1))
    assert offline.exit_code == 1  # W&B knows that the run has not come to its end
    assert "error" not in offline.summary  # from the training itself, before the launcher had its turn
