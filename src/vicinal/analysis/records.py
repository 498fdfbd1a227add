"""Finished and unfinished runs as records, read from their folders."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from vicinal.config.redaction import redact
from vicinal.config.schema import with_later_keys
from vicinal.errors import written
from vicinal.runs.files import read_yaml
from vicinal.runs.folder import RunFolder, unreadable
from vicinal.runs.shapes import CONFIG, misfit

RUN_NAME = re.compile(r"(?P<name>.+)-(?P<cell>[0-9a-f]{10})-s(?P<seed>\d+)$")
ABSENT = "-"
"""The value of a key that a cell has no use for, such as alpha under ``none``."""


@dataclass(frozen=True)
class Run:
    """One run: its ``result.json``, or why there is none.

    Attributes:
        folder: of the run; it may not exist.
        status: "completed", "failed", "running" (a process has it now), "stopped" (begun, no result, and nobody is at
            it) or "missing" (never begun).
        error: why it is not completed; "" if it is.
        choices: {group: option}; empty if unknown.
        config: {group: {key: value}}, the keys that have an effect; empty if unknown.
        best_epoch: by validation; None without a validation split.
        val: scores ``acc1 acc5 nll ece`` of the last epoch, accuracies as fractions; None without a validation split.
        val_best: likewise of the best epoch; older results do not have them.
        test: {"last": scores, "best_val": scores or None, "median10": scores}; empty if not completed.
        data: {name: hash} of what the images were read from; older results do not have it.
        changed: what differed between the sessions of a resumed run, as texts.
    """

    folder: Path
    run_id: str
    cell_id: str
    seed: int
    name: str
    status: str
    error: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    best_epoch: int | None = None
    val: dict[str, float] | None = None
    val_best: dict[str, float] | None = None
    test: dict[str, dict[str, float] | None] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, Any] = field(default_factory=dict)
    images_per_second: float = 0.0
    data: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    wandb: dict[str, Any] = field(default_factory=dict)

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    def rows(self) -> list[dict[str, Any]]:
        """The epochs of ``metrics.jsonl``; of a damaged file none, as ``damage`` says."""
        folder = RunFolder(self.folder)
        return [] if any(line.startswith(str(folder.metrics)) for line in self.damage) else folder.rows()

    @cached_property
    def damage(self) -> list[str]:
        """What is wrong with the files beside the result of a completed run, a line each."""
        return RunFolder(self.folder).damage() if self.completed else []

    def environment(self) -> dict[str, Any]:
        """The content of ``environment.json``; empty if it cannot be read."""
        return RunFolder(self.folder).about()

    def scored(self) -> list[dict[str, float]]:
        """All scores that the result has, of validation and of test."""
        return [scores for scores in (self.val, self.val_best, *self.test.values()) if scores]

    def score(self, name: str, metric: str = "acc1") -> float | None:
        """A number by the name of its column, such as ``test/last``; None where there is none."""
        part, _, which = name.partition("/")
        scores = self.test.get(which) if part == "test" else {"val": self.val, "val_best": self.val_best}[part]
        return scores.get(metric) if scores else None


def read(path: Path, cell: str = "", seed: int = -1, name: str = "") -> Run:
    """Read one folder.

    Args:
        path: of the folder.
        cell: the run that is expected there; without it, the one in the folder's name.
        seed: likewise.
        name: likewise.
    """
    if not cell:
        match = RUN_NAME.match(Path(os.path.realpath(path)).name)
        assert match is not None
        cell, seed, name = match["cell"], int(match["seed"]), match["name"]
    run_id = f"{cell}-s{seed}"
    folder = RunFolder(path)
    about: dict[str, Any] = {"folder": path, "run_id": run_id, "cell_id": cell, "seed": seed, "name": name}
    try:
        result = folder.read_result()
    except OSError as error:
        return Run(**about, status="missing", error=unreadable(error))
    if result is None:
        return Run(**about, **_unfinished(folder))
    about |= {key: result[key] for key in ("choices", "config") if isinstance(result.get(key), dict)}
    if "config" in about:
        about["config"] = with_later_keys(about["config"])
    if result.get("run_id") != run_id:
        return Run(**about, status="missing", error=f"its result.json is that of another run, {result.get('run_id')}")
    if result["status"] != "completed":
        return Run(**about, status="failed", error=redact(str(result.get("error", f"status {result['status']}"))))
    known = {each.name for each in fields(Run)} - set(about)
    return Run(**about, **{key: value for key, value in result.items() if key in known})


def _unfinished(folder: RunFolder) -> dict[str, Any]:
    """What can be said of a run without a result: its config is written before it trains."""
    if os.path.lexists(folder.result) or (folder.path / "result.json.damaged").exists():
        return {"status": "missing", "error": "its result.json is damaged", **_configured(folder)}
    if worker := folder.locked():
        return {"status": "running", "error": f"not finished: {worker} works on it", **_configured(folder)}
    if folder.sums.exists():  # which only a result takes along
        return {"status": "stopped", "error": "its result.json is missing", **_configured(folder)}
    if folder.config.exists():
        return {"status": "stopped", "error": "not finished: interrupted or killed", **_configured(folder)}
    return {"status": "missing", "error": "never begun"}


def _configured(folder: RunFolder) -> dict[str, Any]:
    """What ``config.yaml`` says, if it can be read."""
    from omegaconf import OmegaConf

    try:
        content = OmegaConf.to_container(OmegaConf.create(read_yaml(folder.config)))
    except Exception:  # of YAML's parser, of OmegaConf or of the disk: nothing is known then
        return {}
    if not isinstance(content, dict) or not isinstance(choices := content.pop("_choices_", None), dict):
        return {}
    config = {str(key): value for key, value in content.items() if key not in ("defaults", "hydra")}
    found = {"choices": choices, "config": config}
    fits = misfit(found, {"choices": {str: str}, "config": CONFIG}) is None
    return {**found, "config": with_later_keys(config)} if fits else {}


def lookup(run: Run, key: str) -> str | None:
    """The option of a group or the value of a dotted key, as the command line spells it; None if there is none."""
    if key in run.choices:
        return run.choices[key]
    value: Any = run.config
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return None if isinstance(value, Mapping) else written(value)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"mixup": {"alpha": 0.2}} as {"mixup.alpha": "0.2"}."""
    values: dict[str, str] = {}
    for name, value in config.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": written(value)}
    return values


def same(text: str, asked: str) -> bool:
    """Two spellings of one value: 1 and 1.0 are."""
    try:
        return text == asked or float(text) == float(asked)
    except ValueError:
        return False
