"""A disk that is full or read-only: one line that names the file, and nothing is lost."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vicinal.config.error_messages import explain, is_mistake
from vicinal.runs import checkpoint
from vicinal.runs.folder import RunFolder
from vicinal.tracking.run_files import TIME_FIELDS, RunFiles

from .. import forked

Train = Callable[..., tuple[int, str, str]]

QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "trainer.batch_size=32", "trainer.epochs=4"),
    *("trainer.precision=fp32", "trainer.threads=1", "wandb.mode=disabled"),
)

FILLING = """
import pathlib, sys
from vicinal.cli.train import main
from vicinal.runs import checkpoint

place, moment = sys.argv[1:3]
del sys.argv[1:3]

def fill():
    with pathlib.Path(place).open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

keep, calls = checkpoint.keep, []

def counted(*arguments):
    keep(*arguments)
    calls.append(1)
    if len(calls) == 3:
        fill()

if moment == "start":
    fill()
else:  # the checkpoint before the last is gone, and the third epoch's is to be written
    checkpoint.keep = counted
main()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "vicinal-test", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here: {error}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def run(*words: str) -> tuple[int, str, str]:
    done = forked.run(words)
    return done.returncode, done.stdout, done.stderr


def weights(folder: RunFolder) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in checkpoint.load(folder.checkpoint)["model"].items()}


def rows(folder: RunFolder) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in folder.rows()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "file", "left"),
    [("start", "config.yaml", 0), ("training", "checkpoint.pt", 2)],
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    disk: Path, tmp_path: Path, train: Train, moment: str, file: str, left: int
) -> None:
    words = (*QUICK, f"output_dir={disk / 'outputs'}")
    command = [sys.executable, "-c", FILLING, str(disk / "filler"), moment, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    (folder,) = map(RunFolder, (disk / "outputs/runs").iterdir())
    line = f"error: {words[-1]}: {folder.path / file}: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert "Traceback" not in done.stdout
    assert not list(folder.path.glob("*.partial"))
    assert folder.completed() is None

    (disk / "filler").unlink()
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert f"going on in epoch {left + 1}" in out or not left
    assert train(*QUICK, f"output_dir={tmp_path / 'whole'}")[0] == 0
    whole = RunFolder(next((tmp_path / "whole/runs").iterdir()))
    assert folder.damage() == []
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


def test_a_line_without_room() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    folder = RunFolder(Path("/dev"))
    folder.metrics = full
    with pytest.raises(OSError, match="No space left") as error:
        RunFiles(folder).epoch({"epoch": 1})
    assert is_mistake(error.value)
    assert explain(error.value) == "/dev/full: No space left on device"


@pytest.mark.slow
def test_a_read_only_disk(disk: Path) -> None:
    words = (*QUICK, f"output_dir={disk / 'outputs'}")
    assert run(*words)[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, out, err = run(*words)  # nothing has to be written to use what is there
    assert (code, err) == (0, "")
    assert out.startswith("already completed: ")
    code, out, err = run(*words, "seed=1")
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith(f"error: output_dir={disk / 'outputs'}: {disk / 'outputs/runs'}/")
    assert line.endswith(": Read-only file system")
    assert "Traceback" not in out


def test_output_folders_that_are_files(train: Train, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("in the way")
    code, _, err = train(*QUICK, "output_dir=outputs")
    assert (code, err) == (1, f"error: output_dir=outputs: must be a folder, and {tmp_path / 'outputs'} is a file\n")
    assert (tmp_path / "outputs").read_text() == "in the way"
