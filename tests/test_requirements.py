"""The files of pinned versions hold what pyproject.toml allows."""

import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]


def pinned(file: str) -> dict[str, Version]:
    """By normalised name."""
    comment, *lines = (ROOT / file).read_text().splitlines()
    assert comment.startswith("# ")
    pairs = [line.split("==") for line in lines]  # unpacking fails for what is no pin
    pins = {canonicalize_name(name): Version(version) for name, version in pairs}
    assert len(pins) == len(pairs)
    return pins


def floor(requirement: Requirement) -> Version:
    [version] = [each.version for each in requirement.specifier if each.operator == ">="]
    return Version(version)


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_every_pin_is_allowed(file: str):
    pins = pinned(file)
    refused = [
        f"{name}=={pins[name]} is not {requirement.specifier}"
        for requirement in DIRECT
        if (name := canonicalize_name(requirement.name)) in pins and pins[name] not in requirement.specifier
    ]
    assert not refused


def test_the_exact_versions_are_those_of_all_that_a_run_and_the_tests_need():
    lines = (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"])
    needed = {canonicalize_name(Requirement(line).name) for line in lines}
    assert needed <= set(pinned("constraints.txt"))


def test_what_a_pinned_package_needs_is_pinned():
    """By the metadata of those that are installed here in their pinned version."""
    pins = pinned("constraints.txt")
    extras = {
        name: {extra for each in DIRECT if canonicalize_name(each.name) == name for extra in each.extras}
        for name in pins
    }
    here = {canonicalize_name(package.name): package for package in distributions()}
    missing = {
        f"{name} needs {requirement}"
        for name, version in pins.items()
        if name in here and Version(here[name].version) == version
        for requirement in map(Requirement, here[name].requires or [])
        if canonicalize_name(requirement.name) not in pins
        and (
            requirement.marker is None
            or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras[name]))
        )
    }
    assert not missing


def test_the_lowest_versions_are_the_floors():
    assert pinned("constraints-lowest.txt") == {canonicalize_name(each.name): floor(each) for each in DIRECT}


def test_a_dependency_that_is_named_twice_has_one_range():
    ranges: dict[str, set[str]] = {}
    for each in DIRECT:
        ranges.setdefault(canonicalize_name(each.name), set()).add(str(each.specifier))
    assert [name for name, found in ranges.items() if len(found) > 1] == []
