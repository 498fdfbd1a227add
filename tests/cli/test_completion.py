"""Shell completion as Hydra offers it, in real shells on a real terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from vicinal.config.schema import CONF

SECONDS = 60
"""Until a test gives up."""
LEADER = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
"""Runs a command whose terminal is that of its standard input, which zsh and fish ask for."""


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$({command} -sc install=bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit bashcompinit && compinit -u && bashcompinit; eval "$({command} -sc install=zsh)"',
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "function fish_prompt; printf '> '; end; {command} -sc install=fish | source",
    ),
}
"""{shell: (its command, how the completion of a command is installed, as docs/configuration.md says)}."""


class Shell:
    """A shell that somebody types into."""

    def __init__(self, name: str, folder: Path, path: str) -> None:
        self._screen = pyte.Screen(200, 24)
        self._stream = pyte.ByteStream(self._screen)
        command, self._install = SHELLS[name]
        self._terminal, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (self._screen.lines, self._screen.columns))
        names = {name: value for name, value in os.environ.items() if not name.startswith("BASH")}
        environment = {**names, "PATH": path, "PS1": "> ", "HOME": str(folder.parent), "TERM": "xterm"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", LEADER, *command],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def install(self, command: str) -> None:
        self.type(f'{self._install.format(command=command)}; echo in""stalled\n', "^installed *\n> ")

    def complete(self, words: str, until: str) -> None:
        """Hits the tab key once ``words`` are on the screen, as a person does."""
        self.type(words, re.escape(words))
        self.type("\t", re.escape(until))

    def type(self, keys: str, until: str) -> None:
        """Waits until the screen matches ``until`` after ``keys``."""
        os.write(self._terminal, keys.encode())
        end = time.monotonic() + SECONDS
        while not re.search(until, seen := "\n".join(self._screen.display), re.MULTILINE):
            assert time.monotonic() < end, f"{keys!r} was answered by {seen.rstrip()!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self._stream.feed(os.read(self._terminal, 4096))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param}")
    commands = tmp_path / "bin"
    commands.mkdir()
    python = Path(sys.executable).with_name("python")  # Hydra's fish completes for the name that Python was started by
    scripts = {
        "python": f'#!/bin/sh\nexec {python} "$@"\n',
        "vicinal-train": f"#!{sys.executable}\nfrom vicinal.cli.train import command\ncommand()\n",  # as pip writes it
    }
    for name, text in scripts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/train.py").symlink_to(CONF.parent / "train.py")
    terminal = Shell(request.param, tmp_path / "work", f"{commands}:{os.environ['PATH']}")
    yield terminal
    terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS, indirect=True)
@pytest.mark.parametrize("command", ["python train.py", "vicinal-train"])
def test_tab_completes_groups_options_and_keys(shell: Shell, command: str, tmp_path: Path) -> None:
    shell.install(command)
    shell.complete(f"{command} mixup=cutm", "mixup=cutmix")
    shell.complete(" mixup=reference/ti", "mixup=reference/timm")
    shell.complete(" trainer.epo", "trainer.epochs=")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["train.py"]
