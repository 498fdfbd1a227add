"""Hash the Python files that a number depends on, so that code that has changed since a result can be named."""

from __future__ import annotations

import ast
import hashlib
import json
import pydoc
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from sysconfig import get_path

PACKAGE = Path(__file__).parents[1]
COMPUTING = (
    *("data", "mixing", "models", "tasks", "training"),
    *("build.py", "config/components.py", "experiment.py", "jobs/resume.py", "jobs/session.py"),
)
"""Of the package. What is left reads, shows, reports or launches, and changes no number."""
VERSIONED = ("torch", "torchvision")
"""Packages whose version is recorded, and stands for their files."""
INSTALLED = ("site-packages", "dist-packages")
"""Folders of packages that pip installs: not the user's own files."""
SHOWN = 4
TOKEN = re.compile(
    r"""(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<end>(?:[ \t\f]*(?:(?<!\S)\#[^\n]*)?\n)+)""",
    re.DOTALL,
)
"""What tells code from comments and docstrings: strings, and ends of lines with the comments before them."""


def sources(targets: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash of each file that computes, by its name such as ``vicinal/mixing/laws.py``, as it was when first asked for.

    Args:
        targets: dotted names of components, as ``_target_`` has them. Of each that is not in this package the file
            counts too, and the files of one's own that it imports, and that these import.
    """
    found = dict(of_package())
    for target in targets:
        found |= _of_target(target)
    return dict(sorted(found.items()))


def counterparts(names: Iterable[str]) -> dict[str, str]:
    """Hashes of the files here that have the names of a run's: all of the package's, and others that can be found.

    Nothing is imported: the run may not be trusted. A file that the package no longer has gets an empty hash.
    """
    found = dict(of_package())
    for name in names:
        if name.partition("/")[0] == PACKAGE.name:
            found.setdefault(name, "")
        elif re.fullmatch(r"(\w+/)*\w+\.py", name):
            file = next((file for place in ("", *sys.path) if (file := Path(place, name)).is_file()), None)
            if file is not None:
                found[name] = _hash(file)
    return found


def forget() -> None:
    """Hash the files again when they are asked for the next time."""
    of_package.cache_clear()
    _of_target.cache_clear()


def digest(files: Mapping[str, str]) -> str:
    """One hash for all of them, ten hex digits."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:10]


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Names of what differs, the first few of them; empty if nothing does."""
    return few(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))


def few(names: Iterable[str]) -> str:
    """The first of the names and the number of the rest."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def code(text: str) -> str:
    """A Python file without what no number depends on: comments, blank lines and docstrings.

    A docstring is any string that is a statement of its own. Python's own tokenizer takes twice as long (a tenth of a
    second for the package, of every process), and its tokens depend on the version: f-strings are several since 3.12.
    """
    text = text.replace("\r\n", "\n") + "\n"
    kept: list[str] = []
    at, depth, begun = 0, 0, False  # begun: there is something of a statement already
    for token in TOKEN.finditer(text):
        before, at = text[at : token.start()], token.end()
        depth += sum(map(before.count, "([{")) - sum(map(before.count, ")]}"))
        if token["end"]:
            begun = depth > 0 or before.endswith("\\")
            if before or (kept and kept[-1] != "\n"):
                kept += [before, "\n"]
            continue
        if token["string"] and not begun and before.strip() in ("", "r", "R", "u", "U"):
            following = TOKEN.match(text, at)
            if following and following["end"]:
                continue
        begun = True
        kept += [before, token[0]]
    return "".join(kept)


@cache
def of_package() -> dict[str, str]:
    """Hash of each file of this package that computes."""
    files: list[Path] = []
    for name in COMPUTING:
        place = PACKAGE / name
        files += place.rglob("*.py") if place.is_dir() else [place]
    return {file.relative_to(PACKAGE.parent).as_posix(): _hash(file) for file in files}


@cache
def _of_target(target: str) -> dict[str, str]:
    """The file of a component, and those of one's own that it imports; nothing of this package."""
    defined_in = getattr(pydoc.locate(target), "__module__", None)
    waiting = [name for name in (defined_in, target.rpartition(".")[0]) if name in sys.modules]
    roots, found = set(waiting), {}
    while waiting:
        module = waiting.pop()
        spec = _spec(module)
        if spec is None or spec.origin is None or module.partition(".")[0] in (PACKAGE.name, *VERSIONED):
            continue
        file = Path(spec.origin)
        stem = "/__init__" if spec.submodule_search_locations is not None else ""
        name = f"{module.replace('.', '/')}{stem}{file.suffix}"
        if name in found or not file.is_file() or not (module in roots or _own(file)):
            continue
        found[name] = _hash(file)
        if _own(file) and file.suffix == ".py":
            waiting += _imported(file, spec.parent)
    return found


def _own(file: Path) -> bool:
    return not set(file.parts) & {*INSTALLED} and not file.is_relative_to(get_path("stdlib"))


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is, found without importing it or what it is in."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__spec__", None)
    parent = module.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(module)
    above = _spec(parent)
    places = above and above.submodule_search_locations
    return PathFinder.find_spec(module, list(places)) if places else None


def _imported(file: Path, package: str | None) -> Iterator[str]:
    """Names of all that the import statements of a file may mean, anywhere in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # it climbs out of its package
                continue
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _hash(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".py":
        content = code(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    return hashlib.sha256(content).hexdigest()[:10]
