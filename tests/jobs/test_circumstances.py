"""Whatever the system says of a run's folder is one line that names the file, exit code 1, and no traceback."""

import errno
import os
import platform
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.runs import files
from vicinal.runs.folder import RunFolder
from vicinal.runs.run_lock import LOCK
from vicinal.training.learner import Learner

Train = Callable[..., tuple[int, str, str]]
QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "trainer.batch_size=32", "trainer.epochs=2"),
    *("trainer.precision=fp32", "trainer.threads=1", "trainer.device=cpu", "wandb.mode=disabled", "output_dir=outputs"),
)


def only_folder(outputs: Path) -> RunFolder:
    [path] = (outputs / "runs").iterdir()
    return RunFolder(path)


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_the_output_goes_away_while_it_trains(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    step, outputs, seen = Learner.step, tmp_path / "outputs", []

    def last(learner: Learner, *arguments: Any) -> Any:
        if not seen:
            seen.append(only_folder(outputs))
            shutil.rmtree(outputs) if how == "removed" else outputs.rename(tmp_path / "elsewhere")
        return step(learner, *arguments)

    monkeypatch.setattr(Learner, "step", last)
    code, out, err = train(*QUICK)
    # The mixed images of the first batches are what is written next.
    assert (code, err) == (1, f"error: output_dir=outputs: {seen[0].mixed}: No such file or directory\n")
    assert "Traceback" not in out
    assert not outputs.exists()
    if how == "moved":
        assert (tmp_path / "elsewhere/runs" / seen[0].path.name / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("n" * 300, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("file/below", "must be a folder, and {tmp_path}/file is a file"),
    ],
)
@pytest.mark.parametrize("sweep", [False, True])
def test_places_that_cannot_be(train: Train, tmp_path: Path, name: str, says: str, sweep: bool) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    before = {path.name for path in tmp_path.iterdir()}
    code, out, err = train(*QUICK[:-1], f"output_dir={name}", *(["seed=0,1", "-m"] if sweep else []))
    [line] = err.splitlines()
    assert code == 1
    assert line.startswith("error: ")
    assert name in line
    assert line.endswith((f": {says.format(tmp_path=tmp_path)}", ": File exists"))
    assert "Traceback" not in out
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EPIPE, errno.ETIMEDOUT, errno.EFBIG, errno.ENXIO, errno.EBADF])
def test_any_error_of_the_disk(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(descriptor: int) -> None:
        if "checkpoint" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fsync)
    code, _, err = train(*QUICK)
    file = only_folder(tmp_path / "outputs").checkpoint
    assert (code, err) == (1, f"error: output_dir=outputs: {file}: {os.strerror(number)}\n")
    monkeypatch.undo()
    assert not list(file.parent.glob("*.partial"))


def test_a_limit_of_the_size_of_files(train: Train, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        code, _, err = train(*QUICK, "model.hidden=[1024]")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert err == f"error: output_dir=outputs: {only_folder(tmp_path / 'outputs').checkpoint}: File too large\n"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    code, _, err = train(*QUICK)
    assert (code, err) == (
        1,
        f"error: {only_folder(tmp_path / 'outputs').path}: no file can be locked here ({os.strerror(number)}); it has "
        "to be mounted with -o flock (Lustre), or without nolock and with its lock daemon (NFS)\n",
    )


def test_a_run_is_not_trained_through_a_link(train: Train, tmp_path: Path) -> None:
    """A training empties its folder, which a link could have be anybody's."""
    assert train(*QUICK)[0] == 0
    run = only_folder(tmp_path / "outputs")
    run.path.rename(tmp_path / "own")
    run.path.symlink_to(tmp_path / "own")
    before = sorted((tmp_path / "own").iterdir())
    assert train(*QUICK)[0] == 0  # what is there can be read
    code, _, err = train(*QUICK, "rerun=true")
    assert (code, err) == (1, f"error: {run.path}: is a link; a run is trained in a folder of its own\n")
    assert sorted((tmp_path / "own").iterdir()) == before


@pytest.mark.parametrize("kind", ["link", "second name"])
def test_a_lock_that_is_somebody_elses_file(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    lock = run / LOCK
    lock.symlink_to(precious) if kind == "link" else os.link(precious, lock)
    about = precious.stat()
    assert RunFolder(run).locked() is None
    with RunFolder(run).lock(wait=False):
        assert RunFolder(run).locked() == f"process {os.getpid()} on {platform.node()}"
    assert "set aside as .lock.damaged, and another one is used" in caplog.text
    assert precious.read_text() == "precious"
    assert (precious.stat().st_mode, precious.stat().st_mtime_ns) == (about.st_mode, about.st_mtime_ns)


def test_looking_at_a_lock_changes_nothing(tmp_path: Path) -> None:
    for text in ("", "somebody's"):
        (tmp_path / LOCK).write_text(text)
        before = (tmp_path / LOCK).stat()
        assert RunFolder(tmp_path).locked() is None
        after = (tmp_path / LOCK).stat()
        assert (after.st_size, after.st_mtime_ns, after.st_mode) == (before.st_size, before.st_mtime_ns, before.st_mode)
    assert RunFolder(tmp_path / "none").locked() is None
    assert not (tmp_path / "none").exists()
