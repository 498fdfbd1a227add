"""Rows that are made once: what a killed process has made is kept, one process makes them, and a full disk is said."""

import os
import re
import signal
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

from vicinal.data import row_files
from vicinal.data.row_files import RowFiles

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": "."}
COUNTS, SHAPE = {"train": 40, "test": 7}, (2, 3, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Four rows per chunk."""
    monkeypatch.setattr(row_files, "CHUNK_BYTES", 4 * prod(SHAPE))


def numbered(part: str, start: int, stop: int) -> np.ndarray:
    """Row i of a part has its number in all places, and 100 more in the test part."""
    values = np.arange(start, stop, dtype=np.uint8) + (100 if part == "test" else 0)
    return np.broadcast_to(values[:, None, None, None], (stop - start, *SHAPE)).copy()


def files(folder: Path) -> RowFiles:
    return RowFiles(folder / "rows", COUNTS, SHAPE, "rows")


def made(folder: Path, threads: int = 2) -> tuple[dict[str, torch.Tensor], list[tuple[str, int]]]:
    """The rows, and the chunks that were made now."""
    calls = []

    def make(part, start, stop):
        calls.append((part, start))
        return numbered(part, start, stop), True

    return files(folder).make(make, lambda: {"found": 3}, threads).rows, calls


def test_rows_are_what_was_made(tmp_path):
    assert files(tmp_path).load() is None
    rows, calls = made(tmp_path)
    assert len(calls) == 12
    for part, count in COUNTS.items():
        assert torch.equal(rows[part], torch.from_numpy(numbered(part, 0, count)))
    stored = files(tmp_path).load()
    assert stored.note == {"found": 3}
    assert all(torch.equal(stored.rows[part], rows[part]) for part in COUNTS)
    assert made(tmp_path)[1] == []  # another process has made them meanwhile


def test_mapped_rows_can_be_changed_in_memory_alone(tmp_path):
    rows, _ = made(tmp_path)
    rows["train"].fill_(9)
    assert files(tmp_path).load().rows["train"][5].unique().tolist() == [5]


KILLED = """
import sys, os, signal
from pathlib import Path
from vicinal.data import row_files
import tests.data.test_row_files as ours
row_files.CHUNK_BYTES = 24
def make(part, start, stop):
    if start == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return ours.numbered(part, start, stop), start != 8
ours.files(Path(sys.argv[1])).make(make, dict, 1)
"""


def test_what_a_killed_process_has_made_is_kept(tmp_path):
    """Chunks that were not final, and one that is damaged meanwhile, are made again."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, env=ENVIRONMENT)
    assert killed.returncode == -signal.SIGKILL
    assert files(tmp_path).load() is None
    assert files(tmp_path).progress() == pytest.approx(4 / 12)
    assert files(tmp_path).missing() < files(tmp_path).bytes == 47 * prod(SHAPE)
    with files(tmp_path).file("train").open("r+b") as stream:
        stream.seek(12 * prod(SHAPE))
        stream.write(b"\xff")
    rows, calls = made(tmp_path)
    assert sorted(start for part, start in calls if part == "train") == [8, 12, *range(20, 40, 4)]
    assert torch.equal(rows["train"], torch.from_numpy(numbered("train", 0, 40)))


def test_what_was_found_has_a_checksum_too(tmp_path, caplog):
    made(tmp_path)
    index = tmp_path / "rows/index.json"
    index.write_text(index.read_text().replace('"found": 3', '"found": 2'))
    assert files(tmp_path).load() is None
    assert caplog.messages == [f"{tmp_path}/rows is damaged and is made again (wrong checksum in index.json)"]


def test_rows_that_have_become_longer_are_made_again_once(tmp_path):
    made(tmp_path)
    with files(tmp_path).file("train").open("ab") as stream:
        stream.write(b"more")
    assert len(made(tmp_path)[1]) == 12
    os.utime(files(tmp_path).file("train"))
    assert made(tmp_path)[1] == []
    assert files(tmp_path).file("train").stat().st_size == 40 * prod(SHAPE)


WAITS = """
import sys, logging
from pathlib import Path
from vicinal.data import row_files
import tests.data.test_row_files as ours
row_files.CHUNK_BYTES, row_files.SAY_SECONDS = 24, 0.2
logging.basicConfig(level="INFO", format="%(message)s")
def make(part, start, stop):
    raise ValueError("nothing is left to make")
print(ours.files(Path(sys.argv[1])).make(make, dict, 1).note)
"""


def test_one_process_makes_them_and_another_waits(tmp_path):
    waiting = []

    def make(part, start, stop):
        if (part, start) == ("train", 20):
            command, pipe = [sys.executable, "-u", "-c", WAITS, str(tmp_path)], subprocess.PIPE
            waiting.append(subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=pipe, stdout=pipe))
            said = waiting[0].stderr.readline().decode()
            assert re.fullmatch(r"waiting for another process, which makes rows: 42 %\n", said)
        return numbered(part, start, stop), True

    files(tmp_path).make(make, lambda: "made", 1)
    out, err = waiting[0].communicate(timeout=60)
    assert (waiting[0].returncode, out) == (0, b"made\n"), err


def test_an_error_leaves_nothing(tmp_path):
    def make(part, start, stop):
        raise ValueError("a bad file")

    with pytest.raises(ValueError, match="a bad file"):
        files(tmp_path).make(make, dict, 2)
    assert not (tmp_path / "rows").exists()


def test_progress_is_said(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(row_files, "SAY_SECONDS", 0.0)
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    made(tmp_path, threads=1)
    assert caplog.messages[0] == "rows: 9 %, 32 s left"
