"""Which edits make a completed run one of other code: those of files that compute, in the package or out of it."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vicinal.experiment import Experiment
from vicinal.job import reservations, run
from vicinal.runs import source

Compose = Callable[..., Experiment]
TINY = ("model=mlp", "model.hidden=[8]", "dataset.train_size=60", "dataset.val_size=20", "trainer.epochs=1")
FADE = '''
from vicinal.mixing import InputMixup

class Fade(InputMixup):
    """As input mixup."""
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files are hashed as they are at this moment."""
    monkeypatch.chdir(tmp_path)
    source.sources.cache_clear()
    yield
    source.sources.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like ours, of which files can be edited."""
    folder = tmp_path / "vicinal"
    for name in ("mixing/laws.py", "mixing/strategies.py", "training/loop.py", "data/store.py", "models/deep/net.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("value = 1\n")
    for name in ("components.py", "experiment.py", "session.py", "job.py"):
        (folder / name).write_text("value = 1\n")
    for name in ("sweeps/tables.py", "tracking/console.py", "dashboards/build.py", "benchmarks/steps.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("value = 1\n")
    monkeypatch.setattr(source, "PACKAGE", folder)
    return folder


@pytest.mark.parametrize(("file", "counts"), [
    ("mixing/laws.py", True), ("mixing/strategies.py", True), ("training/loop.py", True), ("data/store.py", True),
    ("models/deep/net.py", True), ("components.py", True), ("experiment.py", True), ("session.py", True),
    ("sweeps/tables.py", False), ("tracking/console.py", False), ("dashboards/build.py", False),
    ("benchmarks/steps.py", False), ("job.py", False), ("mixing/README.md", False),
])  # fmt: skip
def test_an_edit_counts_where_it_can_change_a_number(package: Path, file: str, counts: bool) -> None:
    before = source.sources()
    (package / file).write_text("value = 2\n")
    source.sources.cache_clear()
    after = source.sources()
    assert source.changed(before, after) == (f"vicinal/{file}" if counts else "")
    assert (source.digest(before) != source.digest(after)) is counts


def test_a_new_file_and_one_that_is_gone_are_named_and_the_rest_is_counted(package: Path) -> None:
    before = source.sources()
    (package / "mixing/new.py").write_text("")
    (package / "data/store.py").unlink()
    source.sources.cache_clear()
    assert source.changed(before, source.sources()) == "vicinal/data/store.py, vicinal/mixing/new.py"
    many = {f"{name}.py": "0" for name in "abcdef"}
    assert source.changed({}, many) == "a.py, b.py, c.py, d.py and 2 more"


@pytest.fixture
def fade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A strategy outside of the package."""
    file = tmp_path / "fade_of_a_test.py"
    file.write_text(FADE)
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("fade_of_a_test", None)


def test_a_completed_run_says_that_the_code_was_edited(compose: Compose, fade: Path) -> None:
    words = (*TINY, "mixup=input", "mixup._target_=fade_of_a_test.Fade")
    experiment = compose(*words)
    result = run(experiment)
    recorded = json.loads(experiment.folder.environment.read_bytes())
    assert "fade_of_a_test.py" in recorded["sources"]
    assert "vicinal/mixing/strategies.py" in recorded["sources"]
    assert not any(name.startswith("torch") for name in recorded["sources"])
    assert recorded["source"] == source.digest(recorded["sources"])
    assert reservations(experiment, result) == []
    fade.write_text(FADE + "    strength = 2\n")
    source.sources.cache_clear()
    importlib.invalidate_caches()
    again = compose(*words)
    assert again.run_id == experiment.run_id
    said = "made with other code (fade_of_a_test.py); rerun=true trains it again"
    assert reservations(again, result) == [f"{again.folder.path}: {said}"]
    rerun = compose(*words, "rerun=true")
    assert reservations(compose(*words), run(rerun)) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"source": "0"}', b'{"sources": 3}', b'{"sources": ["a"]}', b"\xff"])
def test_a_run_that_does_not_say_its_code_is_not_judged(compose: Compose, content: bytes) -> None:
    folder = compose(*TINY).folder
    assert folder.sources() == {}
    folder.path.mkdir(parents=True)
    folder.environment.write_bytes(content)
    assert folder.sources() == {}
