"""What stands around the code is true of it: contributing guide, citation, changelog, hooks, workflow and templates."""

import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PAGES = ["CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
TOOLS = {"git", "lint-imports", "mypy", "pip", "pre-commit", "pytest", "python", "ruff"}


def load(file: str) -> dict:
    return yaml.safe_load((ROOT / file).read_text())


def quoted(text: str) -> list[str]:
    """Everything in backticks, and every line of a code block, of a Markdown text."""
    blocks = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return blocks + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


COMMANDS = sorted(
    {
        command.strip()
        for line in quoted(CONTRIBUTING)
        for command in line.split("&&")
        if command.split()[0] in TOOLS and (" " in command.strip() or command.strip() in {"mypy", "lint-imports"})
    }
)


def test_the_citation_is_of_this_version():
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    for key in ("version", "license"):
        assert citation[key] == PROJECT[key]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_the_citation_has_the_papers_in_the_readme():
    papers = set(re.findall(r"https://arxiv\.org/abs/[\d.]+", (ROOT / "README.md").read_text()))
    cited = {reference.get("url") for reference in load("CITATION.cff")["references"]}
    assert papers <= cited
    assert len(papers) >= 3


def test_the_changelog_has_the_headings_of_keep_a_changelog():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert lines[0] == "# Changelog"
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    for line in releases[1:]:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", line)
    kinds = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert kinds
    assert set(kinds) <= KINDS


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page: str):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_files_that_the_contributing_guide_names_exist():
    tops = {path.name for path in ROOT.iterdir()}
    words = {word.strip(",") for line in quoted(CONTRIBUTING) for word in line.split()}
    named = {word for word in words if "=" not in word and word.split("/")[0] in tops}
    assert {word for word in named if not (ROOT / word).exists()} == set()
    assert len(named) >= 15


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python train.py")])
def test_trainings_of_the_contributing_guide_compose(command: str, train: Callable[..., tuple[int, str, str]]):
    words = [word for word in shlex.split(command)[2:] if not word.startswith("output_dir=")]
    code, _, errors = train(*words, "dry_run=true")
    assert (code, errors) == (0, "")


def test_commands_of_the_contributing_guide_are_found():
    assert {command.split()[0] for command in COMMANDS} == TOOLS
    markers = {marker.partition(":")[0] for marker in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    tests = " ".join(command for command in COMMANDS if command.startswith("pytest"))
    chosen = re.findall(r'-m (?:"not )?(\w+)', tests)
    assert set(chosen) == markers


def test_the_readme_and_ci_run_the_same_commands_as_the_contributing_guide():
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    setup = re.search(r"## Set up\n.*?```\n(.*?)```", CONTRIBUTING, re.DOTALL)
    assert setup
    assert all(f"\n{line}\n" in readme for line in setup[1].splitlines())
    for command in ("ruff check .", "mypy", "lint-imports"):
        assert command in COMMANDS
        assert re.search(f"^{re.escape(command)}$", script, re.MULTILINE)


def test_the_hooks_use_the_versions_of_the_project():
    ranges = {Requirement(line).name: Requirement(line) for line in PROJECT["optional-dependencies"]["test"]}
    [repository] = load(".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy", "end-of-file-fixer", "check-yaml"} == set(hooks)
    for name in ("ruff-check", "ruff-format"):
        assert [Requirement(line) for line in hooks[name]["additional_dependencies"]] == [ranges["ruff"]]


def test_the_workflow_runs_ci_on_every_python_of_the_classifiers():
    workflow = load(".github/workflows/ci.yml")
    linux, smoke = workflow["jobs"]["linux"], workflow["jobs"]["smoke"]
    pythons = linux["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    classified = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(f"{prefix}3.")]
    assert pythons == classified
    used = [step["with"]["python-version"] for step in smoke["steps"] if "python-version" in step.get("with", {})]
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in [*pythons, *used])
    assert {"run": ".ci/run"} in linux["steps"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_the_workflow_may_only_read_and_ends():
    workflow = load(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


@pytest.mark.parametrize("file", [file for file in TEMPLATES if file.name != "config.yml"], ids=lambda file: file.stem)
def test_issue_templates_are_forms(file: Path):
    form = yaml.safe_load(file.read_text())
    assert form["name"]
    assert form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields) > 0
    assert all(part["attributes"]["label"] for part in fields)
