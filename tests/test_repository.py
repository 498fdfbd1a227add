"""What stands around the code is consistent with it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {paper["url"] for paper in citation["references"]} == {
        f"https://arxiv.org/abs/{number}" for number in ("1710.09412", "1806.05236", "1905.04899")
    }


def test_the_workflow_runs_ci_on_every_python_that_is_promised() -> None:
    pythons = WORKFLOW["jobs"]["linux"]["strategy"]["matrix"]["python"]
    known = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    assert set(pythons) == known
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in pythons)
    assert WORKFLOW["jobs"]["linux"]["steps"][-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize("file", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda file: file.stem)
def test_issue_templates_have_what_github_asks_for(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    if file.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert content["name"]
    assert content["description"]
    ids = [part["id"] for part in content["body"]]
    assert len(ids) == len(set(ids)) > 0


def test_hooks_are_tools_of_the_test_extra() -> None:
    [repo] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    extra = " ".join(PROJECT["optional-dependencies"]["test"])
    tools = {hook["entry"].split()[0] for hook in repo["hooks"]}
    assert tools == {"ruff", "mypy", "lint-imports"}
    assert all(name in extra for name in ("ruff", "mypy", "import-linter"))


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    sections = [line for line in lines if line.startswith("## ")]
    assert sections[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d{2}-\d{2})?", line) for line in sections)
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_links_lead_somewhere(name: str) -> None:
    check_links(ROOT / name)


@pytest.mark.parametrize("file", sorted((ROOT / "docs").rglob("*.md")), ids=lambda file: file.stem)
def test_links_of_the_docs_lead_somewhere(file: Path) -> None:
    check_links(file)


def check_links(file: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", file.read_text())
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [link for link in local if not (file.parent / link).exists()] == []
