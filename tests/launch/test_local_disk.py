"""Types of file systems by the kernel's table, and the warning before jobs are submitted to other nodes."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from hydra_plugins.vicinal_slurm import warn_of_local_disk
from vicinal.launch import local_disk
from vicinal.launch.local_disk import local_type

TABLE = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
30 22 0:26 / /tmp rw,nosuid - tmpfs tmpfs rw,size=100k
31 22 0:30 / /home rw shared:9 master:1 - nfs4 server:/home rw,vers=4.2
32 31 0:31 / /home/me/my\\040disk rw - xfs /dev/sdb rw
33 22 0:40 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw,flock
34 33 0:41 / /scratch rw - beegfs beegfs_nodev rw
35 22 0:42 / /scratched rw - btrfs /dev/sdc rw
half a line
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(local_disk, "MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv/outputs", "ext4"),
        ("/tmp/outputs", "tmpfs"),
        ("/tmpfiles", "ext4"),
        ("/home/me/outputs", ""),
        ("/home/me/my disk/outputs", "xfs"),
        ("/scratch/me/not/yet/there", ""),  # the upper of two
        ("/scratched", "btrfs"),
    ],
)
def test_the_deepest_mount_decides(table: None, path: str, kind: str) -> None:
    assert local_type(Path(path)) == kind


def test_it_is_what_findmnt_says(tmp_path: Path) -> None:
    if shutil.which("findmnt") is None:
        pytest.skip("needs findmnt")
    command = ["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(tmp_path)]
    kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
    assert local_type(tmp_path) == (kind if kind in local_disk.LOCAL else "")


def test_without_a_table_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_disk, "MOUNTS", tmp_path / "none")
    assert local_type(Path("/")) == ""


def test_jobs_for_other_nodes_are_warned_of_a_local_disk(table: None, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_local_disk(Path("/tmp/outputs"))
    assert caplog.record_tuples == [
        (
            "hydra_plugins.vicinal_slurm",
            logging.WARNING,
            "output_dir=/tmp/outputs is on a file system of this machine alone (tmpfs): jobs on other nodes need one "
            "that all share",
        )
    ]
    caplog.clear()
    warn_of_local_disk(Path("/home/me/outputs"))
    assert caplog.messages == []
