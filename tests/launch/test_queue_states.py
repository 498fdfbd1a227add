"""What the table and the page say of runs in Slurm's queue, by what a real squeue (22.05) has printed.

And which command submits what is not in it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forked import Forked
from vicinal.launch import slurm
from vicinal.launch.queue_states import STATES, SUBMITTING, Queue, new_name, record, states, unrecorded

SQUEUE = """\
#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
*--Format=*) cat {folder}/times ;;
*) cat {folder}/queue ;;
esac
"""
JOBS = {"aaa-s0": "7_0", "aaa-s1": "7_1", "bbb-s0": "7_2", "ccc-s0": "9"}


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "squeue").write_text(SQUEUE.format(folder=tmp_path))
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_preempted_run_is_told_apart_in_its_grace_time(squeue: Path, tmp_path: Path) -> None:
    (squeue / "queue").write_text("7_0|RUNNING|n03\n7_1|RUNNING|n04\n7_2|PENDING|(BeginTime)\n9|COMPLETING|n05\n")
    (squeue / "times").write_text("7_0|2026-11-27T19:37:45|\n7_1|N/A|\n7_2|N/A|\n9|N/A|\n")
    Queue(tmp_path, JOBS).look(10)
    assert states(tmp_path) == {
        "aaa-s0": "preempted on n03",
        "aaa-s1": "running on n04",
        "bbb-s0": "queued (BeginTime)",
        "ccc-s0": "completing",
    }


def test_states_that_nobody_keeps_fresh_are_not_believed(
    squeue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was interrupted, and the sweep goes on without Slurm."""
    (squeue / "queue").write_text("7_2|PENDING|(Priority)\n")
    Queue(tmp_path, JOBS).look(10)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert states(tmp_path) == {"bbb-s0": "queued (Priority)"}
    monkeypatch.setattr(time, "time", lambda: now + 100)
    assert states(tmp_path) == {}
    (tmp_path / STATES).write_text('{"bbb-s0": "queued"}')
    assert states(tmp_path) == {}


def test_it_is_asked_only_where_something_runs(squeue: Path, tmp_path: Path) -> None:
    (squeue / "queue").write_text("7_2|PENDING|(Priority)\n9|PREEMPTED|n05\n")
    (squeue / "times").write_text("")
    Queue(tmp_path, JOBS).look(10)
    assert states(tmp_path) == {"bbb-s0": "queued (Priority)", "ccc-s0": "preempted"}
    assert "--Format" not in (squeue / "asked").read_text()


def test_a_squeue_that_does_not_know_the_time_tells_of_none(squeue: Path) -> None:
    (squeue / "times").write_text("")
    assert slurm.preempted() == set()
    (squeue / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert slurm.preempted() == set()


# Commands beside a Slurm whose jobs wait: a file of the queue for each name.

SBATCH = """\
#!/bin/sh
[ "$1" = --test-only ] && exit
sleep 1
name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
printf '%s_0|PENDING|(Priority)\\n%s_1|PENDING|(Priority)\\n' $$ $$ >> {folder}/queue/$name
[ -e {folder}/deadly ] && rm {folder}/deadly && kill -9 $PPID
echo Submitted batch job $$
"""
COMMANDS = {
    "sbatch": SBATCH,
    "srun": "#!/bin/sh\n",
    "squeue": "#!/bin/sh\ncat {folder}/queue/* /dev/null\n",
    "scancel": "#!/bin/sh\nrm -f {folder}/queue/${{1#--name=}}\n",
}
SWEEP = ("hydra/launcher=slurm", "hydra.launcher.wait=false", "seed=0,1", "trainer.threads=1", "tracker=none", "-m")


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Forked]:
    """Starts the command of a sweep; all of them print into one file."""
    (tmp_path / "queue").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda: Forked(SWEEP, tmp_path, tmp_path / "out")


def in_queue(folder: Path) -> list[str]:
    return [line.split("|")[0] for file in folder.glob("queue/*") for line in file.read_text().splitlines()]


def recorded(folder: Path) -> list[str]:
    (of_sweep,) = folder.glob("outputs/sweeps/*")
    assert not (of_sweep / SUBMITTING).exists()
    return sorted(json.loads((of_sweep / "slurm/jobs.json").read_text()).values())


def test_of_two_commands_that_begin_together_one_submits(sweep: Callable[[], Forked], tmp_path: Path) -> None:
    both = [sweep(), sweep()]
    assert [command.wait(120) for command in both] == [0, 0], (tmp_path / "out").read_text()
    assert len(in_queue(tmp_path)) == 2
    assert recorded(tmp_path) == sorted(in_queue(tmp_path))
    assert (tmp_path / "out").read_text().count("2 of 2 runs are in Slurm's queue already") == 1


def test_jobs_whose_command_was_killed_before_it_knew_them_are_cancelled(
    sweep: Callable[[], Forked], tmp_path: Path
) -> None:
    (tmp_path / "deadly").touch()
    assert sweep().wait(120) == -signal.SIGKILL
    lost = in_queue(tmp_path)
    assert len(lost) == 2
    assert sweep().wait(120) == 0
    assert len(in_queue(tmp_path)) == 2
    assert not {*lost} & {*in_queue(tmp_path)}
    assert recorded(tmp_path) == sorted(in_queue(tmp_path))
    assert (tmp_path / "out").read_text().count("those in the queue are cancelled") == 1


def test_nothing_is_submitted_if_lost_jobs_cannot_be_cancelled(sweep: Callable[[], Forked], tmp_path: Path) -> None:
    (tmp_path / "deadly").touch()
    assert sweep().wait(120) == -signal.SIGKILL
    lost = in_queue(tmp_path)
    (tmp_path / "scancel").write_text("#!/bin/sh\nexit 1\n")
    assert sweep().wait(120) == 1
    assert (tmp_path / "out").read_text().splitlines()[-1] == (
        "error: hydra/launcher=slurm: scancel does not answer, and jobs of an earlier command may be in the queue; "
        "the same command can be tried again"
    )
    assert in_queue(tmp_path) == lost


def test_a_name_of_jobs_is_of_no_others(tmp_path: Path) -> None:
    names = {new_name(tmp_path, "a,b c") for _ in range(2)}
    assert len(names) == 2
    assert unrecorded(tmp_path) in names
    assert "," not in str(unrecorded(tmp_path))  # two names for scancel
    record(tmp_path, {})
    assert unrecorded(tmp_path) is None
    for content in ('{"name": "train"}', '{"name": "*"}', '{"name": 3}', "{"):
        (tmp_path / SUBMITTING).write_text(content)
        assert unrecorded(tmp_path) is None
