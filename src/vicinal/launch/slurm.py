"""What Slurm knows of jobs, asked by its own commands, and what a job does when Slurm interrupts it."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Mapping

from vicinal.utils.slurm_id import own_id

log = logging.getLogger(__name__)

SECONDS = 20  # longest wait for an answer of Slurm, whose controller may be busy
NEVER = ("None", "N/A", "Unknown")  # a time that has not been
ENDED = ("COMPLETED", "COMPLETING", "PENDING", "RUNNING", "UNKNOWN")  # states that explain no missing result


def ask(*command: str) -> str | None:
    """Return what one of Slurm's commands prints; None if it is not there, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def queue() -> dict[str, tuple[str, str]] | None:
    """Return {job: (state, reason or nodes)} of this user's jobs that have not ended; None if it is not known."""
    printed = ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%R")
    if printed is None:
        return None
    lines = (line.strip().split("|", 2) for line in printed.splitlines() if line.count("|") >= 2)
    return {job: (state, reason.strip("()")) for job, state, reason in lines}


def preempted() -> set[str]:
    """Return this user's jobs that Slurm has told to make room, and that may be in their grace time still."""
    printed = ask("squeue", "--me", "--noheader", "--array", "--Format=JobArrayID:|,PreemptTime:|") or ""
    fields = (line.strip().split("|") for line in printed.splitlines() if line.count("|") >= 2)
    return {job for job, when, *_ in fields if when not in ("", *NEVER)}


def verdict(job: str) -> str:
    """Return how a job has ended, as Slurm's accounting says it, such as ``CANCELLED by 0``; "" if it is not known."""
    printed = ask("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode")
    states = [line.split("|") for line in (printed or "").splitlines() if "|" in line]
    if not states or states[-1][0] in ENDED:
        return ""
    state, code = states[-1][:2]
    status, _, number = code.partition(":")
    if state == "FAILED":
        return f"FAILED by signal {number}" if number not in ("", "0") else f"FAILED with exit code {status}"
    return state


def own_job() -> dict[str, str]:
    """Return what Slurm knows of the job that this process belongs to; {} outside of a job, or if it is not known."""
    job = own_id()
    printed = ask("scontrol", "show", "job", "--oneliner", job) if job else None
    return dict(word.split("=", 1) for word in (printed or "").split() if "=" in word)


def taken_away(number: int) -> bool:
    """Return whether a signal says that this machine is needed for something else: a warning, or Slurm's preemption.

    A plain SIGTERM may mean that the run is not wanted at all.
    """
    warned = number in (signal.SIGUSR1, signal.SIGUSR2)
    return warned or (number == signal.SIGTERM and _preempted(own_job()))


def _preempted(job: Mapping[str, str]) -> bool:
    return job.get("JobState") == "RUNNING" and job.get("PreemptTime", NEVER[0]) not in NEVER


def after_interruption(number: int, first: bool = True) -> None:
    """Let Slurm put the job back into its queue after a signal, when all is saved; return if it will not.

    All processes of a run call this, since Slurm may end a job with the first of them that leaves; one of them is the
    ``first``, and the others wait while it asks.

    A preempted job (SIGTERM) is requeued only if it is still there when its grace time is over: so this waits to be
    killed. A job whose time is up (SIGUSR1, SIGUSR2 of ``sbatch --signal``) is requeued by a request, if it was
    submitted with ``--requeue``. A cancelled job is left alone.
    """
    job = own_job()
    if job.get("JobState") != "RUNNING":
        return
    if number == signal.SIGTERM and _preempted(job):
        _ignore_the_end()
        log.warning("preempted: everything is saved; waiting for Slurm to put the job back into its queue")
        while True:
            time.sleep(60)
    if number not in (signal.SIGUSR1, signal.SIGUSR2) or job.get("Requeue") != "1":
        return
    if not first:
        time.sleep(2 * SECONDS)  # Slurm ends it earlier, with the first
    elif ask("scontrol", "requeue", str(own_id())) is not None:
        _ignore_the_end()
        log.warning("the time is up: everything is saved, and Slurm has put the job back into its queue")


def _ignore_the_end() -> None:
    """Ignore the signals by which Slurm ends a job that it requeues: all is saved, and the process leaves anyway."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)


def refusal(script: str) -> str:
    """Return why Slurm would refuse a script for sbatch, in its words; "" if it would take it."""
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            input=script,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    told = [line for line in done.stderr.splitlines() if not line.startswith("Try ")]
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in told]
    return "" if done.returncode == 0 else (lines or ["no reason given"])[-1].removeprefix("allocation failure: ")
