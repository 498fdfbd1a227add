"""One job of the command line: reused if its run is completed, else trained or resumed, by one process at a time."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from vicinal import build
from vicinal.config.redaction import redact
from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import dry_run, repair, resume, session
from vicinal.jobs.provenance import run_metadata
from vicinal.jobs.run_info import catch_up, show
from vicinal.runs.environment import differences, fixed, others, versions
from vicinal.runs.files import appending
from vicinal.runs.folder import BusyError
from vicinal.runs.source import sources
from vicinal.runs.train_log import logged_to
from vicinal.tasks import task_named
from vicinal.tracking.wandb.record import unfinished
from vicinal.tracking.wandb.settings import agent_run, ineffective_variables
from vicinal.training.malloc import trim_malloc
from vicinal.training.state import LAST
from vicinal.utils.cores import is_shared
from vicinal.utils.escaping import visible

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """Data of a run, loaded before its folder is made, so that a refusal leaves nothing behind.

    Attributes:
        data: checked against the config.
        seconds: time that loading took.
        records: log records of the meantime, for the run's own log.
    """

    data: ImageData
    seconds: float
    records: list[logging.LogRecord]

    @classmethod
    def of(cls, experiment: Experiment) -> Loaded:
        """Load the data of an experiment. Raises UserError."""
        began, listener = time.perf_counter(), MemoryHandler(capacity=sys.maxsize, flushLevel=sys.maxsize)
        root = logging.getLogger()
        root.addHandler(listener)
        try:
            data = build.load_data(experiment)
        finally:
            root.removeHandler(listener)
        return cls(data, time.perf_counter() - began, listener.buffer)


def check_data(experiments: Iterable[Experiment]) -> None:
    """Refuse what only the data can show, for all runs of a sweep, before the first of them begins.

    Raises:
        UserError: the data cannot be loaded, or a key does not fit them.
    """
    alike: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        key = repr((experiment.dataset.target, experiment.dataset.values))
        alike.setdefault(key, []).append(experiment)
    for first, *_ in alike.values():
        build.check_cuts(first)  # all of them before anything is decoded and kept
    for group in alike.values():
        _, data = build.load_images(group[0])
        for experiment in group:
            build.check_steps(experiment, data)


def run(experiment: Experiment, sweep: str | None = None) -> dict[str, Any]:
    """Train one experiment, unless it is completed.

    Args:
        experiment: checked.
        sweep: name of the sweep that it belongs to, W&B's group.

    Returns:
        The content of its ``result.json``; empty where another process works on it and ``busy=skip``.

    Raises:
        UserError: the data cannot be loaded, which leaves nothing behind; or the training diverged, and the reason is
            in ``result.json`` too.
    """
    folder, config = experiment.folder, experiment.config
    done = folder.completed()
    if config["dry_run"]:
        log.info("%s: %s", folder.path, dry_run.describe(experiment))
        return done or {}
    if done and not config["rerun"]:
        return _reuse(experiment, done)
    if config["busy"] == "skip" and (worker := folder.locked()):  # before loading data in vain
        log.info("%s: %s works on this run; skipped", folder.path, worker)
        return {}
    loaded = Loaded.of(experiment) if sweep is None else None  # else checked before, or on another machine
    try:
        with folder.lock(wait=config["busy"] == "wait"):
            done = folder.completed()  # by the process that had the lock
            if done and not config["rerun"]:
                return _reuse(experiment, done)
            try:
                return _work(experiment, sweep, loaded)
            finally:
                trim_malloc()
    except BusyError as busy:
        log.info("%s; skipped", busy)
        return {}


def _reuse(experiment: Experiment, done: dict[str, Any]) -> dict[str, Any]:
    folder = experiment.folder
    log.info("already completed: %s (rerun=true trains it again)", folder.path)
    warn_of_reuse([(experiment, done)])
    if agent_run():
        show(folder, done, experiment.wandb, id=None)
    else:
        tell_rest([experiment])
    return done


def warn_of_reuse(completed: Sequence[tuple[Experiment, dict[str, Any]]]) -> None:
    """Warn of what has changed since results that are reused were made, and restore damaged files beside them.

    A remark on several results is one line.
    """
    remarks: dict[str, list[Path]] = {}
    for experiment, done in completed:
        damage = experiment.folder.damage()
        for line in damage:
            log.warning("%s", line)
        for line in repair.mend(experiment, done, damage):
            log.info("%s", line)
        for remark in reuse_warnings(experiment, done):
            remarks.setdefault(remark, []).append(experiment.folder.path)
    for remark, paths in remarks.items():
        runs = str(paths[0]) if len(paths) == 1 else f"{len(paths)} runs, such as {paths[0]}"
        log.warning("%s: %s", runs, remark)


def tell_rest(completed: Sequence[Experiment]) -> None:
    """Send W&B what it lacks of completed runs, because a process was killed too early or W&B failed."""
    for experiment in completed:
        folder = experiment.folder
        if unfinished(folder.path) is None or (done := folder.completed()) is None:
            continue
        if told := catch_up(folder, done, experiment.wandb):
            log.info("%s: W&B lacked a part of it; %s", folder.path, told)


def reuse_warnings(experiment: Experiment, done: dict[str, Any]) -> list[str]:
    """Return how hardware, code and data of a result that is reused differ from those here, one remark each.

    "auto" may mean something else on this machine, and code or data may have changed since.
    """
    hardware = experiment.hardware
    here = {"device": hardware.device.type, "precision": hardware.precision, "threads": hardware.threads}
    remarks = [
        f"made with {text.replace(', then', ', here it would be')}: the last digits may differ"
        for text in differences(fixed(done), fixed({**here, "versions": versions()}))
    ]
    reported = done["config"].get("tracker", experiment.trackers)
    for name in experiment.trackers:
        if name not in reported and not (name == "wandb" and agent_run()):
            remarks.append(f"made without tracker={name}, which gets nothing of it; rerun=true trains again")
    made = {"code": experiment.folder.sources(), "data": done.get("data")}
    now: dict[str, Any] = {"code": sources(experiment.targets)}
    if made["data"]:
        try:
            now["data"] = build.data_contents(experiment)
        except Exception as error:  # a source may be the user's own, and its data gone
            reason = visible(redact(str(error) or repr(error)))
            remarks.append(f"its data cannot be compared with those here ({reason})")
    return remarks + [f"made with {text}; rerun=true trains again" for text in others(made, now)]


def _work(experiment: Experiment, sweep: str | None, loaded: Loaded | None) -> dict[str, Any]:
    folder = experiment.folder
    for line in experiment.ineffective_keys():
        log.info("%s", line)
    for line in ineffective_variables(experiment.config["wandb"]):
        _say_once(line)
    again = experiment.config["rerun"]
    if not again:
        folder.inspect()
    if again and loaded is None:
        loaded = Loaded.of(experiment)  # data that cannot be loaded must not cost the result that exists
    if again and loaded and (done := folder.completed()):
        for text in others(done, {"data": loaded.data.contents}):
            log.warning("%s: the result that is replaced was made with %s", folder.path, text)
    saved = None if again else resume.recover(experiment)
    if saved is None:
        folder.clear()
    else:
        folder.begin()
    with logged_to(folder.log, loaded.records if loaded else ()):
        try:
            loaded = loaded or Loaded.of(experiment)
            with _room(experiment, loaded.data):
                result = session.train(experiment, saved, loaded.data, sweep, loaded.seconds)
        except Exception as error:
            known = isinstance(error, UserError)
            reason = visible(redact(str(error) if known else f"{type(error).__name__}: {error}"))
            with suppress(OSError):  # the disk may be the cause
                if folder.completed() is None:  # else a tracker has failed afterwards
                    folder.fail(run_metadata(experiment), reason)
            with suppress(OSError), appending(folder.log) as own_log:  # the caller decides what the terminal shows
                own_log.write(f"failed: {reason}\n" if known else visible(redact(traceback.format_exc()), keep="\n\t"))
            raise
    log.info("%s", _verdict(result))
    log.info("results in %s", folder.path)
    return result


@contextmanager
def _room(experiment: Experiment, data: ImageData) -> Iterator[None]:
    """Wait for memory on a GPU that is shared with other jobs of a parallel sweep."""
    if not (is_shared() and experiment.hardware.device.type == "cuda"):
        yield
        return
    from vicinal.launch import gpu_memory

    with gpu_memory.reserve(gpu_memory.needs(experiment, data)):
        yield


@cache
def _say_once(line: str) -> None:
    """Log a line once per process."""
    log.info("%s", line)


def _verdict(result: dict[str, Any]) -> str:
    """Return the test scores by the task's selection metric as a line."""
    key, median = task_named(result.get("task")).selection, f"median of last {min(LAST, result['epochs'])}"
    labels = {"last": "last epoch", "best_val": "best by validation", "median10": median}
    parts = [f"{label} {result['test'][name][key]:.4f}" for name, label in labels.items() if result["test"][name]]
    return f"test {key}: {', '.join(parts)}"
