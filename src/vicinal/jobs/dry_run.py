"""Show a dry run: the state of each run, and the time that is left, estimated from past runs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from vicinal.config.identity import identity_values
from vicinal.config.schema import SCHEMAS
from vicinal.experiment import Experiment
from vicinal.launch.grid import ABSENT, Job, swept_keys, value
from vicinal.report import terminal
from vicinal.report.terminal import Grid
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.utils.durations import duration

PACED_BY = ("dataset", "model", "trainer")  # groups that decide how long a run takes; the others hardly count


@dataclass(frozen=True)
class State:
    """Progress of a run."""

    text: str  # such as "done", "running: process 7 on host", "failed", "12 of 30 epochs" or "new"
    left: float | None  # part of the run that is still to be trained, in [0, 1]; None if nothing is to be done

    @classmethod
    def of(cls, experiment: Experiment) -> State:
        folder, epochs, again = experiment.folder, experiment.trainer.epochs, experiment.config["rerun"]
        status = (folder.read_result() or {}).get("status")
        if status == "completed":
            return cls("done, trained again", 1.0) if again else cls("done", None)
        done = None if again else _epochs_done(folder)
        left = 1 - (done or 0) / epochs
        if worker := folder.locked():
            return cls(f"running: {worker}", left)
        if status == "failed":
            return cls("failed", left)
        if status == "stopped":
            return cls(f"stopped after {done or 0} of {epochs} epochs", left)
        return cls("new" if done is None else f"{done} of {epochs} epochs", left)


def _epochs_done(folder: RunFolder) -> int | None:
    """Return the number of epochs after which a run would resume; None without a checkpoint."""
    for file in (folder.checkpoint, folder.previous):
        try:
            content = checkpoint.load(file, {"training": {"history": {"rows": list}}})
            return len(content["training"]["history"]["rows"])
        except (OSError, DamagedError):  # named when the run is resumed
            continue
    return None


class Past:
    """The completed runs below one output folder."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs

    def seconds(self, experiment: Experiment) -> float | None:
        """Estimate the time of a whole run: the median over runs with the same pace and device; None without any."""
        alike = self._completed.get((_pace(experiment.settings()), experiment.hardware.device.type), [])
        epochs = experiment.trainer.epochs
        same = [seconds for past, seconds in alike if past == epochs]
        scaled = [seconds / past * epochs for past, seconds in alike]  # count only without runs of as many epochs
        return median(same or scaled) if alike else None

    def left(self, experiment: Experiment) -> tuple[State, float | None]:
        """Return the state of a run, and the seconds that it still needs; None if unknown, or if it is done."""
        state = State.of(experiment)
        whole = self.seconds(experiment)
        return state, None if whole is None or state.left is None else whole * state.left

    @cached_property
    def _completed(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """Return {(pace, device): (epochs, seconds) of each run}."""
        times = defaultdict(list)
        for file in self._runs.glob("*/result.json"):
            try:  # damage is named where a result is needed; an estimate does without
                result = RunFolder(file.parent).load_result()
                pace, device = _pace(result["config"]), result["hardware"]["device"]
                epochs, seconds = result["epochs"], result["seconds"]["total"]
            except (OSError, DamagedError, KeyError):
                continue
            if epochs > 0 and 0 < seconds < math.inf:
                times[pace, device].append((epochs, seconds))
        return times


def _pace(config: dict[str, Any]) -> str:
    """Return the settings that decide how long an epoch takes, in one form."""
    pace = {group: identity_values(SCHEMAS[group], config[group]) for group in PACED_BY}
    pace["trainer"].pop("epochs", None)
    return json.dumps(pace, sort_keys=True)


def describe(experiment: Experiment) -> str:
    """Return the state of a run and its time left, such as "12 of 30 epochs, about 4 min left"."""
    state, seconds = Past(experiment.folder.path.parent).left(experiment)
    return state.text if seconds is None else f"{state.text}, about {duration(seconds)} left"


def show(jobs: Sequence[Job]) -> None:
    """Print the grid, one row per run, and the total time that is left."""
    past, keys = Past(jobs[0].experiment.folder.path.parent), swept_keys(jobs)
    rows, unfinished = [], []
    for experiment in (job.experiment for job in jobs):
        state, seconds = past.left(experiment)
        if state.left is not None:
            unfinished.append(seconds)
        shown = ABSENT if seconds is None else duration(seconds)
        swept = [value(experiment, key) for key in keys]
        rows.append([experiment.folder.path.name, *swept, str(experiment.seed), state.text, shown])
    headings = ["run", *keys, "seed", "state", "time left"]
    terminal.show([Grid("", headings, ["time left"], rows, spare=["run", "time left"])], notes=())
    known = [seconds for seconds in unfinished if seconds is not None]
    if not unfinished:
        print(f"all {len(jobs)} runs are done")
        return
    estimate = "; no run like them has been completed, so how long they take is not known"
    if known:
        precision = "about" if len(known) == len(unfinished) else "at least"
        estimate = f": {precision} {duration(sum(known))}, one after another"
    print(f"{len(unfinished)} of {len(jobs)} runs are left{estimate}")
