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


SLOW = """
import os
import time
import torch.distributed
from vicinal.training import world

class Slow(torch.distributed.Store):  # each answer takes long, and its reader is not done when it has come
    def __init__(self, found):
        super().__init__()
        self.inner = found

    def set(self, key, value):
        self.inner.set(key, value)

    def add(self, key, number):
        return self.inner.add(key, number)

    def wait(self, keys, *longest):
        self.inner.wait(keys, *longest)

    def get(self, key):
        answer = self.inner.get(key)
        time.sleep(0.3)
        self.inner.add("read", 1)
        return answer

if world.processes().rank == 1:
    meet = world._store
    world._store = lambda found: Slow(meet(found))
world.world()
print("connected", flush=True)
os._exit(0)  # at once, and a store of Python's own does not outlive its interpreter
"""


def together(program: str) -> list[list[str]]:
    """Return the lines that two processes of a program print, their errors among them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [process.communicate(timeout=120)[0].splitlines() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_each_run_begins_anew_with_all_processes() -> None:
    said = together(RUNS)
    assert said[0] == ["first 1", "second 1", "ValueError", "third 1"]
    assert said[1] == ["first 1", "LostProcessError", "second 1", "LostProcessError", "third 1"]


def test_none_leaves_while_another_still_connects() -> None:
    assert together(SLOW) == [["connected"], ["connected"]]


def test_jobs_and_steps_that_run_at_a_time_meet_at_places_of_their_own() -> None:
    steps = [{"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)} for job in range(700, 800) for step in range(10)]
    places = [_meeting_place({**step, "SLURM_STEP_NODELIST": "n1"}) for step in steps]
    assert {place["MASTER_ADDR"] for place in places} == {"n1"}
    assert len({place["MASTER_PORT"] for place in places}) == 1000
