"""One job of the command line: reused if its run is completed, else trained or resumed, by one process at a time."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, NamedTuple

from vicinal import build
from vicinal.config.components import Component
from vicinal.config.redaction import redact
from vicinal.data import RunData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import dry_run, session
from vicinal.jobs.provenance import mend, run_metadata
from vicinal.jobs.resume import Saved, recover
from vicinal.jobs.run_info import catch_up, show
from vicinal.jobs.session import train
from vicinal.launch import gpu_memory
from vicinal.launch.packing import JOBS
from vicinal.runs.environment import differences, fixed, numerics, others, versions
from vicinal.runs.files import appending
from vicinal.runs.heartbeat import TakenOverError
from vicinal.runs.remarks import summarise
from vicinal.runs.run_lock import BusyError
from vicinal.runs.signals import StoppedEarly
from vicinal.runs.source import sources
from vicinal.runs.train_log import logged_to
from vicinal.tasks import task_named
from vicinal.tracking.wandb.record import unfinished
from vicinal.tracking.wandb.settings import agent_run, ineffective_variables
from vicinal.training.checkpointer import Stop
from vicinal.training.malloc import trim_malloc
from vicinal.training.state import LAST
from vicinal.utils.escaping import visible

log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """Data of a run, loaded before its folder is made, so that a refusal leaves nothing behind."""

    data: RunData
    seconds: float  # time that loading took
    records: list[logging.LogRecord]  # log records of the meantime, for the run's own log


def load(experiment: Experiment) -> Loaded:
    began, listener = time.perf_counter(), MemoryHandler(capacity=sys.maxsize, flushLevel=sys.maxsize)
    root = logging.getLogger()
    root.addHandler(listener)
    try:
        data = build.load_data(experiment)
    finally:
        root.removeHandler(listener)
    return Loaded(data, time.perf_counter() - began, listener.buffer)


def check_cuts(experiments: Iterable[Experiment]) -> None:
    """Raise UserError if a cut of the data is impossible, where sources can tell it before anything is loaded."""
    for experiment in {experiment.dataset: experiment for experiment in experiments}.values():
        build.check_cuts(experiment)


def check_data(experiments: Iterable[Experiment]) -> None:
    """Raise UserError if the data of a sweep's runs cannot be loaded, or if a key does not fit them."""
    by_dataset: dict[Component, list[Experiment]] = {}
    for experiment in experiments:
        by_dataset.setdefault(experiment.dataset, []).append(experiment)
    check_cuts(group[0] for group in by_dataset.values())  # all of them before anything is decoded and kept
    for group in by_dataset.values():
        _, data = build.load_samples(group[0])
        for experiment in group:
            build.check_steps(experiment, data)


def name_ineffective_keys(experiments: Iterable[Experiment]) -> None:
    """Log a line for each key that is set but has no effect."""
    for line in dict.fromkeys(line for experiment in experiments for line in experiment.ineffective_keys()):
        log.info("%s", line)


def run(experiment: Experiment, sweep: str | None = None, stop: Stop | None = None) -> dict[str, Any]:
    """Train one experiment, unless it is completed; return ``result.json``, or {} if it has none of a completed run:
    ``busy=skip`` has skipped it, or ``stop`` has ended it early.

    ``sweep`` is the name of its sweep, for W&B's group. Raises UserError if the data cannot be loaded, which leaves
    nothing behind, or if the training diverged; then the reason is in ``result.json`` too. Raises
    TakenOverError if another process took this one for dead.
    """
    folder, config = experiment.folder, experiment.config
    done = folder.completed()
    if config["dry_run"]:
        check_cuts([experiment])
        name_ineffective_keys([experiment])
        log.info("%s: %s", folder.path, dry_run.describe(experiment))
        return done or {}
    if done and not config["rerun"]:
        return _reuse(experiment, done)
    if config["busy"] == "skip" and (worker := folder.locked()):  # before loading data in vain
        log.info("%s: %s works on this run; skipped", folder.path, worker)
        return {}
    loaded = load(experiment) if sweep is None else None  # else checked before, or on another machine
    try:
        with folder.lock(wait=config["busy"] == "wait"):
            done = folder.completed()  # by the process that had the lock
            if done and not config["rerun"]:
                return _reuse(experiment, done)
            try:
                return _work(experiment, sweep, loaded, stop)
            except StoppedEarly as reason:
                folder.stop(run_metadata(experiment), str(reason))
                log.info("%s: %s; a command without the search trains it to the end", folder.path, reason)
                return {}
            finally:
                trim_malloc()
    except BusyError as busy:
        log.info("%s; skipped", busy)
        return {}


def assist(experiment: Experiment, saved: Saved, stop: Stop | None = None) -> None:
    """Compute a part of a run whose first process has called :func:`run`, from the checkpoint that it has found."""
    with suppress(StoppedEarly):  # the first process tells it
        session.assist(experiment, saved, load(experiment).data, stop)


def _reuse(experiment: Experiment, done: dict[str, Any]) -> dict[str, Any]:
    log.info("already completed: %s (rerun=true trains it again)", experiment.folder.path)
    warn_of_reuse([(experiment, done)])
    if agent_run():
        show(experiment.folder, done, experiment.wandb, id=None)
    else:
        send_rest([experiment])
    return done


def warn_of_reuse(completed: Sequence[tuple[Experiment, dict[str, Any]]]) -> None:
    """Warn of damage to results that are reused, and of changes since they were made; put their folders in order."""
    remarks: list[tuple[Path, str]] = []
    mended: list[str] = []
    for experiment, done in completed:
        experiment.folder.tidy()
        damage = experiment.folder.damage()
        mended += mend(experiment, done, damage)
        found = [*damage, *reuse_warnings(experiment, done)]
        remarks += [(experiment.folder.path, remark) for remark in found]
    for line in summarise(remarks):
        log.warning("%s", line)
    for line in mended:
        log.info("%s", line)


def send_rest(completed: Sequence[Experiment]) -> None:
    """Send W&B what it lacks of completed runs, because a process was killed too early or W&B failed."""
    for experiment in completed:
        folder = experiment.folder
        if unfinished(folder.path) is None or (done := folder.completed()) is None:
            continue
        if outcome := catch_up(folder, done, experiment.wandb):
            log.info("%s: W&B lacked a part of it; %s", folder.path, outcome)


def reuse_warnings(experiment: Experiment, done: dict[str, Any]) -> list[str]:
    """Return a remark for each difference in hardware, code and data between a result that is reused and here."""
    hardware = experiment.hardware
    here = {"device": hardware.device.type, "precision": hardware.precision, "threads": hardware.threads}
    here |= numerics(hardware.device)
    remarks = [
        f"made with {text.replace(', then', ', here it would be')}: the last digits may differ"
        for text in differences(fixed(done), fixed({**here, "versions": versions(experiment.packages)}))
    ]
    reported = done["config"].get("tracker", experiment.trackers)
    for name in experiment.trackers:
        if name not in reported and not (name == "wandb" and agent_run()):
            remarks.append(f"made without tracker={name}, which gets nothing of it; rerun=true trains again")
    then = {"code": experiment.folder.sources(), "data": done.get("data")}
    now: dict[str, Any] = {"code": sources(experiment.targets)}
    if then["data"]:
        try:
            now["data"] = build.data_contents(experiment)
        except Exception as error:  # a source may be the user's own, and its data gone
            reason = visible(redact(str(error) or repr(error)))
            remarks.append(f"its data cannot be compared with those here ({reason})")
    return remarks + [f"made with {text}; rerun=true trains again" for text in others(then, now)]


def _work(experiment: Experiment, sweep: str | None, loaded: Loaded | None, stop: Stop | None) -> dict[str, Any]:
    folder, again = experiment.folder, experiment.config["rerun"]
    name_ineffective_keys([experiment])
    for line in ineffective_variables(experiment.config["wandb"]):
        _say_once(line)
    if again:
        saved = Saved()
        loaded = loaded or load(experiment)  # data that cannot be loaded must not cost the result that exists
        for text in others(folder.completed() or {}, {"data": loaded.data.contents}):
            log.warning("%s: the result that is replaced was made with %s", folder.path, text)
    else:
        folder.inspect()
        saved = recover(experiment)
    if saved.training is None:
        folder.clear()
    else:
        folder.begin()
    with logged_to(folder.log, loaded.records if loaded else ()):
        try:
            loaded = loaded or load(experiment)
            experiment.shards.world.first(saved)  # the others begin now, with what this one has found
            with _room(experiment):
                result = train(experiment, saved, loaded.data, sweep, loaded.seconds, stop)
        except TakenOverError:  # the folder is another process's
            raise
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


def _room(experiment: Experiment) -> AbstractContextManager[None]:
    """Wait for memory on a GPU that is shared with other jobs of a parallel sweep."""
    if JOBS not in os.environ or experiment.hardware.device.type != "cuda":
        return nullcontext()
    return gpu_memory.reserve(gpu_memory.earlier_peak(experiment), int(os.environ[JOBS]))


@cache
def _say_once(line: str) -> None:
    log.info("%s", line)


def _verdict(result: dict[str, Any]) -> str:
    key, median = task_named(result.get("task")).selection, f"median of last {min(LAST, result['epochs'])}"
    labels = {"last": "last epoch", "best_val": "best by validation", "median10": median}
    parts = [f"{label} {result['test'][name][key]:.4f}" for name, label in labels.items() if result["test"][name]]
    return f"test {key}: {', '.join(parts)}"
