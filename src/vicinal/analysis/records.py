"""Finished and unfinished runs as records, read from their folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from vicinal.config.redaction import redact
from vicinal.errors import UserError, written
from vicinal.runs.files import read_yaml
from vicinal.runs.folder import RunFolder, unreadable
from vicinal.runs.shapes import CONFIG, misfit
from vicinal.tasks import Task, task_named

K = TypeVar("K")
V = TypeVar("V")
RUN_NAME = re.compile(r"(?P<name>.+)-(?P<cell>[0-9a-f]{10})-s(?P<seed>\d+)$")
ABSENT = "-"  # value of a key that has no effect in a cell, such as alpha under ``none``


@dataclass(frozen=True)
class Run:
    """One run: its ``result.json``, or the reason why there is none."""

    folder: Path  # of the run; it may not exist
    run_id: str
    cell_id: str
    seed: int
    name: str
    status: str
    """"completed", "failed", "running" (a process works on it now), "stopped" (started, without a result, and no
    process works on it) or "missing" (never started)."""
    error: str = ""  # why it is not completed; "" if it is
    task: str | dict[str, Any] = ""  # its task as ``tasks.recorded`` has it; "" if unknown
    choices: dict[str, str] = field(default_factory=dict)  # {group: option}; empty if unknown
    config: dict[str, Any] = field(default_factory=dict)
    """{group: {key: value}}, the keys that have an effect; empty if unknown."""
    epochs: int = 0
    best_epoch: int | None = None  # by validation; None without a validation split
    val: dict[str, float] | None = None
    """Scores of the last epoch by the keys of the task's metrics; None without a validation split."""
    val_best: dict[str, float] | None = None  # the same of the best epoch; None in older results too
    test: dict[str, dict[str, float] | None] = field(default_factory=dict)
    """{"last": scores, "best_val": scores or None, "median10": scores}; empty if not completed."""
    seconds: dict[str, Any] = field(default_factory=dict)  # {"train": ..., "evaluation": ..., "total": ...}
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    """{name: hash} of the files that the data were read from; empty in older results."""
    baseline: dict[str, Any] | None = None
    """{"name": of a simple model, "test": its scores} on the same data; None without one."""
    changed: list[str] = field(default_factory=list)
    """Differences between the sessions of a resumed run, one text each."""
    wandb: dict[str, Any] = field(default_factory=dict)

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    @cached_property
    def damage(self) -> list[str]:
        """Faults of the files beside the result of a completed run, one line each."""
        return RunFolder(self.folder).damage() if self.completed else []

    def rows(self) -> list[dict[str, Any]]:
        """Return the epochs of ``metrics.jsonl``; none of a damaged file, which ``damage`` names."""
        folder = RunFolder(self.folder)
        return [] if any(line.startswith(str(folder.metrics)) for line in self.damage) else folder.rows()

    def environment(self) -> dict[str, Any]:
        """Return the content of ``environment.json``; empty if it cannot be read."""
        return RunFolder(self.folder).about()

    def scored(self) -> list[dict[str, float]]:
        """Return all scores of the result, on validation and on test."""
        return [scores for scores in (self.val, self.val_best, *self.test.values()) if scores]

    def score(self, name: str, metric: str = "") -> float | None:
        """Return a number by the name of its score, such as ``val`` or ``test/last``, and the key of its metric.

        Without a key it is the task's selection metric. None where there is no such number.
        """
        part, _, which = name.partition("/")
        scores = self.test.get(which) if part == "test" else {"val": self.val, "val_best": self.val_best}[part]
        return scores.get(metric or task_named(self.task).selection) if scores else None


def read(path: Path, cell: str = "", seed: int = -1, name: str = "") -> Run:
    """Read the run that is expected in a folder; without a cell id, the one that the folder's name gives."""
    if not cell:
        match = RUN_NAME.match(Path(os.path.realpath(path)).name)
        assert match is not None
        cell, seed, name = match["cell"], int(match["seed"]), match["name"]
    folder, run_id = RunFolder(path), f"{cell}-s{seed}"
    known: dict[str, Any] = {"folder": path, "run_id": run_id, "cell_id": cell, "seed": seed, "name": name}
    try:
        result = folder.read_result()
    except OSError as error:
        return Run(**known, status="missing", error=unreadable(error))
    if result is None:
        return Run(**known, **_unfinished(folder))
    known |= {key: result[key] for key in ("choices", "config") if isinstance(result.get(key), dict)}
    if result.get("run_id") != run_id:
        return Run(**known, status="missing", error=f"its result.json is that of another run, {result.get('run_id')}")
    if result["status"] != "completed":
        status = "stopped" if result["status"] == "stopped" else "failed"
        return Run(**known, status=status, error=redact(str(result.get("error", f"status {result['status']}"))))
    names = {item.name for item in fields(Run)}
    return Run(**{key: value for key, value in result.items() if key in names} | known)


def _unfinished(folder: RunFolder) -> dict[str, Any]:
    """Return the fields of a run without a result; its config is written before it trains."""
    if os.path.lexists(folder.result) or (folder.path / "result.json.damaged").exists():
        return {"status": "missing", "error": "its result.json is damaged", **_configured(folder)}
    if worker := folder.locked():
        return {"status": "running", "error": f"not finished: {worker} works on it", **_configured(folder)}
    if folder.sums.exists():  # checksums are written after a result
        return {"status": "stopped", "error": "its result.json is missing", **_configured(folder)}
    if folder.config.exists():
        return {"status": "stopped", "error": "not finished: interrupted or killed", **_configured(folder)}
    return {"status": "missing", "error": "never begun"}


def _configured(folder: RunFolder) -> dict[str, Any]:
    """Return choices and config of ``config.yaml``, if it can be read."""
    from omegaconf import OmegaConf

    try:
        content = OmegaConf.to_container(OmegaConf.create(read_yaml(folder.config)))
    except Exception:  # from YAML's parser, OmegaConf or the disk: then nothing is known
        return {}
    if not isinstance(content, dict) or not isinstance(choices := content.pop("_choices_", None), dict):
        return {}
    config = {str(key): value for key, value in content.items() if key not in ("defaults", "hydra")}
    found = {"choices": choices, "config": config}
    return found if misfit(found, {"choices": {str: str}, "config": CONFIG}) is None else {}


def task_of(runs: Sequence[Run]) -> Task:
    """Return the task of all runs, as far as it is known. Raises UserError if there are several."""
    completed = [run for run in runs if run.completed]  # only their tables are final, with the units of their data
    tasks = list(dict.fromkeys(task_named(run.task) for run in completed or runs if run.task or run.completed))
    if len(tasks) > 1:
        names = ", ".join(sorted({task.name for task in tasks}))
        raise UserError(f"these runs are of several tasks ({names}): choose one with --where dataset.task=NAME")
    return tasks[0] if tasks else task_named(None)


def shown_task(runs: Sequence[Run]) -> Task:
    """Return the task of all runs, of the metrics that only some trainings compute with those that any of them has."""
    return task_of(runs).showing({key for run in runs for scores in run.scored() for key in scores})


def lookup(run: Run, key: str) -> str | None:
    """Return the option of a group or the value of a dotted key as the command line spells it, or None."""
    return run.choices.get(key) or flat(run.config).get(key)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return {"mixup": {"alpha": 0.2}} as {"mixup.alpha": "0.2"}."""
    values: dict[str, str] = {}
    for name, value in config.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": written(value)}
    return values


def same(text: str, asked: str) -> bool:
    """Return whether two texts spell one value, as 1 and 1.0 do."""
    try:
        return text == asked or float(text) == float(asked)
    except ValueError:
        return False


def grouped(items: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Return {key: its values}, in the order of the items."""
    groups: dict[K, list[V]] = {}
    for key, value in items:
        groups.setdefault(key, []).append(value)
    return groups
