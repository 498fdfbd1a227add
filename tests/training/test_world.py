"""Several runs of the same processes, one after the other: none takes what belongs to another for its own."""

import os
import socket
import subprocess
import sys

from vicinal.training.world import _meeting_place

RUNS = """
from vicinal.training.world import LostProcessError, one_of_several_runs, world

for run in ("first", "skipped", "second", "broken", "third"):
    try:
        with one_of_several_runs():
            if run == "skipped" and world().rank == 0:  # it is completed: there is nothing to tell
                continue
            if run == "broken" and world().rank == 0:  # alone, between two things that are told
                world().first(run)
                raise ValueError
            print(world().first(run if world().rank == 0 else None), world().largest(world().rank))
    except (LostProcessError, ValueError) as error:
        print(type(error).__name__)
"""


def test_each_run_begins_anew_with_all_processes() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUNS],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert said[0] == ["first 1", "second 1", "ValueError", "third 1"]
    assert said[1] == ["first 1", "LostProcessError", "second 1", "LostProcessError", "third 1"]


def test_jobs_and_steps_that_run_at_a_time_meet_at_places_of_their_own() -> None:
    steps = [{"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)} for job in range(700, 800) for step in range(10)]
    places = [_meeting_place({**step, "SLURM_STEP_NODELIST": "n1"}) for step in steps]
    assert {place["MASTER_ADDR"] for place in places} == {"n1"}
    assert len({place["MASTER_PORT"] for place in places}) == 1000
