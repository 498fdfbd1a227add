"""Scripts as users call them, in this process."""

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from vicinal.config.schema import CONF

Script = Callable[..., tuple[object, str]]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    GlobalHydra.instance().clear()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """``script(name, *words)`` in a folder of the test's own: exit code, or the line it leaves with, and stdout."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        code: object = 0
        try:
            runpy.run_path(str(CONF.parent / "scripts" / f"{name}.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    return run
