"""What a dry run says: the state of each run, and how long what is left will take, by what past runs took."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from vicinal.config.schema import GROUPS, TrainerConfig
from vicinal.experiment import Experiment
from vicinal.launch.grid import ABSENT, Job, swept_keys, value
from vicinal.report import terminal
from vicinal.report.terminal import Grid
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.utils.durations import duration

PACED_BY = {"dataset": GROUPS["dataset"], "model": GROUPS["model"], "trainer": TrainerConfig}
"""The groups that decide how long a run takes. How images are mixed and weights updated hardly counts."""


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        text: "done", "running" and by whom, "failed", "12 of 30 epochs" or "new".
        left: the share of the run that is still to be trained, in [0, 1]; None if nothing is to be done.
    """

    text: str
    left: float | None

    @classmethod
    def of(cls, experiment: Experiment) -> State:
        folder, epochs, again = experiment.folder, experiment.trainer.epochs, experiment.config["rerun"]
        result = folder.read_result()
        status = result and result["status"]
        if status == "completed":
            return cls("done, trained again", 1.0) if again else cls("done", None)
        done = None if again else folder.epochs_done()
        left = 1 - (done or 0) / epochs
        if worker := folder.locked():
            return cls(f"running: {worker}", left)
        if status == "failed":
            return cls("failed", left)
        return cls("new" if done is None else f"{done} of {epochs} epochs", left)

    def time(self, whole: float | None) -> float | None:
        """Seconds left of a run that takes ``whole``; None if that is not known or nothing is left."""
        return None if whole is None or self.left is None else whole * self.left


class Past:
    """The completed runs below one output folder."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def seconds(self, experiment: Experiment) -> float | None:
        """What the whole run will probably take; None if no run like it has been completed.

        The median over the runs on the same kind of device that had the same data set, model and trainer; where these
        differ in the number of epochs, it is scaled by it.
        """
        like = (_pace(experiment.settings()), experiment.hardware.device.type)
        alike = self._completed.get(like, [])
        epochs = experiment.trainer.epochs
        same = [seconds for past, seconds in alike if past == epochs]
        scaled = [seconds / past * epochs for past, seconds in alike]
        return median(same or scaled) if alike else None

    @cached_property
    def _completed(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """{(pace, device): epochs and seconds of each run}."""
        found: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for pace, device, epochs, seconds in self._read():
            found.setdefault((pace, device), []).append((epochs, seconds))
        return found

    def _read(self) -> Iterator[tuple[str, str, int, float]]:
        for file in self._runs.glob("*/result.json"):
            try:  # damage is named where a result is needed; an estimate can do without
                result = RunFolder(file.parent).load_result()
                pace, device = _pace(result["config"]), result["hardware"]["device"]
                epochs, seconds = result["epochs"], result["seconds"]["total"]
                if epochs > 0 and 0 < seconds < math.inf:
                    yield pace, device, epochs, seconds
            except (OSError, DamagedError, KeyError):
                continue


def _pace(config: dict[str, Any]) -> str:
    """The settings that decide how long an epoch takes, in one form."""
    pace = {}
    for group, schema in PACED_BY.items():
        neutral = {item.name for item in fields(schema) if item.metadata["neutral"]} | {"epochs"}
        pace[group] = {name: each for name, each in config[group].items() if name not in neutral}
    return json.dumps(pace, sort_keys=True)


def describe(experiment: Experiment) -> str:
    """The state of a run and the time it has left, in words: "12 of 30 epochs, about 4 min left"."""
    state = State.of(experiment)
    seconds = state.time(Past(experiment.folder.path.parent).seconds(experiment))
    return state.text if seconds is None else f"{state.text}, about {duration(seconds)} left"


def show(jobs: Sequence[Job]) -> None:
    """Print the grid, a row a run, and what is left in all."""
    past, keys, rows = Past(jobs[0].experiment.folder.path.parent), swept_keys(jobs), []
    states = [State.of(job.experiment) for job in jobs]
    times = [state.time(past.seconds(job.experiment)) for job, state in zip(jobs, states, strict=True)]
    for job, state, time in zip(jobs, states, times, strict=True):
        swept = [value(job.experiment, key) for key in keys]
        about = [job.experiment.folder.path.name, *swept, str(job.experiment.seed), state.text]
        rows.append([*about, ABSENT if time is None else duration(time)])
    headings = ["run", *keys, "seed", "state", "time left"]
    terminal.show([Grid("", headings, ["time left"], rows, spare=["run", "time left"])], notes=())
    print(_total(states, times))


def _total(states: Sequence[State], times: Sequence[float | None]) -> str:
    left = sum(state.left is not None for state in states)
    if not left:
        return f"all {len(states)} runs are done"
    said = f"{left} of {len(states)} runs are left"
    known = [time for time in times if time is not None]
    if not known:
        return f"{said}; no run like them has been completed, so how long they take is not known"
    bound = "about" if len(known) == left else "at least"
    return f"{said}: {bound} {duration(sum(known))}, one after another"
