"""Where modules are and which way their imports point."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import vicinal
from vicinal.tasks import TASKS

ROOT = Path(__file__).parents[1]
PACKAGE = Path(vicinal.__file__).parent


def test_few_modules_are_loose() -> None:
    loose = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert loose == {"build", "errors", "experiment"}


def test_no_file_is_long() -> None:
    files = [file for folder in ("src", "scripts", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if len(file.read_text(encoding="utf-8").splitlines()) > 300] == []


def test_every_package_says_what_it_is_for() -> None:
    for folder in {file.parent for file in PACKAGE.rglob("*.py")}:
        assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


def test_tests_mirror_the_packages() -> None:
    folders = {file.parent.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")}
    assert all((PACKAGE / folder).is_dir() for folder in folders)


def test_metrics_are_named_in_tasks_alone() -> None:
    """Whatever shows, compares or searches reads the task's table; a docstring may give an example."""
    keys = {metric.key for task in TASKS.values() for metric in task.metrics}
    named = re.compile(rf"(^|[/\s])({'|'.join(sorted(keys))})($|[/_\s])")
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "scripts").glob("*.py"), *(ROOT / "src/hydra_plugins").glob("*.py")]
    elsewhere = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for file in files
        if not file.is_relative_to(PACKAGE / "tasks")
        for node in strings(ast.parse(file.read_text(encoding="utf-8")))
        if named.search(node.value)
    ]
    templates = [file for suffix in ("j2", "js") for file in PACKAGE.rglob(f"*.{suffix}")]
    elsewhere += [str(file) for file in templates if named.search(file.read_text(encoding="utf-8"))]
    assert elsewhere == []
    assert len(templates) > 2


def strings(tree: ast.AST) -> list[ast.Constant]:
    """All texts of a program but its docstrings."""
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        node
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def test_imports_point_downwards() -> None:
    """The contracts are in pyproject.toml. In a process of its own: import-linter sets up logging."""
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ended = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "2 kept, 0 broken" in ended.stdout
