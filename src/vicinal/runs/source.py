"""Hash the Python files that a number depends on, so that code that has changed since a result can be named."""

from __future__ import annotations

import ast
import hashlib
import json
import pydoc
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from sysconfig import get_path

PACKAGE = Path(__file__).parents[1]
COMPUTING = (
    *("data", "mixing", "models", "tasks", "training"),
    *("build.py", "config/components.py", "config/validation.py", "experiment.py", "jobs/resume.py", "jobs/session.py"),
)
"""Parts of the package that can change a number. The rest reads, shows, reports or launches."""
VERSIONED = ("torch", "torchvision")  # packages whose recorded version stands for their files
INSTALLED = ("site-packages", "dist-packages")  # folders of packages that pip installs: not the user's own files
SHOWN = 4  # largest number of files that a line names
TOKEN = re.compile(
    r"""(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<end>(?:[ \t\f]*(?:(?<!\S)\#[^\n]*)?\n)+)""",
    re.DOTALL,
)
"""Tokens that separate code from comments and docstrings: strings, and ends of lines with the comments before them."""


def sources(targets: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the hash of each file that computes, by its name such as ``vicinal/mixing/laws.py``; cached.

    The files of components outside this package count too, and so do the user's own files that these import, directly
    or not. ``targets`` are their dotted names, as in ``_target_``.
    """
    files = dict(of_package())
    for target in targets:
        files |= _of_target(target)
    return dict(sorted(files.items()))


def counterparts(names: Iterable[str]) -> dict[str, str]:
    """Return the hashes of the files here that have the names of a run's: all of the package, and others if found.

    Nothing is imported: the run may not be trusted. A file that the package no longer has gets an empty hash.
    """
    files = dict(of_package())
    for name in names:
        if name.partition("/")[0] == PACKAGE.name:
            files.setdefault(name, "")
        elif re.fullmatch(r"(\w+/)*\w+\.py", name):
            paths = (Path(folder, name) for folder in ("", *sys.path))
            if (file := next(filter(Path.is_file, paths), None)) is not None:
                files[name] = _hash(file)
    return files


def forget() -> None:
    """Hash the files again at the next call."""
    of_package.cache_clear()
    _of_target.cache_clear()


def digest(files: Mapping[str, str]) -> str:
    """Return one hash of all, ten hex digits."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:10]


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the names that differ, the first few of them; empty if none does."""
    return few(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))


def few(names: Iterable[str]) -> str:
    """Return the first of the names and the number of the rest."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def code(text: str) -> str:
    """Return a Python file without comments, blank lines and docstrings, on which no number depends.

    Any string that is a statement counts as a docstring. Python's own tokenizer takes twice as long (0.1 s for the
    package, in every process), and its tokens depend on the version: f-strings are several since 3.12.
    """
    text = text.replace("\r\n", "\n") + "\n"
    kept: list[str] = []
    position, depth, in_statement = 0, 0, False
    for token in TOKEN.finditer(text):
        before, position = text[position : token.start()], token.end()
        depth += sum(map(before.count, "([{")) - sum(map(before.count, ")]}"))
        if token["end"]:
            in_statement = depth > 0 or before.endswith("\\")
            if before or (kept and kept[-1] != "\n"):
                kept += [before, "\n"]
            continue
        if token["string"] and not in_statement and before.strip() in ("", "r", "R", "u", "U"):
            following = TOKEN.match(text, position)
            if following and following["end"]:
                continue
        in_statement = True
        kept += [before, token[0]]
    return "".join(kept)


@cache
def of_package() -> dict[str, str]:
    """Return the hash of each file of this package that computes."""
    paths = [PACKAGE / name for name in COMPUTING]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    return {file.relative_to(PACKAGE.parent).as_posix(): _hash(file) for file in files}


@cache
def _of_target(target: str) -> dict[str, str]:
    """Return the hashes of a component's file and of the user's own files that it imports; none of this package."""
    defined_in = getattr(pydoc.locate(target), "__module__", None)
    waiting = [name for name in (defined_in, target.rpartition(".")[0]) if name in sys.modules]
    roots, hashes = set(waiting), {}
    while waiting:
        module = waiting.pop()
        spec = _spec(module)
        if spec is None or spec.origin is None or module.partition(".")[0] in (PACKAGE.name, *VERSIONED):
            continue
        file = Path(spec.origin)
        stem = "/__init__" if spec.submodule_search_locations is not None else ""
        name = f"{module.replace('.', '/')}{stem}{file.suffix}"
        if name in hashes or not file.is_file() or not (module in roots or _own(file)):
            continue
        hashes[name] = _hash(file)
        if _own(file) and file.suffix == ".py":
            waiting += _imported(file, spec.parent)
    return hashes


def _own(file: Path) -> bool:
    return not set(file.parts) & {*INSTALLED} and not file.is_relative_to(get_path("stdlib"))


def _spec(module: str) -> ModuleSpec | None:
    """Find a module without importing it or its packages."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__spec__", None)
    parent = module.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(module)
    package = _spec(parent)
    folders = package and package.submodule_search_locations
    return PathFinder.find_spec(module, list(folders)) if folders else None


def _imported(file: Path, package: str | None) -> Iterator[str]:
    """Yield the names of all modules that the import statements of a file may mean, anywhere in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # it climbs out of its package
                base = resolve_name("." * node.level + (node.module or ""), package)
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            yield from accumulate(name.split("."), "{}.{}".format)  # a, a.b, a.b.c


def _hash(file: Path) -> str:
    content = file.read_bytes()
    if file.suffix == ".py":
        content = code(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    return hashlib.sha256(content).hexdigest()[:10]
