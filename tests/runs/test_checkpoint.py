"""A checkpoint file: whole or not at all, the same bytes for the same content, and never believed when damaged."""

import errno
import io
import json
import os
import random
import subprocess
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError, sha256


def content(number: float = 0.0) -> dict[str, Any]:
    """Everything of the kinds that a training's state is made of."""
    return {
        "run_id": "c0ffee-s0",
        "model": OrderedDict(weight=torch.full((4, 3, 2, 2), number).to(memory_format=torch.channels_last)),
        "half": torch.arange(5).to(torch.bfloat16),
        "stream": torch.Generator().manual_seed(3).get_state(),
        "milestones": Counter([30, 60]),
        "nothing": torch.zeros(0),
        "scalar": torch.tensor(True),
        "lr": 0.1,
        "betas": (0.9, 0.999),
        "best": None,
        "rows": [{"epoch": 1, "val/acc1": 0.5}],
    }


def assert_equal(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_equal(ours[key], theirs[key])
    else:
        assert ours == theirs


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, content(0.1))
    assert_equal(checkpoint.load(file), content(0.1))
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_torch_alone_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, content(0.1))
    assert_equal(torch.load(file, weights_only=True), content(0.1))
    assert_equal(torch.load(file, weights_only=True, mmap=True), content(0.1))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.comment.decode() == sha256(file.read_bytes()[:-64])


def test_equal_contents_have_equal_bytes(tmp_path: Path) -> None:
    """Also when one went through a file: the same strings, but not the same string objects."""
    first, second, third = (tmp_path / name for name in ("first.pt", "second.pt", "third.pt"))
    checkpoint.save(first, content())
    checkpoint.save(second, checkpoint.load(first))
    checkpoint.save(third, content())
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    checkpoint.save(third, content(1.0))
    assert first.read_bytes() != third.read_bytes()


def test_equal_contents_have_equal_bytes_whoever_holds_the_names(tmp_path: Path) -> None:
    """A parameter of the outermost module has one name object in all state dicts; loaded from a file it has several."""
    model = torch.nn.Linear(2, 1)
    weights, best = model.state_dict(), {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.save(tmp_path / "first.pt", {"model": weights, "best": best})
    loaded = checkpoint.load(tmp_path / "first.pt")
    other = {bytes(name, "ascii").decode(): value for name, value in loaded["best"].items()}
    checkpoint.save(tmp_path / "second.pt", {"model": model.state_dict(), "best": other})
    assert (tmp_path / "first.pt").read_bytes() == (tmp_path / "second.pt").read_bytes()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, bytes]:
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, content())
    return file, file.read_bytes()


def test_every_flipped_bit_is_noticed(saved: tuple[Path, bytes]) -> None:
    file, data = saved
    draw = random.Random(0)
    positions = [*draw.sample(range(len(data)), 300), 0, len(data) - 1, len(data) - 64, len(data) - 65]
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(DamagedError, match="its checksum is wrong"):
            checkpoint.load(file)


def test_every_truncation_is_noticed(saved: tuple[Path, bytes]) -> None:
    file, data = saved
    for length in range(0, len(data), 7):
        file.write_bytes(data[:length])
        with pytest.raises(DamagedError, match="its checksum is wrong"):
            checkpoint.load(file)
    for longer in (b"\0", b"\n", data):
        file.write_bytes(data + longer)
        with pytest.raises(DamagedError, match="its checksum is wrong"):
            checkpoint.load(file)


@pytest.mark.parametrize("foreign", ["text", "checksummed text", "plain torch.save", "zeros"])
def test_a_file_that_somebody_else_wrote_is_damaged(tmp_path: Path, foreign: str) -> None:
    file, buffer = tmp_path / "checkpoint.pt", io.BytesIO()
    torch.save(content(), buffer)
    text = b"not a checkpoint"
    data = {
        "text": text,
        "checksummed text": text + sha256(text).encode(),
        "plain torch.save": buffer.getvalue(),
        "zeros": bytes(10_000),
    }
    file.write_bytes(data[foreign])
    with pytest.raises(DamagedError):
        checkpoint.load(file)


def test_no_file_is_not_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "checkpoint.pt")


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    file, copy = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    for number in (0.0, 1.0, 2.0):
        if file.exists():
            checkpoint.keep(file, copy)
        checkpoint.save(file, content(number))
    assert_equal(checkpoint.load(file), content(2.0))
    assert_equal(checkpoint.load(copy), content(1.0))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_the_one_before_is_kept_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    test_the_one_before_is_kept(tmp_path)


class Stop(BaseException):
    pass


MOMENTS = ("link", "copy2", "fsync", "replace", "unlink")


@pytest.mark.parametrize("links", [True, False], ids=["hard-links", "copies"])
def test_there_is_no_moment_without_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Every call that touches the disk is, in turn, the last one before the machine stops."""
    file, copy = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    left = 0
    calls: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **keys: Any) -> Any:
            nonlocal left
            calls.append(name)
            left -= 1
            if left == 0:
                raise Stop
            if name == "link" and not links:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return original(*args, **keys)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in ((os, "link"), (os, "fsync"), (Path, "replace"), (Path, "unlink"), (checkpoint.shutil, "copy2")):
        watch(owner, name)
    stopped = 0
    for moment in range(1, 20):
        for old in (file, copy):
            if old.exists():
                old.unlink()
        checkpoint.save(file, content(1.0))
        checkpoint.keep(file, copy)
        checkpoint.save(file, content(2.0))
        calls.clear()
        left = moment
        try:
            checkpoint.keep(file, copy)
            checkpoint.save(file, content(3.0))
        except Stop:
            stopped += 1
        else:
            break
        left = 0
        assert checkpoint.load(file)["model"]["weight"].mean() in (2.0, 3.0)
        assert checkpoint.load(copy)["model"]["weight"].mean() in (1.0, 2.0)
    # unlink a leftover, link (or copy), rename; unlink a leftover, fsync, rename, fsync of the folder
    assert stopped == len(calls) == (7 if links else 8)
    left = 0
    assert (checkpoint.load(file)["model"]["weight"].mean(), checkpoint.load(copy)["model"]["weight"].mean()) == (3, 2)


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((target.name, target.stat().st_size if target.is_file() else 0))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, content())
    assert synced == [(f"checkpoint.pt.{os.getpid()}.partial", file.stat().st_size), (tmp_path.name, 0)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "vicinal-test", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here: {error}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_leaves_the_old_one(disk: Path) -> None:
    file, copy = disk / "checkpoint.pt", disk / "checkpoint.previous.pt"
    checkpoint.save(file, content())
    before = file.read_bytes()
    checkpoint.keep(file, copy)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(file, content() | {"large": torch.zeros(2**16)})
    assert file.read_bytes() == copy.read_bytes() == before
    assert sorted(each.name for each in disk.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    checkpoint.save(file, content(1.0))  # and what fits can still be written
    assert_equal(checkpoint.load(file), content(1.0))


def test_a_read_only_disk_leaves_the_old_one(disk: Path) -> None:
    file = disk / "checkpoint.pt"
    checkpoint.save(file, content())
    before = file.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        checkpoint.save(file, content(1.0))
    assert file.read_bytes() == before


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """A checksum is no signature: whoever can write the file can write that too."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return json.loads, ("[]",)

    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, {"run_id": Evil()})
    with pytest.raises(DamagedError):
        checkpoint.load(file)


def test_a_copy_has_the_bytes_of_its_moment(tmp_path: Path) -> None:
    """Whatever is changed afterwards: tensors in place, containers too; tensors share memory as before."""
    weights = torch.arange(12.0).view(3, 4)
    state = {**content(), "tied": [weights, weights.T, weights[1:, ::2], weights], "step": torch.tensor(3)}
    then, later = tmp_path / "then.pt", tmp_path / "later.pt"
    checkpoint.save(then, state)
    copied = checkpoint.copied(state)
    first, turned, part, again = copied["tied"]
    assert len({each.untyped_storage().data_ptr() for each in (first, turned, part, again)}) == 1
    assert first.data_ptr() != weights.data_ptr()
    for tensor in (weights, state["model"]["weight"], state["half"], state["stream"], state["step"]):
        tensor.zero_()
    state["rows"][0]["epoch"] = 2
    state["rows"].append({"epoch": 3})
    checkpoint.save(later, copied)
    assert later.read_bytes() == then.read_bytes()
