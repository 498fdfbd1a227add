"""``scripts/slurm.sh`` with commands in Slurm's place that print what they get, and shellcheck's opinion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vicinal import __main__ as main
from vicinal.cli import train

SCRIPT = Path(__file__).parents[1] / "scripts" / "slurm.sh"
PRINT = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0")" "$@"\nenv | grep ^SRUN_ || true\n'
WORDS = ("mixup=manifold", "mixup.layers=[input,layer1]", "dataset.root=my data", "seed=0,1", "-m")


def called(folder: Path, *words: str, commands: tuple[str, ...] = ("sbatch", "srun"), **environment: str) -> list[str]:
    """Return the lines that the script prints; its last is the exit code."""
    for name in commands:
        (folder / name).write_text(PRINT)
        (folder / name).chmod(0o755)
    tools = {name: os.path.realpath(str(shutil.which(name))) for name in ("bash", "basename", "env", "grep")}
    for name, tool in tools.items():
        (folder / name).symlink_to(tool)
    done = subprocess.run(
        [tools["bash"], SCRIPT, *words], capture_output=True, text=True, env={"PATH": str(folder), **environment}
    )
    return [*done.stdout.splitlines(), *done.stderr.splitlines(), str(done.returncode)]


def test_in_a_job_srun_gets_the_arguments_of_train_py(tmp_path: Path) -> None:
    own = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "PYTHON": sys.executable}
    assert called(tmp_path, *WORDS, **own) == [
        *("srun", "--kill-on-bad-exit=1", sys.executable, "-m", "vicinal", *WORDS),
        *("SRUN_CPUS_PER_TASK=4", "0"),
    ]


def test_without_cpus_or_arguments(tmp_path: Path) -> None:
    expected = ["srun", "--kill-on-bad-exit=1", "python", "-m", "vicinal", "0"]
    assert called(tmp_path, SLURM_JOB_ID="7") == expected


def test_outside_of_a_job_it_submits_itself(tmp_path: Path) -> None:
    assert called(tmp_path, *WORDS) == ["sbatch", str(SCRIPT), *WORDS, "0"]


def test_without_slurm_it_says_so(tmp_path: Path) -> None:
    line = "error: scripts/slurm.sh: there is no sbatch here; run this on a login node of the cluster"
    assert called(tmp_path, *WORDS, commands=()) == [line, "1"]


def test_sbatch_reads_its_flags() -> None:
    """Slurm reads them up to the first line that is neither a comment nor blank."""
    text = SCRIPT.read_text()
    assert text.startswith("#!/bin/bash\n")
    head = text[: text.index("set -euo pipefail")]
    flags = re.findall(r"^#SBATCH (\S+)$", head, re.MULTILINE)
    assert {"--requeue", "--signal=USR2@180", "--open-mode=append"} <= {*flags}
    assert len(flags) == text.count("#SBATCH")


def test_the_module_that_it_starts_is_train_py() -> None:
    assert main.command is train.command


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
