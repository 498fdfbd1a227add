"""Run a completed run's stored config again, in a new folder, and compare the two to the bit."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vicinal.config.identity import later_keys
from vicinal.config.schema import NEUTRAL, VIEWS, TrainerConfig
from vicinal.errors import ConfigError, UserError, written
from vicinal.experiment import Experiment
from vicinal.jobs.bitwise_diff import Part, compare, environments
from vicinal.jobs.provenance import run_metadata
from vicinal.jobs.run import run
from vicinal.jobs.stored_config import stored_config
from vicinal.runs.folder import RunFolder
from vicinal.training.hardware import Hardware, resolve
from vicinal.utils.nested import flat

log = logging.getLogger(__name__)

HARDWARE = ("device", "precision", "threads")  # keys whose "auto" a result records
ELSEWHERE = {"git commit", "git diff"}  # they change a number only through the package's source, compared too


@dataclass(frozen=True)
class Reproduction:
    """A run, ``then``, and its repetition, ``now``."""

    then: RunFolder
    now: RunFolder
    parts: list[Part]
    differences: list[tuple[str, str, str]]  # (name, then, now) of the two environments
    requested: list[str]  # differences of the two requests, one line each
    notes: list[str]  # all remarks, one line each

    @property
    def identical(self) -> bool:
        return all(part.identical for part in self.parts)

    def verdict(self) -> str:
        """Return "bit-identical", or the first difference and its possible causes, as one line."""
        first = next((part.parting for part in self.parts if part.parting), None)
        if first is not None:
            causes = [f"{name} {then}, now {now}" for name, then, now in self.differences if name not in ELSEWHERE]
            causes += self.requested
            return f"{first} ({'; '.join(causes) or 'no recorded version or hardware differs'})"
        missing = [part.name for part in self.parts if part.missing]
        if missing:
            return f"identical as far as it can be compared; without: {', '.join(missing)}"
        return "bit-identical"


def reproduce(
    path: Path, output: Path | None = None, overrides: Sequence[str] = (), trusted: Sequence[str] = ()
) -> Reproduction:
    """Run the config of a completed run again, with overrides such as ``dataset.root=...``, and compare.

    The repetition gets a new folder, ``output``, by default in ``reproductions/`` beside ``runs/``. For ``trusted`` see
    :mod:`vicinal.jobs.stored_config`. Raises UserError if there is no completed run, or if its config is lost, refused
    or not understood by today's code.
    """
    then = RunFolder(path)
    result = original(then)
    damage = then.damage()
    if config_lost := [line for line in damage if line.startswith(f"{then.config} ")]:
        raise UserError(f"{config_lost[0]}; it is needed to run the config again")
    if output and output.exists():
        raise UserError(f"--output {output}: is there already; it must be a new folder")
    now = RunFolder(output or _beside(path.resolve()))
    experiment = Experiment.composed(_compose(then, now, overrides, trusted))
    overridden = {word.partition("=")[0].lstrip("+~") for word in overrides}
    hardware, notes = _hardware(experiment.trainer, result["hardware"], overridden)
    experiment = replace(experiment, folder=now, hardware=hardware)
    environment_lost = [line for line in damage if line.startswith(f"{then.environment} ")]
    whole = {} if environment_lost else then.about()
    environment = {**whole, "versions": result["versions"], "data": result.get("data", {}), **result["hardware"]}
    requested = list(_request(result, experiment))
    notes = [*environment_lost, *_history(environment, result), *requested, *notes]
    if hardware.device.type != "cpu" and not experiment.trainer.deterministic:
        notes.append("trainer.deterministic=false: on this device no two runs need to have the same bits")
    log.info("running %s again in %s", then.config, now.path)
    again = run(experiment)
    differences = list(environments(environment, now.about() | {"data": again.get("data", {})}))
    return Reproduction(then, now, compare(then, now, damage), differences, requested, notes)


def original(folder: RunFolder) -> dict[str, Any]:
    """Return the result of the run that is to be repeated. Raises UserError if there is none."""
    if not folder.path.is_dir():
        raise UserError(f"{folder.path}: there is no such folder")
    result = folder.read_result()
    if result is None:
        if folder.result.exists():
            raise UserError(f"{folder.path}: {folder.result.name} is damaged, so there is nothing to compare with")
        if folder.config.exists():
            raise UserError(f"{folder.path}: the run is not completed; train.py resumes it")
        raise UserError(f"{folder.path}: this is not the folder of a run: it has no {folder.result.name}")
    if result["status"] != "completed":
        raise UserError(f"{folder.path}: the run {result['status']}: {result.get('error', 'no reason is known')}")
    return result


def _beside(path: Path) -> Path:
    """Return ``<output_dir>/reproductions/<name of the run>-again``, which no report takes for a run."""
    outputs = path.parents[1] if path.parent.name == "runs" else path.parent
    place = outputs / "reproductions" / f"{path.name}-again"
    others = (place.with_name(f"{place.name}{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([place], others) if not folder.exists())


def _compose(then: RunFolder, now: RunFolder, overrides: Sequence[str], trusted: Sequence[str]) -> DictConfig:
    cfg = stored_config(then.config, overrides, trusted)
    cfg.output_dir = str(now.path)
    cfg.rerun = cfg.dry_run = False
    cfg.tracker = {}
    if "cache_dir" in cfg.dataset and not Path(cfg.dataset.cache_dir).is_dir():  # of another machine
        cfg.dataset.cache_dir = str(now.path / "cache")
    return cfg


def _hardware(settings: TrainerConfig, recorded: Mapping[str, Any], overridden: set[str]) -> tuple[Hardware, list[str]]:
    """Return the original's meaning of "auto", as far as this machine has it, and a line for each that it lacks."""
    notes = []
    for name in HARDWARE:
        if getattr(settings, name) != "auto" or f"trainer.{name}" in overridden:
            continue
        as_then = replace(settings, **{name: recorded[name]})
        try:
            resolve(as_then)
            settings = as_then
        except ConfigError:
            notes.append(f"it was made with {name} {recorded[name]}, which this machine does not have")
    return resolve(settings), notes


def _history(environment: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    if sessions := len(environment.get("continued", [])):
        yield f"the original was interrupted and continued, {sessions} {'time' if sessions == 1 else 'times'}"
    if result["changed"]:
        yield f"the original was not continued as it was begun: {'; '.join(result['changed'])}"


def _request(result: Mapping[str, Any], experiment: Experiment) -> Iterator[str]:
    """Yield the differences between the stored request and the one that today's code reads from the config."""
    then, now = flat(result["config"], "."), flat(run_metadata(experiment)["config"], ".")
    later = later_keys()
    differ = False
    for key in dict.fromkeys([*then, *now]):
        same = key in now and now[key] == then.get(key, later.get(key, ...))
        if same or key in NEUTRAL or key.partition(".")[0] in VIEWS:
            continue
        differ = True
        if key not in now:
            yield f"{key}={written(then[key])}: today's code has no such key"
        elif key not in then:
            yield f"{key}={written(now[key])}: a key that the original's code did not have"
        else:
            yield f"{key}: {written(then[key])} then, {written(now[key])} now"
    if not differ and result["run_id"] != experiment.run_id:
        named = [
            f"{component.group}.{name}"
            for component in (experiment.dataset, experiment.model)
            for name in ("folder", "tokenizer", "pretrained")
            if component.arguments.get(name)
        ]
        files = f"the files in {', '.join(named)}, or " if named else ""
        yield f"the run id was {result['run_id']} and is {experiment.run_id} now: {files}how it is counted has changed"
