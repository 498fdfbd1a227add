"""A search: its settings, what it maximises, its folder, and ``search.json``, from which it is reported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig

from vicinal.analysis.comparison import VALIDATION
from vicinal.errors import ConfigError, UserError
from vicinal.experiment import Experiment
from vicinal.launch.packing import AUTO
from vicinal.launch.pruning import PRUNERS, stopper
from vicinal.launch.samplers import SAMPLERS
from vicinal.launch.search_space import Axis
from vicinal.launch.study import Trial
from vicinal.report.search import RECORD
from vicinal.runs.files import safe_name, write_json
from vicinal.runs.folder import RunFolder
from vicinal.runs.names import short
from vicinal.tasks import recorded
from vicinal.training.checkpointer import Stop

PREFIX = "hydra.sweeper."
CLUSTER_POINTS = 4  # ``at_a_time=auto`` where the number of machines is not known
LARGEST = 10_000  # of the settings that are counts
LONGEST_NAME = 60  # characters of a search's readable name
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Settings:
    """The keys of ``conf/hydra/sweeper/search.yaml``, checked."""

    trials: int
    seed: int
    at_a_time: int | str
    sampler: str
    pruner: str | None
    objective: str
    direction: str
    seeds: int
    warm_start: bool
    confirm: int

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings. Raises ConfigError."""
        settings = cls(**{item.name: values[item.name] for item in fields(cls)})
        for name, low in {"trials": 1, "seeds": 1, "confirm": 0}.items():
            _check_count(name, getattr(settings, name), low)
        _check_count("seed", settings.seed, 0, high=LARGEST_SEED)
        if settings.at_a_time != AUTO:
            _check_count("at_a_time", settings.at_a_time, 1, f"{AUTO} or ")
        for name, allowed in {
            "sampler": SAMPLERS,
            "pruner": (None, *PRUNERS),
            "direction": (AUTO, "minimize", "maximize"),
        }.items():
            if getattr(settings, name) not in allowed:
                text = ", ".join("null" if value is None else str(value) for value in allowed)
                raise ConfigError(PREFIX + name, getattr(settings, name), f"must be one of {text}")
        if not isinstance(settings.warm_start, bool):
            raise ConfigError(f"{PREFIX}warm_start", settings.warm_start, "must be true or false")
        if settings.pruner and settings.seeds > 1:
            raise ConfigError(f"{PREFIX}seeds", settings.seeds, f"must be 1 with {PREFIX}pruner={settings.pruner}")
        return settings


@dataclass(frozen=True)
class Goal:
    """What a search chooses by: a metric on validation, and which way it is better."""

    part: str  # of a result: "val" or "val_best"
    metric: str  # its key
    higher: bool  # whether larger values are chosen

    @property
    def name(self) -> str:
        return f"{self.part}/{self.metric}"

    def is_in(self, result: Mapping[str, Any]) -> bool:
        """Return whether the result of a run has it; results of older versions may not."""
        return self.metric in (result.get(self.part) or {})

    def of(self, results: Sequence[Mapping[str, Any]]) -> float:
        """Return the mean over the results of some seeds."""
        return fmean(result[self.part][self.metric] for result in results)


def goal(settings: Settings, experiment: Experiment) -> Goal:
    """Return what a search over a run's config chooses by. Raises ConfigError: it is not a metric on validation."""
    task = experiment.task
    if experiment.dataset.values["val_size"] == 0:
        raise ConfigError("dataset.val_size", 0, "a search chooses by validation; must be >= 1")
    key, asked = f"{PREFIX}objective", settings.objective
    text = f"val/{task.selection}" if asked == AUTO else str(asked)
    part, _, name = text.partition("/")
    if part == "test":
        raise ConfigError(key, asked, "the test set is never chosen by")
    metrics = {metric.key: metric for metric in task.computed}
    if part not in VALIDATION or name not in metrics:
        allowed = ", ".join(f"{part}/{metric}" for part in VALIDATION for metric in metrics)
        raise ConfigError(key, asked, f"must be one of {AUTO}, {allowed}")
    better = settings.direction
    return Goal(part, name, metrics[name].better == "higher" if better == AUTO else better == "maximize")


@dataclass(frozen=True)
class Outcome:
    """How a trial has ended."""

    state: str  # "completed", "pruned" or "failed"
    value: float | None = None  # of the objective; of one that was pruned, the last one
    reason: str = ""  # why it is not completed
    epoch: int = 0  # of the value of one that was pruned


def outcome(folders: Sequence[RunFolder], chosen_by: Goal) -> Outcome:
    """Return how a trial has ended, from the folders of its runs."""
    results = [folder.read_result() or {} for folder in folders]
    unfinished = [result for result in results if result.get("status") != "completed"]
    if not unfinished:
        if all(map(chosen_by.is_in, results)):
            return Outcome("completed", chosen_by.of(results))
        return Outcome("failed", reason=f"its result has no {chosen_by.name}")
    reason = str(unfinished[0].get("error", "it has ended without a result"))
    if unfinished[0].get("status") == "stopped" and (rows := folders[0].rows()):  # a pruner stops trials of one seed
        return Outcome("pruned", rows[-1][f"val/{chosen_by.metric}"], reason, len(rows))
    return Outcome("failed", reason=reason)


def stop_of(hydra: HydraConf, experiment: Experiment) -> Stop | None:
    """Return what a run asks before each epoch, if it is a trial of a search that has a pruner; else None."""
    if hydra.mode != RunMode.MULTIRUN or not str(hydra.sweeper.get("_target_")).endswith(".SearchSweeper"):
        return None
    settings = Settings.checked(hydra.sweeper)
    if settings.pruner is None:
        return None
    chosen_by, epochs = goal(settings, experiment), experiment.trainer.epochs
    key = f"val/{chosen_by.metric}"
    return stopper(Path(hydra.sweep.dir), experiment.run_id, epochs, settings.pruner, key, chosen_by.higher)


def check_command(config: DictConfig) -> None:
    """Raise UserError without Optuna, or for keys that a search cannot have: it needs each result, and goes on."""
    if not find_spec("optuna"):
        raise UserError("hydra/sweeper=search needs optuna: pip install -e '.[search]'")
    if config.busy != "wait":
        raise ConfigError("busy", config.busy, "must be wait: a search needs each result")
    if config.rerun:
        raise ConfigError("rerun", True, f"must be false: a search goes on; another {PREFIX}seed tries other points")
    if config.hydra.launcher.get("wait") is False:
        raise ConfigError("hydra.launcher.wait", False, "must be true: a search needs each result")


def identify(baseline: Experiment, axes: Sequence[Axis], settings: Settings, chosen_by: Goal) -> str:
    """Return ten hex digits: the same config, space, seed and objective are the same search.

    How many points are tried, and how many at a time, is not part of it: the same command goes on.
    """
    facts = [baseline.run_id, [axis.described() for axis in axes], settings.sampler, settings.seed, settings.seeds]
    facts += [settings.pruner, chosen_by.name, chosen_by.higher]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:10]


def search_folder(baseline: Experiment, axes: Sequence[Axis], identity: str) -> Path:
    """Return ``<output_dir>/sweeps/search-<keys>-<identity>``."""
    sweeps = Path(os.path.realpath(baseline.config["output_dir"])) / "sweeps"
    name = "search-" + "+".join(short(axis.name for axis in axes).values())
    return next(sweeps.glob(f"search-*-{identity}"), sweeps / f"{safe_name(name, LONGEST_NAME)}-{identity}")


def confirm_folder(folder: Path) -> Path:
    """Return the folder of the sweep that trains a search's choice on new seeds: beside that of the search."""
    return folder.with_name(f"{folder.name}-confirm")


def write_record(
    folder: Path,
    experiment: Experiment,
    axes: Sequence[Axis],
    settings: Settings,
    chosen_by: Goal,
    trials: Sequence[Trial],
    best: Trial | None,
    confirmed: bool,
) -> None:
    """Write ``search.json``."""
    content = {
        "objective": {"name": chosen_by.name, "higher": chosen_by.higher},
        "task": recorded(experiment.task),
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seeds": settings.seeds,
        "space": [{"key": axis.name, "shown": axis.shown, **axis.described()} for axis in axes],
        "trials": [
            {
                "number": trial.number,
                "values": {key.lstrip("+"): text for key, text in trial.values.items()},
                "state": trial.state,
                "value": trial.value if trial.state == "completed" else None,
                "warm": trial.warm,
                "runs": list(trial.runs),
                "reason": trial.reason,
            }
            for trial in trials
        ],
        "best": None if best is None else best.number,
        "confirm": confirm_folder(folder).name if confirmed else None,
    }
    write_json(folder / RECORD, content)


def _check_count(name: str, value: Any, low: int, otherwise: str = "", high: int = LARGEST) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(PREFIX + name, value, f"must be {otherwise}an integer in [{low}, {high}]")
