"""A wheel holds all that a run needs, and runs in an empty folder; so does one that is made from the source archive."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vicinal.config.schema import CONF

ROOT = CONF.parent
BUILD = """
import os, sys, tarfile
from pathlib import Path
from setuptools.build_meta import build_sdist, build_wheel

out = sys.argv[1]
archive = build_sdist(out)
with tarfile.open(Path(out, archive)) as file:
    file.extractall(out, filter="data")
os.chdir(Path(out, archive.removesuffix(".tar.gz")))
build_wheel(out)
"""


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their names in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the source archive of the checkout, and the wheel that is made from it."""
    pytest.importorskip("setuptools", minversion="77", reason="the build backend is not installed")
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for folder in ("conf", "src"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored)
    for file in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "train.py"):
        shutil.copy(ROOT / file, checkout)
    build = [sys.executable, "-W", "ignore", "-c", BUILD, str(out)]
    made = subprocess.run(build, cwd=checkout, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out


def test_every_file_of_conf_and_of_the_code_is_in_the_wheel(built: Path) -> None:
    [file] = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
        [points] = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt")]
    expected = {f"vicinal/conf/{name}": content for name, content in contents(CONF).items()}
    code = {name: content for name, content in contents(ROOT / "src").items() if ".egg-info/" not in name}
    expected |= {name: content for name, content in code.items() if not name.endswith(".pyc")}
    assert files.keys() == expected.keys()
    assert files == expected
    assert "vicinal-train = vicinal.cli.train:command" in points


def test_the_source_archive_builds(built: Path) -> None:
    [file] = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", *(f"conf/{name}" for name in contents(CONF))} <= names


@pytest.mark.slow
def test_the_unpacked_wheel_sweeps_in_an_empty_folder(built: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    [file] = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        wheel.extractall(site)
    words = ["trainer.epochs=1", "dataset.train_size=100", "wandb.mode=disabled", "mixup.alpha=0.2,0.4", "-m"]
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "vicinal", *words]
    swept = subprocess.run(command, cwd=work, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (swept.returncode, swept.stderr) == (0, "")
    runs = [path.parent for path in work.glob("outputs/runs/*/result.json")]
    assert len(runs) == 2
    assert len(list(work.glob("outputs/sweeps/*/jobs/*.yaml"))) == 2
    first = (runs[0] / "config.yaml").read_text().partition("\n")[0]
    again = first.partition("again: ")[2].split()
    assert again[:3] == ["python", "-m", "vicinal"]
    assert list(work.iterdir()) == [work / "outputs"]
