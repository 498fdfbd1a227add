"""A power cut at any moment: a run that is completed then is whole, whatever the disk had not been waited for.

Every fsync, rename, link and removal of a real run and a real sweep is a moment. At each of them the disk is thought to
hold of every file what was in it at its last fsync, nothing if there was none, under the names of that moment; or under
the names that its folder had when that was fsynced itself.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vicinal.runs.folder import RunFolder, say
from vicinal.tracking.run_files import RunFiles

Train = Callable[..., tuple[int, str, str]]
State = dict[str, bytes]
"""{path of a file: content}."""

QUICK = (
    *("model=mlp", "model.hidden=[8]", "dataset.train_size=64", "dataset.val_size=20", "trainer.batch_size=32"),
    *("trainer.epochs=3", "trainer.precision=fp32", "trainer.threads=1", "trainer.checkpoint_every=1steps"),
    *("trainer.device=cpu", "wandb.mode=disabled"),
)
SEALED = ("config.yaml", "environment.json", "metrics.jsonl", "predictions.npz", "mixed.png", "checkpoint.pt")
MOMENTS = ("fsync", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")


class Disk:
    """What of a folder would be left after a power cut, at each moment since it is watched."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root.resolve()
        self.states: dict[tuple[tuple[str, int], ...], State] = {}
        self.moments = 0
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        for name in MOMENTS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            done = original(*arguments, **options)
            if name == "fsync":
                self._reached(Path(f"/proc/self/fd/{arguments[0]}").readlink())
            self._look()
            return done

        return watched

    def _reached(self, path: Path) -> None:
        about = path.stat()
        if path.is_dir():
            self._names[about.st_ino] = {each.name: each.inode() for each in os.scandir(path)}
        else:
            self._contents[about.st_ino] = path.read_bytes()

    def _look(self) -> None:
        files: dict[str, int] = {}
        folders = {str(self.root): self.root.stat().st_ino}
        waiting = list(folders)
        for folder in waiting:
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    folders[entry.path] = entry.inode()
                    waiting.append(entry.path)
                else:
                    files[entry.path] = entry.inode()
        there = {*files.values()}  # the number of a file that is gone is soon that of another
        self._contents = {inode: content for inode, content in self._contents.items() if inode in there}
        self.moments += 2
        for names in (files, self._durable(files, folders)):
            state = {name: self._contents.get(inode, b"") for name, inode in names.items()}
            self.states[tuple((name, id(content)) for name, content in sorted(state.items()))] = state

    def _durable(self, files: dict[str, int], folders: dict[str, int]) -> dict[str, int]:
        """Names that their folder and those above it had at their last fsync."""
        kept = {str(self.root)}
        for folder in sorted(folders):
            above, _, own = folder.rpartition("/")
            if above in kept and self._names.get(folders[above], {}).get(own) == folders[folder]:
                kept.add(folder)
        alive = {*files.values()}
        return {
            f"{folder}/{name}": inode
            for folder in kept
            for name, inode in self._names.get(folders[folder], {}).items()
            if inode in alive
        }


def whole(state: State, final: State, place: Path) -> tuple[int, int]:
    """Check the completed runs and the finished report of a state; how many there are."""
    folders = {name.removesuffix("/result.json") for name, content in state.items() if name.endswith("/result.json")}
    completed = 0
    for folder in folders:
        copy = RunFolder(place / Path(folder).name)
        copy.path.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "SHA256SUMS", *SEALED):
            file = copy.path / name
            file.unlink(missing_ok=True)
            if (content := state.get(f"{folder}/{name}")) is not None:
                file.write_bytes(content)
        say.cache_clear()
        if copy.completed() is not None:
            completed += 1
            assert copy.damage() == []
            for name in ("result.json", *SEALED):
                assert state[f"{folder}/{name}"] == final[f"{folder}/{name}"], f"{folder}/{name}"
    records = [name for name, content in state.items() if name.endswith("/report/report.json") and content]
    for record in records:
        for name in json.loads(state[record])["files"]:
            place_of = f"{record.rpartition('/')[0]}/{name}"
            assert state[place_of] == final[place_of], place_of
    return completed, len(records)


def cut(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, set[tuple[int, int]]]:
    """Train, cut at every moment; how many moments there were, and how much was found to be whole at them."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    with monkeypatch.context() as patch:
        disk = Disk(outputs, patch)
        assert train(*QUICK, *words)[0] == 0
    final = {str(path): path.read_bytes() for path in outputs.resolve().rglob("*") if path.is_file()}
    return disk.moments, {whole(state, final, tmp_path / "after") for state in disk.states.values()}


def test_a_completed_run_is_whole_after_a_power_cut_at_any_moment(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    moments, found = cut(train, tmp_path / "run", monkeypatch, f"output_dir={tmp_path / 'run/outputs'}")
    assert found == {(0, 0), (1, 0)}
    (tmp_path / "sweep").mkdir()
    words = ("mixup=none,cutmix", "seed=0,1", f"output_dir={tmp_path / 'sweep/outputs'}", "-m")
    more, found = cut(train, tmp_path / "sweep", monkeypatch, *words)
    assert found == {(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1)}
    assert moments + more >= 500


def test_what_is_not_waited_for_is_found(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice a file that is sealed before it is on the disk."""

    def lazy(tracker: RunFiles, rows: Any, step: int) -> None:
        tracker._folder.metrics.write_bytes(b"")

    monkeypatch.setattr(RunFiles, "restore", lazy)
    monkeypatch.setattr("vicinal.runs.folder.sync", lambda path: None)
    with pytest.raises(AssertionError, match=r"metrics\.jsonl is damaged"):
        cut(train, tmp_path, monkeypatch, f"output_dir={tmp_path / 'outputs'}")
