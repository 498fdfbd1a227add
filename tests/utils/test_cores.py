"""How many cores a process may use, and how its threads wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vicinal.utils import cores


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Eight cores, no limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    for name in cores.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_affinity_counts() -> None:
    assert cores.usable_cores() == 8


@pytest.mark.parametrize("name", ["SLURM_CPUS_PER_TASK", "VICINAL_CORES"])
@pytest.mark.parametrize(("value", "count"), [("3", 3), ("16", 8), ("0", 1), ("many", 8)])
def test_variables_count(monkeypatch: pytest.MonkeyPatch, name: str, value: str, count: int) -> None:
    monkeypatch.setenv(name, value)
    assert cores.usable_cores() == count
    assert cores.is_shared() is (name == "VICINAL_CORES")


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"a/b": "200000 100000"}, 2),
        ({"a/b": "max 100000", "a": "350000 100000"}, 3),
        ({"": "50000 100000"}, 1),
        ({"a/b": "max 100000"}, 8),
        ({"a/b": "nonsense"}, 8),
        ({"elsewhere": "100000 100000"}, 8),
    ],
)
def test_cgroups_of_version_2_count(tmp_path: Path, limits: dict[str, str], count: int) -> None:
    (tmp_path / "own").write_text("0::/a/b\n")
    for folder, content in limits.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(content)
    assert cores.usable_cores() == count


@pytest.mark.parametrize("mounted", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "count"), [("250000", 2), ("-1", 8), ("1000", 1)])
def test_cgroups_of_version_1_count(tmp_path: Path, mounted: str, quota: str, count: int) -> None:
    (tmp_path / "own").write_text("4:memory:/other\n3:cpu,cpuacct:/docker/7b\n0::/\n")
    folder = tmp_path / mounted / "docker"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert cores.usable_cores() == count
