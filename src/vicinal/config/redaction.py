"""One filter for all that leaves the process, files, logs, pages and W&B: a secret becomes ``<where it comes from>``.

A secret is what an environment variable with a telling name holds, a password in an address or in ``netrc``, and what
has the well-known form of a token. What the config needs is none, even where such a variable holds the same.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import netrc
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from vicinal.config.schema import CONF, Config, TrainerConfig, WandbConfig
from vicinal.utils.escaping import visible

TELLING = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!I[SZ])|CREDENTIAL|APIKEY|KEY(S|ID)?\d*(_|$)|PASS\d*(_|$)"
    r"|(^|_)\w*(PWD|PAT|DSN)\d*(_|$)|(^|_)(AUTH|CREDS?|COOKIE|JWT|BEARER)\d*(_|$)",
    re.IGNORECASE,
)
"""Names of environment variables that hold secrets."""
TELLING_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|credential|(api|access|private)_?key|(^|_|auth)token$", re.IGNORECASE
)
"""Names of secrets in a config or in code. A bare ``key`` is left out: there it is mostly the key of a mapping."""
PLACES = ("PWD", "OLDPWD")
"""Variables with such a name that say where the process is."""
SHORT = 8
"""Characters; a shorter value is replaced only where it stands alone, as a word."""
SHORTEST, SHORTEST_NUMBER = 4, 6
"""Characters; a value that is shorter still cannot be told from ordinary text."""
ADDRESS = re.compile(r"(?P<scheme>\w://)[^\s/?#:@'\"<>]*:[^\s/?#'\"<>]+@")
"""Of a server, with a user and a password in it."""
PASSWORD = re.compile(r"\w+://[^/:@\s]*:(?P<password>.+)@[^@]+")
"""Of a whole address; it may have characters that should have been encoded."""
FORMS = {
    "private key": re.compile(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL
    ),
    "token": re.compile(
        r"\b(gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|(AKIA|ASIA)[A-Z0-9]{16}\b"
        r"|sk-[\w-]{20,}|xox[abposr]-[\w-]{10,}|AIza[\w-]{30,}|wandb_v\d+_\w{20,}|local-[0-9a-f]{40}|pypi-[\w-]{20,}"
        r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    ),
    "authorization": re.compile(r"(?<=authorization: )(basic|bearer|token) [\w.~+/=-]{6,}", re.IGNORECASE),
}
"""What secrets look like, wherever they come from."""
API_KEY = re.compile(r"(?<![0-9a-fA-F])[0-9a-f]{40}(?![0-9a-fA-F])")
"""W&B's old form, which a commit has too; so it is looked for in code alone."""
ASSIGNED = re.compile(
    r"(?P<name>[\w.-]+)(?P<between>['\"]?\]?[ \t]*[:=]>?[ \t]*)"
    r"([bfru]*(?P<quote>['\"])(?P<quoted>[^<'\"\n][^'\"\n]{3,})(?P=quote)|(?P<plain>[\w+/=.@!%^&*-]{6,})[ \t]*$)",
    re.MULTILINE,
)
"""A value with a name, in code, in YAML or in a file of variables."""

_public: set[str] = set()
_needed: set[str] = set()


def need(config: Mapping[str, Any], public: Iterable[str]) -> None:
    """Register values that are never replaced: without them a run could not be repeated.

    Args:
        config: what decides a result. Values under a key that names a secret are not registered.
        public: names of ours, any part of which is ours too.
    """
    _public.update(public)
    _needed.update(str(value) for key, value in _leaves(config) if not TELLING_KEY.search(key))


def redact(text: str) -> str:
    """``text`` without secrets."""
    return _filter()(text)


def redacted(content: Any) -> Any:
    """A copy of plain containers whose texts are without secrets, and so are all under a key that says so."""
    clean = _filter()

    def copy(value: Any, secret: str = "") -> Any:
        if isinstance(value, Mapping):
            named = {key: str(key) if TELLING_KEY.search(str(key)) else secret for key in value}
            return {key: copy(each, named[key]) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [copy(each, secret) for each in value]
        if secret and value and not isinstance(value, bool):
            return f"<{secret}>"
        return clean(value) if isinstance(value, str) else value

    return copy(content)


def redact_code(text: str) -> str:
    """Code without secrets; values that are assigned to a telling name are replaced too."""

    def hide(found: re.Match[str]) -> str:
        plain = found["plain"]
        code = plain is not None and re.fullmatch(r"[A-Za-z_.]+", plain)
        if code or not TELLING_KEY.search(found["name"]):
            return found[0]
        mark = found["quote"] or ""
        return f"{found['name']}{found['between']}{mark}<{found['name']}>{mark}"

    return ASSIGNED.sub(hide, API_KEY.sub("<api key>", redact(text)))


class Formatter(logging.Formatter):
    """Of log lines: without secrets, and without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)), keep="\n\t")


def show_bugs_redacted() -> None:
    """Print tracebacks that end the process without secrets too."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = redact("".join(traceback.format_exception(kind, error, trace)))
        print(visible(text, keep="\n\t"), end="", file=sys.stderr)

    sys.excepthook = show


def _filter() -> Callable[[str], str]:
    """For the environment as it is now."""
    held = frozenset((name, value) for name, value in os.environ.items() if _telling(name) or "://" in value)
    return _made(held, _logins(), len(_public), len(_needed))


@lru_cache(maxsize=4)
def _made(
    variables: frozenset[tuple[str, str]], logins: frozenset[tuple[str, str]], *_known: int
) -> Callable[[str], str]:
    names: dict[str, str] = {}
    alone: list[str] = []
    anywhere: list[str] = []
    for name, secret in sorted(_secrets(variables, logins)):
        for form in _forms(secret):
            if form not in names:
                names[form] = name
                (alone if len(secret) < SHORT or secret.isdigit() else anywhere).append(form)
    parts = [f"(?<![\\w.]){re.escape(form)}(?!\\w)" for form in sorted(alone, key=len, reverse=True)]
    parts = [*map(re.escape, sorted(anywhere, key=len, reverse=True)), *parts]
    known = re.compile("|".join(parts)) if parts else None

    def clean(text: str) -> str:
        if known is not None:
            text = known.sub(lambda found: f"<{names[found[0]]}>", text)
        if "://" in text:
            text = ADDRESS.sub(r"\g<scheme><user>:<password>@", text)
        for name, form in FORMS.items():
            text = form.sub(f"<{name}>", text)
        return text

    return clean


def _secrets(variables: Iterable[tuple[str, str]], logins: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(where it comes from, secret)."""
    found = set(logins)
    for name, value in variables:
        if inside := PASSWORD.fullmatch(value.strip()):
            found |= {(name, inside["password"]), (name, unquote(inside["password"]))}
        if _telling(name):
            found.add((name, value.strip()))
            lines = value.strip().splitlines()
            found |= {(name, line.strip()) for line in lines if len(lines) > 1 and len(line.strip()) >= SHORT}
    return ((name, value) for name, value in found if _is_secret(value))


def _is_secret(value: str) -> bool:
    shortest = SHORTEST_NUMBER if re.fullmatch(r"[\d.eE+-]*", value) else SHORTEST
    if len(value) < shortest or value in _needed or any(value in name for name in (*_words(), *_public)):
        return False
    with suppress(OSError, ValueError):  # too long for a path, or with a zero in it
        return not (Path(value).is_absolute() and Path(value).exists())  # the path of a file with a secret is no secret
    return True


def _forms(secret: str) -> Iterator[str]:
    """How it is written in shells, code, JSON, YAML, addresses and pages."""
    bare = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]
    encoded = {quote(secret, safe=safe) for safe in ("", "/", "/:@")} | {quote_plus(secret)}
    hydras = re.sub(r"([\\()\[\]{}:=, \t'\"])", r"\\\1", secret)
    doubled = (secret.replace(mark, each) for mark, each in (("'", "''"), ("'", "\\'"), ('"', '\\"'), ("\\", "\\\\")))
    yield from {secret, *bare, *(json.dumps(each)[1:-1] for each in bare), hydras, *doubled, shlex.quote(secret)}
    yield from {*encoded, *(re.sub(r"%..", lambda code: code[0].lower(), each) for each in encoded)}
    yield from {html.escape(secret), html.escape(secret, quote=False), base64.b64encode(secret.encode()).decode()}


@cache
def _telling(name: str) -> bool:
    return name not in PLACES and TELLING.search(name) is not None


@cache
def _words() -> frozenset[str]:
    """Of our own config: options, keys, values."""
    schemas = (Config, TrainerConfig, WandbConfig)
    words = {word for schema in schemas for item in fields(schema) for word in item.metadata.get("choices", ())}
    for file in CONF.rglob("*.yaml"):
        text = re.sub(r"(^|\s)#.*", "", file.read_text(encoding="utf-8"))
        words |= {file.stem, *re.split(r"[\s,\[\]{}:\"'()=]+", text)}
    return frozenset(words)


def _logins() -> frozenset[tuple[str, str]]:
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return _passwords(file, file.stat().st_mtime_ns)
    except (OSError, RuntimeError):  # no file, or no home
        return frozenset()


@lru_cache(maxsize=4)
def _passwords(file: Path, _changed: int) -> frozenset[tuple[str, str]]:
    try:
        return frozenset(("netrc", login[2]) for login in netrc.netrc(str(file)).hosts.values() if login[2])
    except (OSError, ValueError, netrc.NetrcParseError):
        return frozenset()


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node
