"""Folders of runs and sweeps that mean harm, before everything that reads them: no traceback, no hang, no wrong number,
and nothing outside is touched."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vicinal import build
from vicinal.analysis.compare import compare
from vicinal.analysis.load import load_runs
from vicinal.config.error_messages import explain, is_mistake
from vicinal.dashboards.sections import logged
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import dry_run
from vicinal.jobs.reproduce import original
from vicinal.jobs.run import run
from vicinal.jobs.stored_config import stored_config
from vicinal.launch.grid import Job, write_sweep
from vicinal.live import page as live_page
from vicinal.live.progress import Watch
from vicinal.report.html import page
from vicinal.report.report import finish
from vicinal.runs.folder import RunFolder, say
from vicinal.tracking.wandb.record import offline_records, worker
from vicinal.visualize.between import weights

from . import hostile
from .test_damaged_runs import CORRUPTIONS, FILES, VIEWS

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("VICINAL_FUZZ_FOLDERS", "200"))
"""1000 is the whole of it."""
SECONDS = 10
"""Of processor time that any reader has."""
QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "dataset.val_size=50", "trainer.batch_size=32"),
    *("trainer.epochs=2", "trainer.precision=fp32", "trainer.threads=1"),
)
Compose = Callable[..., Experiment]
Scores = dict[tuple[str, int], Any]


class HangError(BaseException):
    pass


@contextmanager
def in_time() -> Iterator[None]:
    """No longer than so much processor time; a wait, as for a pipe, ends too."""

    def stop(*_: object) -> None:
        raise HangError

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(20 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before:
            signal.signal(number, handler)


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """All that is in a folder: content, mode and time of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (content, about.st_mode, about.st_mtime_ns if path.is_file() else 0)
    return found


class Readers:
    """Everything that reads the folders of runs and sweeps, but what needs a network."""

    def __init__(self, experiments: list[Experiment], sweep: Path) -> None:
        self.experiments, self.sweep = experiments, sweep
        self.folder = experiments[0].folder

    def comparison(self) -> Scores:
        comparison = compare(load_runs(self.sweep))
        logged(run for cell in comparison.cells for run in cell.runs)
        return {
            (each.cell_id, each.seed): (each.val, each.test)
            for cell in comparison.cells
            for each in cell.runs
            if each.completed
        }

    def live(self) -> Scores:
        progress = Watch(self.sweep, {each.run_id: 2 for each in self.experiments}, ()).look(over=True)
        live_page.render(progress, self.sweep / "report/report.html", 10.0, over=True)
        runs = [job.run for job in progress.jobs if job.run.completed]
        return {(each.cell_id, each.seed): (each.val, each.test) for each in runs}

    def page(self) -> Scores:
        page.render(compare(load_runs(self.sweep)), self.sweep / "report/report.html")
        return {}

    def report(self) -> Scores:
        finish(self.sweep)
        return {}

    def dry_run(self) -> Scores:
        dry_run.describe(self.experiments[0])
        return {}

    def again(self) -> Scores:
        result = original(RunFolder(self.folder.path))
        return {(result["cell_id"], result["seed"]): (result["val"], result["test"])}

    def config(self) -> Scores:
        stored_config(self.folder.config, [])
        return {}

    def weights(self) -> Scores:
        weights(self.folder)
        return {}

    def sync(self) -> Scores:
        [worker(record.folder.parents[1]) for record in offline_records(self.sweep.parents[1])]
        return {}

    def train(self) -> Scores:
        result = run(self.experiments[0])
        return {(result["cell_id"], result["seed"]): (result["val"], result["test"])}

    def each(self, index: int, what: str) -> list[Callable[[], Scores]]:
        """Those that a case has to withstand; what takes long has its turn."""
        often = [self.comparison, self.live, self.dry_run, self.again, self.weights, self.sync]
        turns = {
            self.page: index % 5 == 0,
            self.config: index % 25 == 0 or "config.yaml" in what or "yaml" in what,
            self.report: index % 100 == 0 or what == "report_of_links",
            self.train: index % 3 == 0,
        }
        return [*often, *(reader for reader, now in turns.items() if now)]


def whole_sweep(compose: Compose) -> Readers:
    experiments = [compose(*QUICK, f"mixup={mixup}", f"seed={seed}") for mixup in ("input", "none") for seed in (0, 1)]
    for experiment in experiments:
        run(experiment)
    sweep = experiments[0].folder.path.parents[1] / "sweeps" / "mixup-0123456789"
    jobs = [Job((f"mixup={each.choices['mixup']}", f"seed={each.seed}"), each) for each in experiments]
    write_sweep(sweep, jobs)
    return Readers(experiments, sweep)


def damaged(readers: Readers, outside: Path, index: int) -> str:
    """Do one harm; its name."""
    chance = random.Random(index)
    if index % 4 == 3:
        file = readers.folder.path / chance.choice([name for name in (*FILES, *VIEWS) if "previous" not in name])
        corrupt = chance.choice(CORRUPTIONS)
        if file.stat().st_size:
            corrupt(file, readers.experiments[1].folder.path / file.name, chance)
        return f"{corrupt.__name__} of {file.name}"
    harm = hostile.HARMS[index % len(hostile.HARMS)]
    harm(readers.folder, outside, chance)
    return harm.__name__


def test_folders_that_mean_harm(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    readers = whole_sweep(compose)
    data = build.load_data(readers.experiments[0])
    monkeypatch.setattr(build, "load_data", lambda experiment: data)
    outputs, pristine, outside = readers.sweep.parents[1], tmp_path / "pristine", tmp_path / "outside"
    shutil.copytree(outputs, pristine)
    (outside / "folder").mkdir(parents=True)
    (outside / "secret.txt").write_text("precious")
    (outside / "folder" / "own.txt").write_text("precious too")
    right, before = readers.comparison(), tree(outside)
    assert len(right) == len(readers.experiments)
    failures = []
    for index in range(CASES):
        shutil.rmtree(outputs)
        shutil.copytree(pristine, outputs)
        say.cache_clear()
        what = damaged(readers, outside, index)
        forged = what in {each.__name__ for each in hostile.FORGED}
        for reader in readers.each(index, what):
            about = f"case {index}, {what}, {reader.__name__}"
            try:
                with in_time():
                    found = reader()
            except HangError:
                failures.append(f"{about}: longer than {SECONDS} s")
            except Exception as error:
                line = explain(error) if is_mistake(error) else ""
                if not line or "\n" in line:
                    failures.append(f"{about}: {type(error).__name__}: {error}"[:300])
            else:
                if not forged and any(scores != right.get(key) for key, scores in found.items()):
                    failures.append(f"{about}: wrong numbers")
            if (now := tree(outside)) != before:
                failures.append(
                    f"{about}: touched {[name for name in {*now, *before} if now.get(name) != before.get(name)]}"
                )
                before = now
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("link", ["report", "table.md"])
def test_a_report_is_written_through_no_link(compose: Compose, tmp_path: Path, link: str) -> None:
    readers = whole_sweep(compose)
    victim = tmp_path / "victim"
    (victim if link == "report" else tmp_path / "files").mkdir()
    report = readers.sweep / "report"
    if link == "report":
        report.symlink_to(victim)
        with pytest.raises(UserError, match="report: is a link"):
            finish(readers.sweep)
        assert list(victim.iterdir()) == []
        return
    victim.write_text("precious")
    report.mkdir()
    for name in ("table.md", "table.tex", "summary.csv", "notes.txt", "report.html", "cells.png"):
        (report / name).symlink_to(victim)
    finish(readers.sweep)
    assert victim.read_text() == "precious"
    assert [file.name for file in report.iterdir() if file.is_symlink()] == []
    assert (report / "table.md").read_text().startswith("top-1 accuracy in %")
