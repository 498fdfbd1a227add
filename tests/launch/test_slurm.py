"""``hydra/launcher=slurm`` on a real Slurm: what is cancelled costs its own run, what is preempted comes back."""

import json
import os
import pickle
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.vicinal_slurm import SlurmLauncher, _run_id
from tests import forked, slurm_cluster
from tests.proc import processes_with
from tests.sweep_commands import SweepCommand, end_all, rows
from vicinal.errors import UserError
from vicinal.launch import slurm
from vicinal.launch.job_configs import WORD
from vicinal.launch.queue_states import states
from vicinal.launch.slurm_task import Task
from vicinal.runs.environment import slurm_job
from vicinal.runs.heartbeat import TakenOverError

JOBS = (
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.timeout_min=10",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    with slurm_cluster.running() as environment:
        yield {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    end_all()


class Sweep(SweepCommand):
    """A command beside a Slurm."""

    def __init__(self, folder: Path, words: Sequence[str], environment: dict[str, str]) -> None:
        super().__init__(folder, words, environment)
        self.environment, self._stopped = environment, set[str]()

    def slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout.strip()

    def running(self) -> list[str]:
        return self.slurm("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()

    def release(self) -> None:
        """Slurm lets a job that it has put back wait for two minutes."""
        for line in self.slurm("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r").splitlines():
            if line.endswith("BeginTime"):
                self.slurm("scontrol", "update", f"jobid={line.split()[0]}", "StartTime=now")

    def trained(self) -> dict[str, int]:
        """Epochs of each run so far, by its name and seed."""
        return {
            file.parent.name: file.read_bytes().count(b"\n")
            for file in self.folder.glob("outputs/runs/*/metrics.jsonl")
        }

    def stopped(self, count: int) -> bool:
        """Stop each run that has trained three epochs, and return whether so many stand still.

        They do not end before they are preempted: Slurm lets them go on then.
        """
        for run, epochs in self.trained().items():
            beat = self.folder / "outputs/runs" / run / "lock.json"
            if epochs > 2 and run not in self._stopped and beat.exists():
                os.kill(json.loads(beat.read_text())["pid"], signal.SIGSTOP)
                self._stopped.add(run)
        return len(self._stopped) == count

    def wait(self) -> int:
        def ended() -> bool:
            self.release()
            return self.process.poll() is not None

        self.until(ended, alive=False)
        assert self.process.returncode is not None
        return self.process.returncode


@pytest.mark.slow
@pytest.mark.slurm
def test_a_sweep_survives_what_a_cluster_does(cluster: dict[str, str], tmp_path: Path) -> None:
    """The launcher is killed, a job preempted, one cancelled: the others have the rows of a serial sweep."""
    words = ("trainer.epochs=200", "seed=range(3)", "-m")
    serial, folder = tmp_path / "serial", tmp_path / "slurm"
    serial.mkdir()
    folder.mkdir()
    sweep = Sweep(folder, (*words, *JOBS), cluster)
    sweep.until(lambda: sweep.stopped(2))
    preempted = {*sweep.running()}
    [of_sweep] = folder.glob("outputs/sweeps/*")
    sweep.until(lambda: any("running on" in text for text in states(of_sweep).values()))
    assert any(text.startswith("queued") for text in states(of_sweep).values())
    sweep.process.terminate()
    assert sweep.process.wait(60) == 143
    assert "the jobs stay in Slurm's queue" in sweep.out.read_text()

    again = Sweep(folder, (*words, *JOBS), cluster)
    again.until(lambda: "runs are in Slurm's queue already" in again.out.read_text())
    submitted = json.loads((of_sweep / "slurm/jobs.json").read_text())
    assert len({job.partition("_")[0] for job in submitted.values()}) == 1  # nothing was submitted twice
    again.slurm("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=true")
    held = again.until(
        lambda: preempted <= (back := set(again.slurm("squeue", "-h", "-r", "-t", "PD", "-o", "%i").split())) and back
    )
    job = min(preempted & held)  # it waits, so that it cannot end before it is cancelled
    again.slurm("scancel", job)
    run = next(run for run, its in submitted.items() if its == job)
    assert again.wait() == 1
    said = again.out.read_text()
    assert "Slurm: CANCELLED by 0" in said
    assert said.splitlines()[-1] == "error: 1 of 3 jobs failed; the reasons are in the table"

    one_by_one = Sweep(serial, words, cluster)
    assert one_by_one.process.wait(900) == 0
    expected, found = rows(serial), rows(folder)
    cancelled = next(name for name in expected if name.endswith(run))
    found.pop(cancelled, None)
    del expected[cancelled]
    assert found == expected
    environments = [json.loads(file.read_text()) for file in folder.glob("outputs/runs/*/environment.json")]
    assert {record["slurm"]["partition"] for record in environments} == {"main"}
    assert any("continued" in record for record in environments)

    later = Sweep(folder, (*words, *JOBS), cluster)
    assert later.wait() == 0
    assert rows(folder) == rows(serial)


def by_id(found: dict[str, Any]) -> dict[str, Any]:
    """The name of a run's folder before its id is that of the command which has begun it."""
    return {name.split("-", name.count("-") - 1)[-1]: value for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.slurm
def test_several_processes_and_several_runs_per_job(cluster: dict[str, str], tmp_path: Path) -> None:
    """Of the runs of one job, one is completed when it begins, and one diverges: the others are as in one process."""
    shards = ("trainer.shards=2", "trainer.deterministic=true", "trainer.epochs=2")
    rates = "optimizer.lr=0.1,0.02,1e30,0.05"
    own = ("hydra.launcher.tasks_per_node=2", "hydra.launcher.runs_per_job=4")
    held = ("hydra.launcher.wait=false", "+hydra.launcher.additional_parameters.hold=true")
    folder, serial = tmp_path / "slurm", tmp_path / "serial"
    folder.mkdir()
    serial.mkdir()
    first = Sweep(folder, (*shards, rates, "-m", *JOBS, *own, *held), cluster)
    assert first.process.wait(120) == 0, first.said[-2000:]
    [of_sweep] = folder.glob("outputs/sweeps/*")
    [job] = {*json.loads((of_sweep / "slurm/jobs.json").read_text()).values()}
    assert Sweep(folder, (*shards, "optimizer.lr=0.02"), cluster).process.wait(120) == 0
    first.slurm("scontrol", "release", job)
    sweep = Sweep(folder, (*shards, rates, "-m", *JOBS, *own), cluster)
    assert sweep.wait() == 1, sweep.said[-2000:]
    assert sweep.said.splitlines()[-1] == "error: 1 of 4 jobs failed; the reasons are in the table"
    assert Sweep(serial, (*shards, rates, "-m"), cluster).process.wait(300) == 1
    assert by_id(rows(folder)) == by_id(rows(serial))
    results = [json.loads(file.read_text()) for file in folder.glob("outputs/runs/*/result.json")]
    completed = [result["hardware"]["processes"] for result in results if result["status"] == "completed"]
    assert sorted(completed) == [1, 2, 2]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_process_that_dies_ends_the_others_of_its_run(cluster: dict[str, str], tmp_path: Path) -> None:
    """At any time, also before they have met."""
    several = ("trainer.shards=2", "hydra.launcher.tasks_per_node=2")
    sweep = Sweep(tmp_path, (*JOBS, *several, "seed=0", "-m"), cluster)
    second = {"SLURM_PROCID": "1", "SLURM_CONF": cluster["SLURM_CONF"]}
    sweep.until(lambda: bool(processes_with(**second)))
    for process in processes_with(**second):
        os.kill(process, signal.SIGKILL)
    assert sweep.wait() == 1
    assert "Slurm: FAILED" in sweep.said
    assert sweep.said.splitlines()[-1] == "error: 1 of 1 jobs failed; the reasons are in the table"


@pytest.mark.slow
@pytest.mark.slurm
def test_what_slurm_would_refuse_is_one_line_before_anything_is_written(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    for wrong in ("partition=none", "mem_gb=9999", "constraint=none", "additional_parameters.requeue=no"):
        sweep = Sweep(tmp_path, (*JOBS, f"hydra.launcher.{wrong}", "seed=0,1", "-m"), cluster)
        assert sweep.process.wait(60) == 1
        assert sweep.said.startswith("error: hydra/launcher=slurm: such a job is refused ("), wrong
        assert sweep.said.count("\n") == 1
        assert f"hydra.launcher.{wrong.partition('=')[0].partition('.')[0]}=" in sweep.said
        assert not (tmp_path / "outputs").exists()


# Without a Slurm: commands that print what a real one (22.05) has printed.


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def write(name: str, printed: str, code: int = 0) -> None:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\ncat <<'END'\n{printed}\nEND\nexit {code}\n")
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return write


def test_the_queue_is_read_by_job(commands: Callable[..., None]) -> None:
    commands("squeue", "9_0|RUNNING|vm\n9_2|PENDING|(Resources)\n11|PENDING|(ReqNodeNotAvail, UnavailableNodes:n[1-3])")
    assert slurm.queue() == {
        "9_0": ("RUNNING", "vm"),
        "9_2": ("PENDING", "Resources"),
        "11": ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-3]"),
    }
    commands("squeue", "", 1)
    assert slurm.queue() is None


@pytest.mark.parametrize(
    ("booked", "said"),
    [
        ("CANCELLED by 0|0:0", "CANCELLED by 0"),
        ("FAILED|9:0", "FAILED with exit code 9"),
        ("FAILED|0:11", "FAILED by signal 11"),
        ("OUT_OF_MEMORY|0:125", "OUT_OF_MEMORY"),
        ("TIMEOUT|0:0", "TIMEOUT"),
        ("COMPLETED|0:0", ""),
        ("", ""),
    ],
)
def test_how_a_job_has_ended(commands: Callable[..., None], booked: str, said: str) -> None:
    commands("sacct", booked)
    assert slurm.verdict("9_1") == said


@pytest.mark.parametrize(
    ("word", "allowed"),
    [
        ("runs_per_job=true", "must be an integer >= 1"),
        ("nodes=0", "must be an integer >= 1"),
        ("array_parallelism=x", "must be an integer >= 1"),
        ("max_num_timeout=-1", "must be an integer >= 0"),
        ("wait=later", "must be true or false"),
        ("setup=module", "must be null or a list of lines"),
        ("srun_args=exclusive", "must be null or a list of flags"),
        ("additional_parameters=3", "must be null or a mapping"),
        (
            "signal_delay_s=14400",
            "must be < 14400, the seconds of hydra.launcher.timeout_min: a job would save at its start",
        ),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, word: str, allowed: str) -> None:
    done = forked.run(["hydra/launcher=slurm", f"hydra.launcher.{word}", "seed=0,1", "-m"], tmp_path)
    assert (done.returncode, done.stderr) == (1, f"error: hydra.launcher.{word}: {allowed}\n")
    assert not (tmp_path / "outputs").exists()


def test_parts_of_a_batch_are_those_of_the_tasks(tmp_path: Path) -> None:
    tasks = ("hydra/launcher=slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.nodes=2")

    def told(*words: str) -> str:
        done = forked.run(["dry_run=true", "seed=0,1", "-m", "trainer.threads=1", *words], tmp_path)
        assert done.returncode == int("error" in done.stderr)
        return done.stderr.splitlines()[-1] if done.returncode else done.stdout

    assert told(*tasks, "trainer.shards=6") == (
        "error: trainer.shards=6: must be a multiple of 4, the number of processes: 4 or auto"
    )
    four, auto = (set(re.findall(r"[0-9a-f]{10}-s\d", told(*words, "trainer.shards=4"))) for words in ((), tasks))
    assert len(four) == 2
    assert four == auto == set(re.findall(r"[0-9a-f]{10}-s\d", told(*tasks, "trainer.shards=auto")))


def test_nothing_is_submitted_again_while_the_queue_is_not_known(commands: Callable[..., None]) -> None:
    commands("squeue", "", 1)
    launcher = SlurmLauncher("slurm")
    assert launcher._attached({"b": "7"}, {"a": ["seed=0"]}) == {}
    with pytest.raises(UserError, match="squeue does not answer"):
        launcher._attached({"a": "7"}, {"a": ["seed=0"]})


def test_what_is_sent_to_a_job_is_for_its_user_alone(commands: Callable[..., None], tmp_path: Path) -> None:
    commands("sbatch", "Submitted batch job 9")
    commands("srun", "")
    launcher = SlurmLauncher(f"{tmp_path}/jobs/%j", timeout_min=10)
    context: Any = None
    config = OmegaConf.create({"hydra": {"job": {"name": "train"}}})
    launcher.setup(hydra_context=context, task_function=print, config=config)
    submitted = launcher._submitted("train", [["a"], ["b"]], {"a": ["seed=0"], "b": ["seed=1"]}, {"a": 0, "b": 1})
    assert [job.job_id for job in submitted.values()] == ["9_0", "9_1"]
    pickles = [*tmp_path.glob("jobs/*/*.pkl")]
    assert len(pickles) == 2
    assert {file.parent.stat().st_mode & 0o777 for file in pickles} == {0o700}


def test_the_runs_of_another_sweeper_are_told_apart() -> None:
    words = (["seed=0", "optimizer.lr=0.1"], ["seed=1", "optimizer.lr=0.1"], ["seed=0", f"{WORD}=0123456789-s0-abc"])
    assert [*map(_run_id, words)] == ["seed=0 optimizer.lr=0.1", "seed=1 optimizer.lr=0.1", "0123456789-s0"]


class OfTwoError(Exception):
    """Cannot be rebuilt from its text."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


def test_what_a_job_returns_can_be_read_although_an_error_of_a_run_cannot() -> None:
    def run(number: int, words: list[str]) -> JobReturn:
        error = OfTwoError("model", "too large") if number else None
        return JobReturn(status=JobStatus.FAILED if number else JobStatus.COMPLETED, _return_value=error)

    done, failed = pickle.loads(pickle.dumps(Task(run, [(0, []), (1, [])])()))
    assert done.status == JobStatus.COMPLETED
    assert str(failed._return_value) == "OfTwoError: model: too large"


def test_a_job_whose_run_was_taken_over_has_no_result() -> None:
    """Slurm may have put it back into the queue: what is returned here would be taken for the result of that."""

    def run(number: int, words: list[str]) -> JobReturn:
        return JobReturn(status=JobStatus.FAILED, _return_value=TakenOverError("outputs/runs/a: n03 has it"))

    with pytest.raises(SystemExit, match=r"^error: outputs/runs/a: n03 has it$"):
        Task(run, [(0, []), (1, [])])()


SHOWN = "JobId=12 JobName=train JobState={state} Requeue={requeue} Restarts=0 PreemptTime={preempted} Partition=main"


@pytest.mark.parametrize(
    ("number", "state", "requeue", "asks"),
    [
        (signal.SIGUSR2, "RUNNING", 1, True),
        (signal.SIGUSR1, "RUNNING", 1, True),
        (signal.SIGUSR2, "RUNNING", 0, False),
        (signal.SIGUSR2, "CANCELLED", 1, False),
        (signal.SIGTERM, "RUNNING", 1, False),
        (signal.SIGINT, "RUNNING", 1, False),
        (0, "RUNNING", 1, False),
    ],
)
def test_a_job_whose_time_is_up_is_put_back_and_no_other(
    commands: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    state: str,
    requeue: int,
    asks: bool,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    commands("scontrol", SHOWN.format(state=state, requeue=requeue, preempted="None"))
    before = {ignored: signal.getsignal(ignored) for ignored in (signal.SIGTERM, signal.SIGCONT)}
    waited: list[float] = []
    monkeypatch.setattr(slurm.time, "sleep", waited.append)
    slurm.after_interruption(number, first=False)
    assert "requeue 12" not in (tmp_path / "asked").read_text().splitlines()  # the first process alone asks
    # For the first one, which srun ends with any that leaves; subprocess takes short naps too.
    assert (2 * slurm.SECONDS in waited) is asks
    slurm.after_interruption(number)
    for ignored, handler in before.items():
        assert (signal.getsignal(ignored) is signal.SIG_IGN) is asks
        signal.signal(ignored, handler)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ("requeue 12" in asked) is asks


@pytest.mark.parametrize(
    ("number", "state", "preempted", "taken"),
    [
        (signal.SIGUSR1, "RUNNING", "None", True),
        (signal.SIGUSR2, "RUNNING", "None", True),
        (signal.SIGTERM, "RUNNING", "2026-11-20T11:30:45", True),
        (signal.SIGTERM, "RUNNING", "None", False),  # W&B's agent ends a run that is not wanted so
        (signal.SIGTERM, "CANCELLED", "2026-11-20T11:30:45", False),
        (signal.SIGINT, "RUNNING", "2026-11-20T11:30:45", False),
        (0, "RUNNING", "None", False),
    ],
)
def test_a_machine_is_taken_away_by_a_warning_or_a_preemption(
    commands: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    state: str,
    preempted: str,
    taken: bool,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    commands("scontrol", SHOWN.format(state=state, requeue=1, preempted=preempted))
    assert slurm.taken_away(number) is taken
    monkeypatch.delenv("SLURM_JOB_ID")
    assert slurm.taken_away(number) is (number in (signal.SIGUSR1, signal.SIGUSR2))


def test_outside_of_slurm_nothing_is_asked(
    commands: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    commands("scontrol", "")
    slurm.after_interruption(signal.SIGUSR2)
    assert not (tmp_path / "asked").exists()
    assert slurm_job({}) == {}
    assert slurm_job({"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2"}) == {"job": "12", "restarts": "2"}


def test_the_last_task_of_an_array_is_not_the_array() -> None:
    """Slurm gives it the number of the whole array."""
    last = {"SLURM_JOB_ID": "2", "SLURM_ARRAY_JOB_ID": "2", "SLURM_ARRAY_TASK_ID": "3"}
    assert slurm.own_id(last) == "2_3"
    assert slurm.own_id({"SLURM_JOB_ID": "2"}) == "2"
    assert slurm.own_id({}) is None
