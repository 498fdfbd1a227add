"""The jobs of a running sweep as they are printed: all of them, or those that there is room for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vicinal.live.progress import Job, Progress

from ..following import EPOCHS, printed, watch, worked_on


def test_the_table_says_of_every_job_what_its_folder_says(sweep: Path, grid: dict[str, Path]) -> None:
    with worked_on(grid["running"]):
        progress = watch(sweep).look()
    assert [row[:-1] for row in printed(progress)] == [
        ["none", "-", "0", "completed", "4/4", "0.5000"],
        ["none", "-", "1", "failed", "0/4", "–"],
        ["input", "0.2", "0", "running", "2/4", "0.5000"],
        ["input", "0.2", "1", "stopped", "1/4", "0.2500"],
        ["input", "0.4", "0", "planned", "0/4", "–"],
    ]
    assert [row[-1] for row in printed(progress)] == ["–", "–", "20 s", "30 s", "28 s"]


def test_where_there_is_no_room_those_under_way_and_those_that_failed_are_shown(sweep: Path, runs: Any) -> None:
    progress = watch(sweep).look()
    jobs = [*progress.jobs * 3, Job(progress.jobs[0].run, progress.jobs[0].values, EPOCHS)]
    shown = printed(Progress("many", progress.swept, jobs, 0.0), height=16)
    assert [row[3] for row in shown] == ["failed", "stopped", "stopped"] * 3
