"""Streams that cannot be written to: the work goes on, is whole, and its exit code says what came of it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vicinal.utils import output

ROOT = Path(__file__).parents[2]


# A stream


def test_a_closed_pipe_raises_nothing_and_is_said_once() -> None:
    reader, writer = os.pipe()
    stream = output.stream(writer, "utf-8", "the pipe")
    print("heard", file=stream)
    assert os.read(reader, 100) == b"heard\n"
    os.close(reader)
    for _ in range(3):
        print("lost", file=stream)
    [line] = [line for line in output.lost() if line.startswith("the pipe")]
    assert line.endswith(": Broken pipe")
    os.close(writer)


def test_a_full_disk_raises_nothing_however_much_is_written() -> None:
    with Path("/dev/full").open("wb") as full:
        stream = output.stream(full.fileno(), "utf-8", "the disk")
        assert stream.write("x" * 100_000) == 100_000
        stream.flush()
        assert [line.rpartition(": ")[2] for line in output.lost() if "the disk" in line] == ["No space left on device"]


def test_all_of_a_long_text_arrives(tmp_path: Path) -> None:
    text = "".join(f"{number} ± \n" for number in range(5000))
    with (tmp_path / "file").open("wb") as file:
        stream = output.stream(file.fileno(), "utf-8", "the file")
        stream.write(text)
        stream.flush()
    assert (tmp_path / "file").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", rb"97.5 +- 0.4 - \u4f60 \udcff"), ("latin-1", b"97.5 \xb1 0.4 - \\u4f60 \\udcff")],
)
def test_what_an_encoding_lacks_is_spelled(tmp_path: Path, encoding: str, shown: bytes) -> None:
    text = "97.5 ± 0.4 – \u4f60 \udcff"  # the last one is of a file's name that is no UTF-8
    with (tmp_path / "file").open("wb") as file:
        print(text, file=output.stream(file.fileno(), encoding, "the file"))
    assert (tmp_path / "file").read_bytes() == shown + b"\n"
    assert output.printable(text, encoding) == shown.decode(encoding)
    assert output.printable("a\x1b[2Jb\n", encoding) == r"a\x1b[2Jb\n"


def test_beside_a_training_a_reader_that_stands_still_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.2)
    reader, writer = os.pipe()
    stream = output.stream(writer, "utf-8", "the pager")
    with output.hurried():
        for number in range(20_000):
            print(f"line {number:>10}", file=stream)
        assert [line for line in output.lost() if line.endswith("its reader took nothing for 0.2 s")]
        while len(os.read(reader, 65536)) == 65536:  # until it is empty
            pass
        print("heard again", file=stream)
        assert os.read(reader, 100) == b"heard again\n"
    os.close(reader)
    os.close(writer)


LEFT = "import sys; from vicinal.utils import output; output.steady(); output.steady(); print('said'); "


@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full", ">/dev/full 2>&1"])
def test_closed_and_full_streams_leave_the_exit_code_and_the_files_of_others_alone(
    tmp_path: Path, redirections: str
) -> None:
    program = f"{LEFT} file = open('mine', 'wb'); print('no more of this'); sys.stderr.write('nor this'); "
    program += "sys.stdout.flush(); file.write(b'whole'); file.close(); assert file.name == 'mine'; sys.exit(7)"
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, program]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 7
    assert (tmp_path / "mine").read_bytes() == b"whole"
    assert b"Traceback" not in ended.stdout + ended.stderr
    assert b"Exception ignored" not in ended.stderr


def test_a_stream_that_is_captured_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = io.StringIO()
    monkeypatch.setattr(sys, "stdout", captured)
    output.steady()
    assert sys.stdout is captured


# A training


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_a_sweep_without_a_reader_in_an_ascii_terminal_is_whole(tmp_path: Path, launcher: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = ["optimizer.lr=0.1,1e30", f"hydra/launcher={launcher}", "wandb.mode=disabled", "trainer.epochs=2"]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *words, "dataset.train_size=100", "-m"],
            cwd=tmp_path, stdout=writer, stderr=full, env=os.environ | ascii_only, timeout=300, check=False,
        )  # fmt: skip
    os.close(writer)
    assert ended.returncode == 1  # of the job that diverged, and not of the pipe
    results = [json.loads(file.read_bytes()) for file in tmp_path.glob("outputs/runs/*/result.json")]
    assert sorted(result["status"] for result in results) == ["completed", "failed"]
    for log in tmp_path.glob("outputs/runs/*/train.log"):
        assert "standard output is incomplete since" in log.read_text("utf-8")
        assert "Broken pipe" in log.read_text("utf-8")
    [report] = tmp_path.glob("outputs/sweeps/*/report")
    assert "mean ± std over n seeds" in (report / "table.md").read_text("utf-8")
    assert {"report.html", "report.json", "summary.csv", "table.tex"} <= {file.name for file in report.iterdir()}
