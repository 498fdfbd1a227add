"""Where modules are and which way their imports point."""

import subprocess
import sys
from pathlib import Path

import vicinal

ROOT = Path(__file__).parents[1]
PACKAGE = Path(vicinal.__file__).parent


def test_few_modules_are_loose() -> None:
    loose = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert loose == {"build", "dry_build", "errors", "experiment"}


def test_every_package_says_what_it_is_for() -> None:
    for folder in {file.parent for file in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


def test_tests_mirror_the_packages() -> None:
    folders = {file.parent.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")}
    assert all((PACKAGE / folder).is_dir() for folder in folders)


def test_imports_point_downwards() -> None:
    """The contracts are in pyproject.toml. In a process of its own: import-linter sets up logging."""
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ended = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "2 kept, 0 broken" in ended.stdout
