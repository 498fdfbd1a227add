"""Shell completion as Hydra offers it, in a real bash on a real terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.config.schema import CONF

SECONDS = 60
"""Until a test gives up."""


class Bash:
    """A bash that somebody types into."""

    def __init__(self, folder: Path, path: str) -> None:
        self.printed = ""
        self._terminal, theirs = pty.openpty()
        names = {name: value for name, value in os.environ.items() if not name.startswith("BASH")}
        environment = {**names, "PATH": path, "PS1": "> ", "TERM": "dumb"}
        command = ["bash", "--norc", "--noprofile", "-i"]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def type(self, keys: str, until: str) -> str:
        """What comes back after ``keys``, until it matches."""
        self.printed = ""
        os.write(self._terminal, keys.encode())
        end = time.monotonic() + SECONDS
        while not re.search(until, self.printed):
            assert time.monotonic() < end, f"{keys!r} was answered by {self.printed!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.printed += os.read(self._terminal, 4096).decode()
        return self.printed

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Bash]:
    commands = tmp_path / "bin"
    commands.mkdir()
    scripts = {
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "vicinal-train": f"#!{sys.executable}\nfrom vicinal.cli.train import command\ncommand()\n",  # as pip writes it
    }
    for name, text in scripts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/train.py").symlink_to(CONF.parent / "train.py")
    terminal = Bash(tmp_path / "work", f"{commands}:{os.environ['PATH']}")
    yield terminal
    terminal.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("command", ["python train.py", "vicinal-train"])
def test_tab_completes_groups_options_and_keys(bash: Bash, command: str, tmp_path: Path) -> None:
    bash.type(f'eval "$({command} -sc install=bash)"; echo in""stalled\n', "installed")
    assert "mixup=cutmix" in bash.type(f"{command} mixup=cutm\t", "mixup=cutmix")
    assert "mixup=reference/timm" in bash.type(" mixup=reference/ti\t", "mixup=reference/timm")
    assert "trainer.epochs=" in bash.type(" trainer.epo\t", r"trainer\.epochs=")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["train.py"]
