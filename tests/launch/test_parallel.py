"""Several jobs at once: the same bits, failures and interruptions of real processes, and who gets which GPU memory."""

import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from hydra_plugins.vicinal_launcher import labels
from vicinal.errors import ConfigError, UserError
from vicinal.experiment import Experiment
from vicinal.launch import gpu_memory, worker
from vicinal.launch.gpu_memory import Gpu
from vicinal.launch.packing import Packing, pack
from vicinal.runs.folder import RunFolder
from vicinal.runs.locks import held
from vicinal.tracking.run_files import TIME_FIELDS

from ..forked import Forked

TRAIN = Path(__file__).parents[2] / "train.py"
SMALL = ("trainer.precision=bf16", "dataset.train_size=200", "dataset.val_size=100", "trainer.batch_size=50")
PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "wandb.mode=disabled", "-m")


# How a machine is divided


@pytest.mark.parametrize(
    ("asked", "threads", "gpus", "cores", "own", "expected"),
    [
        ("auto", {"auto"}, 0, 8, 8, Packing(8, 1)),
        ("auto", {"auto"}, 0, 8, 4, Packing(8, 1)),
        ("auto", {2}, 0, 8, 8, Packing(4, 2)),
        ("auto", {1, 3}, 0, 8, 8, Packing(2, 4)),
        ("auto", {16}, 0, 8, 8, Packing(1, 8)),
        (2, {"auto"}, 0, 8, 8, Packing(2, 4)),
        (2, {"auto"}, 0, 8, 3, Packing(2, 3)),
        (3, {"auto"}, 0, 8, 8, Packing(3, 2)),
        (1, {"auto"}, 0, 8, 8, Packing(1, 8)),
        ("auto", {"auto"}, 2, 16, 8, Packing(2, 8)),
        (4, {"auto"}, 1, 16, 16, Packing(4, 4)),
        (4, {"auto"}, 1, 2, 2, Packing(4, 1)),
    ],
)
def test_the_cores_are_divided_among_the_jobs(
    asked: object, threads: set[int | str], gpus: int, cores: int, own: int, expected: Packing,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert pack(asked, threads, gpus, cores, own) == expected
    assert caplog.text == ""


def test_too_many_threads_are_said_with_their_keys(caplog: pytest.LogCaptureFixture) -> None:
    assert pack(2, {2}, 0, 2, 2) == Packing(2, 1)
    [line] = caplog.messages
    assert line == (
        "hydra.launcher.n_jobs=2 with trainer.threads=2: 4 threads on 2 cores wait for each other; "
        "hydra.launcher.n_jobs=auto fits the jobs to the cores"
    )


@pytest.mark.parametrize("asked", [0, -1, True, 1.5, None, "many"])
def test_a_number_of_jobs_that_is_none_is_refused(asked: object) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.n_jobs=.*: must be auto or an integer >= 1$"):
        pack(asked, {"auto"}, 0, 2, 2)


# What a worker prints and sends


def test_lines_say_whose_they_are_by_what_differs() -> None:
    words = [("a=1", "b=2", "seed=0", "hydra.x=1"), ("a=10", "b=2", "seed=0", "hydra.x=2")]
    assert labels(words) == ["a=1  | ", "a=10 | "]
    assert labels(words[:1]) == [""]


def test_lines_are_whole_labelled_and_not_of_a_terminal() -> None:
    out = io.StringIO()
    lines = worker.Lines(out, "a=1 | ")
    lines.write("half")
    assert out.getvalue() == ""
    lines.write(" a line\nand another\nrest")
    assert out.getvalue() == "a=1 | half a line\na=1 | and another\n"
    console = Console(file=lines)
    assert not console.is_interactive


class TwoArgumentsError(Exception):
    def __init__(self, what: str, when: str) -> None:
        super().__init__(f"{what} at {when}")


def test_an_exception_that_cannot_be_sent_becomes_one_that_can() -> None:
    error = TwoArgumentsError("it broke", "noon")
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(error))
    sent = pickle.loads(pickle.dumps(worker.sendable(error)))
    assert str(sent) == "TwoArgumentsError: it broke at noon"
    own = ConfigError("a.b", 1, "must be 2")
    assert worker.sendable(own) is own


# Real processes


def caught(pid: int) -> int:
    """A bit for each signal that a process handles."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0], 16)


class Sweep:
    """A sweep in a folder of its own; its output goes to a file."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder, self.words = folder, words
        folder.mkdir()
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def start(self, *more: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "out.txt").open("wb") as out:
            self.process = process = subprocess.Popen(
                [sys.executable, str(TRAIN), *self.words, *more],
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return process

    def fork(self, *more: str) -> Forked:
        """Start the same without the imports; it still starts the server of its workers."""
        out = self.folder / "out.txt"
        out.write_bytes(b"")
        self.process = process = Forked([*self.words, *more], self.folder, out)
        return process

    def wait(self) -> tuple[int, str]:
        assert self.process is not None
        code = self.process.wait(timeout=300)
        return code, (self.folder / "out.txt").read_text()

    def run(self, *more: str) -> tuple[int, str]:
        self.start(*more)
        return self.wait()

    def run_forked(self) -> tuple[int, str]:
        self.fork()
        return self.wait()

    def runs(self) -> list[Path]:
        return sorted(self.folder.glob("outputs/runs/*"))

    def rows(self) -> list[int]:
        """Epochs done, of each run that has begun."""
        return [file.read_bytes().count(b"\n") for file in self.folder.glob("outputs/runs/*/metrics.jsonl")]

    def until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < limit, (self.folder / "out.txt").read_text()
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Of this sweep, once they handle SIGTERM, which the server that they are forked from ignores."""
        return [pid for pid in self.forks() if caught(pid) >> (signal.SIGTERM - 1) & 1]

    def forks(self) -> list[int]:
        """The workers and what they are forked from, wherever their parent is."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                command, cwd = (place / "cmdline").read_bytes(), (place / "cwd").readlink()
                zombie = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if cwd == self.folder and b"multiprocessing.forkserver" in command and not zombie:
                found.append(int(place.name))
        return found

    def clean(self) -> None:
        for pid in self.forks():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    made: list[Sweep] = []

    def sweep(name: str, *words: str) -> Sweep:
        made.append(Sweep(tmp_path / name, *words))
        return made[-1]

    yield sweep
    for each in made:
        each.clean()


def without_times(run: Path) -> str:
    text, count = re.subn(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", (run / "metrics.jsonl").read_text())
    assert count == len(TIME_FIELDS) * len(text.splitlines()) > 0
    return text


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_bytes())
    assert content["status"] == "completed"
    assert content["peak_memory"] is None
    for name in ("seconds", "images_per_second", "checksum"):
        del content[name]
    return content


def assert_same(left: Sweep, right: Sweep, count: int) -> None:
    assert len(left.runs()) == count
    assert [run.name for run in left.runs()] == [run.name for run in right.runs()]
    for ours, theirs in zip(left.runs(), right.runs(), strict=True):
        assert (ours / "checkpoint.pt").read_bytes() == (theirs / "checkpoint.pt").read_bytes()
        assert without_times(ours) == without_times(theirs)
        assert result(ours) == result(theirs)


@pytest.mark.slow
def test_the_bits_and_the_table_are_those_of_the_serial_sweep(make: Callable[..., Sweep]) -> None:
    words = ("mixup=input,cutmix", "seed=0,1", *SMALL, "trainer.epochs=3", "trainer.threads=1")
    serial = make("serial", *words, "wandb.mode=disabled", "-m")
    parallel = make("parallel", *words, *PARALLEL)
    (code, plain), (other, lines) = serial.run_forked(), parallel.run()
    assert (code, other) == (0, 0), plain + lines
    assert_same(serial, parallel, 4)
    assert len({(run / "checkpoint.pt").read_bytes() for run in serial.runs()}) == 4

    heading = "top-1 accuracy in %"
    tables = [text[text.index(heading) :].rpartition("report: ")[0] for text in (plain, lines)]
    assert tables[0] == tables[1]

    environments = [json.loads((run / "environment.json").read_bytes()) for run in parallel.runs()]
    assert len({each["pid"] for each in environments}) == 2  # so two of the jobs came to a process that was there
    assert {each["command"][0].rpartition("/")[2] for each in environments} == {"train.py"}
    (page, first, *_) = lines.splitlines()
    assert page.startswith("follow it in a browser: ")
    assert first == "Launching 4 jobs, 2 at a time, trainer.threads=1"
    epochs = [line for line in lines.splitlines() if "epoch 1/3" in line]
    assert sorted(line.partition(" | ")[0].rstrip() for line in epochs) == [
        f"mixup={name} seed={seed}" for name in ("cutmix", "input") for seed in (0, 1)
    ]
    assert "\x1b" not in lines
    parallel.until(lambda: parallel.forks() == [])


@pytest.mark.slow
def test_threads_are_those_that_the_parent_sees(make: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is used again says nothing of other threads, although this process alone would have more."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    sweep = make("sweep", "seed=0,1", *SMALL, "trainer.epochs=1", *PARALLEL)
    code, printed = sweep.run()
    assert code == 0, printed
    assert [result(run)["hardware"]["threads"] for run in sweep.runs()] == [1, 1]
    code, printed = sweep.run_forked()
    assert code == 0
    assert "2 of 2 runs are completed already" in printed
    assert "made with" not in printed


@pytest.mark.slow
def test_a_failing_job_leaves_the_others(make: Callable[..., Sweep]) -> None:
    words = ("optimizer.lr=1e30,0.05,0.06", *SMALL, "trainer.epochs=2", "trainer.threads=1")
    sweep = make("sweep", *words, *PARALLEL)
    code, printed = sweep.run_forked()
    assert code == 1, printed
    assert printed.splitlines()[-1] == "error: 1 of 3 jobs failed; the reasons are in the table"
    assert "optimizer.lr=1e+30 | failed: the loss is not finite" in printed
    assert "Traceback" not in printed
    statuses = [json.loads((run / "result.json").read_bytes())["status"] for run in sweep.runs()]
    assert sorted(statuses) == ["completed", "completed", "failed"]


FORKED = """
import os, sys, time
from hydra.core.utils import JobReturn, JobStatus
from vicinal.launch.worker_pool import Workers, warm_up

def job(number):
    time.sleep(0.3)  # there is work for both
    done = JobReturn(status=JobStatus.COMPLETED)
    preloaded = "vicinal.cli.worker_preload" in sys.modules
    done.return_value = number, os.getpid(), os.getppid(), os.environ["LATER"], preloaded
    return done

if __name__ == "__main__":
    warm_up()
    os.environ["LATER"] = "yes"
    with Workers(2, job, os.environ) as workers:
        done = [each.return_value for each in workers.do([("", (number,)) for number in range(7)])]
    numbers, workers, sources, later, warm = (list(each) for each in zip(*done))
    here = "torch" in sys.modules
    print(numbers, len({*workers}), len({*sources}), {*sources} & {os.getpid()}, {*later}, {*warm}, here)
"""


def test_workers_are_forked_from_one_process_that_has_imported_torch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FORKED)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "[0, 1, 2, 3, 4, 5, 6] 2 1 set() {'yes'} {True} False\n"


FAILS = """
import os, time
from vicinal.launch.worker_pool import Workers

def job(number):
    if number:
        raise FileNotFoundError(2, "there is no such folder")
    while True:  # a signal that comes before a wait must not be lost
        time.sleep(0.1)

if __name__ == "__main__":
    with Workers(2, job, os.environ) as workers:
        workers.do([("", (number,)) for number in range(2)])
"""


def test_what_keeps_a_job_from_beginning_is_raised_and_ends_the_others(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILS)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "FileNotFoundError: [Errno 2] there is no such folder"


ENDS = {"SIGTERM": 143, "SIGINT": 130, "SIGTERM to all": 143}
LONG = ("mixup=input,cutmix", "seed=0,1", *SMALL, "trainer.epochs=40", "trainer.threads=1")
NEVER = "trainer.checkpoint_every=1000"
"""All that a signal leaves is of its own saving."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("whole") / "sweep", *LONG, NEVER, *PARALLEL)
    code, printed = sweep.run_forked()
    assert code == 0, printed
    return sweep


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_an_interrupted_sweep_saves_all_its_jobs_and_goes_on(
    name: str, make: Callable[..., Sweep], whole: Sweep
) -> None:
    sweep = make("sweep", *LONG, NEVER, *PARALLEL)
    process = sweep.start() if name == "SIGINT" else sweep.fork()
    sweep.until(lambda: len(sweep.rows()) == 2 and min(sweep.rows()) >= 2)
    number = getattr(signal, name.split()[0])
    if name == "SIGTERM":
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)  # as a terminal does, and Slurm; the workers have groups of their own
        for pid in sweep.workers() if name == "SIGTERM to all" else ():
            os.kill(pid, number)
    code, printed = sweep.wait()
    assert code == ENDS[name], printed
    assert "Traceback" not in printed
    assert "interrupted: 0 of 4 runs are completed; rerun the same command to resume" in printed
    sweep.until(lambda: sweep.forks() == [])
    positions = [
        len(torch.load(run / "checkpoint.pt", weights_only=True)["training"]["history"]["rows"]) for run in sweep.runs()
    ]
    assert len(positions) == 2  # the others have not begun
    assert min(positions) >= 2
    code, printed = sweep.run_forked()
    assert code == 0, printed
    assert printed.count("going on in epoch") == 2
    assert_same(whole, sweep, 4)


@pytest.mark.slow
def test_a_ctrl_c_while_torch_is_imported_is_a_plain_end(make: Callable[..., Sweep]) -> None:
    sweep = make("sweep", *LONG, *PARALLEL)
    process = sweep.start()
    sweep.until(lambda: len(sweep.forks()) == 1)
    os.killpg(process.pid, signal.SIGINT)
    code, printed = sweep.wait()
    assert code == 130
    assert "Traceback" not in printed
    sweep.until(lambda: sweep.forks() == [])


@pytest.mark.slow
def test_a_worker_that_is_asked_alone_to_stop_is_one_line(make: Callable[..., Sweep]) -> None:
    sweep = make("sweep", *LONG, NEVER, *PARALLEL, "trainer.epochs=1000")
    sweep.fork()
    sweep.until(lambda: len(sweep.rows()) == 2 and min(sweep.rows()) >= 2)
    os.kill(sweep.workers()[0], signal.SIGTERM)
    code, printed = sweep.wait()
    assert (code, printed.splitlines()[-1]) == (
        1,
        "error: a worker was asked to stop; rerun the same command to resume",
    )
    sweep.until(lambda: sweep.forks() == [])
    for run in sweep.runs():
        assert torch.load(run / "checkpoint.pt", weights_only=True)["training"]["history"]["rows"]


@pytest.mark.slow
def test_workers_do_not_outlive_a_parent_that_was_killed(make: Callable[..., Sweep]) -> None:
    sweep = make("sweep", *LONG, NEVER, *PARALLEL, "trainer.epochs=1000")
    process = sweep.fork()
    sweep.until(lambda: len(sweep.rows()) == 2 and min(sweep.rows()) >= 2)
    assert len(sweep.workers()) == 2
    process.kill()
    process.wait()
    sweep.until(lambda: sweep.forks() == [])
    for run in sweep.runs():
        assert torch.load(run / "checkpoint.pt", weights_only=True)["training"]["history"]["rows"]


IMPORTED = """
import multiprocessing, os, signal, time
from vicinal.models.mlp import MLP
if multiprocessing.parent_process() is not None:  # in a worker
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except BaseException:
        open("aborted", "w").close()
        os.abort()
"""
"""What torch, C++ that imports Python, does with an exception."""


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_in_the_middle_of_an_import_leaves(
    make: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(IMPORTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sweep = make("sweep", *SMALL, "model=mlp", "model._target_=nets.MLP", "seed=0,1", *PARALLEL)
    code, printed = sweep.run()
    assert code == 1
    assert printed.splitlines()[-1].startswith("error: a worker was killed"), printed
    assert "Traceback" not in printed
    assert not (sweep.folder / "aborted").exists()
    sweep.until(lambda: sweep.forks() == [])


@pytest.mark.slow
def test_a_worker_that_was_killed_is_one_line_and_the_other_saves(make: Callable[..., Sweep]) -> None:
    sweep = make("sweep", *LONG, NEVER, *PARALLEL, "trainer.epochs=1000")
    sweep.fork()
    sweep.until(lambda: len(sweep.rows()) == 2 and min(sweep.rows()) >= 2)
    os.kill(sweep.workers()[0], signal.SIGKILL)
    code, printed = sweep.wait()
    assert code == 1
    assert printed.splitlines()[-1].startswith("error: a worker was killed, perhaps because memory ran out; ")
    assert "Traceback" not in printed
    sweep.until(lambda: sweep.forks() == [])
    saved = [
        torch.load(run / "checkpoint.pt", weights_only=True)["training"]["history"]["rows"] for run in sweep.runs()
    ]
    assert sorted(map(bool, saved)) == [False, True]


# GPU memory; the numbers are fed in (test_gpu.py has real ones)

GIB = 2**30
PAIR = (Gpu("a", 20 * GIB, 24 * GIB), Gpu("b", 22 * GIB, 24 * GIB))


class Gpus:
    """GPUs without a driver, and the jobs that hold their memory until the test ends; one that would wait fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.visible, self.running = folder, list(PAIR), ExitStack()
        self.used: list[int] = []
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setattr(gpu_memory, "visible", lambda: self.visible)
        monkeypatch.setattr("torch.cuda.set_device", self.used.append)
        monkeypatch.setattr(gpu_memory.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("it waits")

    def start(self, peak: int, jobs: int) -> int:
        """Start a job, and return the index of the GPU that it uses."""
        self.running.enter_context(gpu_memory.reserve(peak, jobs))
        return self.used[-1]

    def locks(self) -> list[Path]:
        return [file for file in self.folder.glob("vicinal-gpu-*/*-*") if held(file)]


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    gpus = Gpus(tmp_path, monkeypatch)
    with gpus.running:
        yield gpus


def test_a_job_goes_to_the_gpu_with_most_room(gpus: Gpus) -> None:
    assert [gpus.start(5 * GIB, 4) for _ in range(2)] == [1, 0]


def test_jobs_without_an_earlier_run_share_the_gpus_equally(gpus: Gpus) -> None:
    assert sorted(gpus.start(0, 4) for _ in range(4)) == [0, 0, 1, 1]
    with pytest.raises(AssertionError, match="it waits"):
        gpus.start(1 * GIB, 4)


def test_what_is_reserved_is_not_free_although_it_is_not_used_yet(gpus: Gpus) -> None:
    gpus.visible = [PAIR[0]]
    for _ in range(2):
        gpus.start(8 * GIB, 3)
    with pytest.raises(AssertionError, match="it waits"):
        gpus.start(9 * GIB, 3)
    gpus.visible = [Gpu("a", 1 * GIB, 24 * GIB)]  # the reservations are used, and something else has taken the rest
    with pytest.raises(AssertionError, match="it waits"):
        gpus.start(4 * GIB, 3)
    gpus.visible = [PAIR[0]]
    assert gpus.start(4 * GIB, 3) == 0


def test_what_will_never_fit_is_a_line(gpus: Gpus) -> None:
    with pytest.raises(UserError, match=r"^the job needs about 23\.0 GiB of GPU memory, but of 24\.0 GiB only 22\.0"):
        gpus.start(23 * GIB, 2)


def test_a_job_waits_for_another_to_end(
    gpus: Gpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gpus.visible, looks = [PAIR[0]], []
    other = ExitStack()
    other.enter_context(gpu_memory.reserve(18 * GIB, 2))

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            other.close()

    monkeypatch.setattr(gpu_memory.time, "sleep", sleep)
    with gpu_memory.reserve(7 * GIB, 2):
        assert gpus.used == [0, 0]
        assert len(gpus.locks()) == 19  # 7 of 24 GiB, in parts of 3/8
    assert gpus.locks() == []
    assert len(looks) == 3
    assert caplog.messages == ["waiting for about 7.0 GiB of GPU memory, which other jobs hold"]


def test_a_job_that_was_killed_holds_nothing(gpus: Gpus) -> None:
    gpus.visible = [PAIR[0]]
    program = (
        "import time, torch; from vicinal.launch import gpu_memory\n"
        "gpu_memory.visible = lambda: [gpu_memory.Gpu('a', 1, 1)]; torch.cuda.set_device = print\n"
        "with gpu_memory.reserve(0, 1): print(flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(gpus.folder)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"0\n"
        assert killed.stdout.readline() == b"\n"
        with pytest.raises(AssertionError, match="it waits"):
            gpus.start(15 * GIB, 1)
        killed.kill()
        killed.wait()
    assert gpus.start(15 * GIB, 1) == 0


def test_an_earlier_run_of_the_cell_says_what_is_needed(compose: Callable[..., Experiment]) -> None:
    experiment = compose("seed=1")
    assert gpu_memory.earlier_peak(experiment) == 0
    for seed, peak in ((0, 7 * GIB), (2, 6 * GIB), (3, None)):
        folder = experiment.folder.path.with_name(f"x-{experiment.cell_id}-s{seed}")
        folder.mkdir(parents=True)
        RunFolder(folder).fail({"run_id": folder.name, "peak_memory": peak}, "the loss is not finite")
    assert gpu_memory.earlier_peak(experiment) == 7 * GIB + gpu_memory.CONTEXT
