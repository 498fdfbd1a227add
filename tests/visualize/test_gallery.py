"""The gallery: its page shows what its command makes, and what the README says can be typed."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vicinal.config.schema import CONF
from vicinal.visualize import boundary
from vicinal.visualize import gallery as module
from vicinal.visualize.gallery import gallery

ROOT = CONF.parent
PAGE = (ROOT / "docs" / "gallery.md").read_text()
SHOWN = re.findall(r"!\[(.*?)\]\((.*?)\)", PAGE)
COMMANDS = re.findall(r"^python scripts/(show_\w+)\.py(.*)$", PAGE + (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_pictures_are_there_described_and_small() -> None:
    assert {name for _, name in SHOWN} == {f"gallery/{file.name}" for file in (ROOT / "docs" / "gallery").iterdir()}
    for text, name in SHOWN:
        file = ROOT / "docs" / name
        assert len(text) > 20
        assert file.stat().st_size < 300_000
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300


@pytest.mark.slow
def test_the_command_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Any) -> None:
    monkeypatch.setattr(module, "TOYS", ("moons",))
    monkeypatch.setattr(boundary, "regions", partial(boundary.regions, steps=150))
    monkeypatch.setattr(module, "RUNS", ("mixup=none,input", "model=mlp", "trainer.epochs=1"))
    made = list(gallery(tmp_path / "a", tmp_path / "runs"))
    assert {f"gallery/{file.name}" for file in made} == {name for _, name in SHOWN}
    results = [file.stat().st_mtime_ns for file in (tmp_path / "runs" / "runs").glob("*/result.json")]
    assert len(results) == 2
    code, printed = script("gallery", "--out", str(tmp_path / "b"), "--runs", str(tmp_path / "runs"))
    again = [tmp_path / "b" / file.name for file in made]
    assert code == 0
    assert [line for line in printed.splitlines() if line.endswith(".png")] == [*map(str, again)]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in made]
    # What was trained is not trained again
    assert [file.stat().st_mtime_ns for file in (tmp_path / "runs" / "runs").glob("*/result.json")] == results


def test_the_commands_that_are_written_down_can_be_typed() -> None:
    import runpy

    assert {name for name, _ in COMMANDS} == {"show_mixing", "show_boundary", "show_between"}
    for name, words in COMMANDS:
        parser = runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))["parser"]()
        parser.parse_args(shlex.split(words))
