"""Filter all that leaves the process, files, logs, pages and W&B: a secret becomes ``<where it comes from>``.

Secrets are the values of environment variables with a telling name, passwords in addresses and in ``netrc``, and texts
with the well-known form of a token. Values that the config needs are not secret, even if such a variable holds them.
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
from functools import cache, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from vicinal.config.schema import CONF, KEYS
from vicinal.config.validation import leaves
from vicinal.utils.escaping import visible

TELLING = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!I[SZ])|CREDENTIAL|APIKEY|KEY(S|ID)?\d*(_|$)|PASS\d*(_|$)"
    r"|(PWD|PAT|DSN)\d*(_|$)|(^|_)(AUTH|CREDS?|COOKIE|JWT|BEARER)\d*(_|$)",
    re.IGNORECASE,
)  # names of environment variables that hold secrets
TELLING_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|credential|(api|access|private)_?key|(^|_|auth)token$", re.IGNORECASE
)  # names of secrets in a config or in code, where a bare ``key`` is mostly the key of a mapping
NETRC = "netrc"  # name of the passwords in that file
PLACES = ("PWD", "OLDPWD")  # variables with such a name that hold a folder
SHORT = 8  # characters; a shorter value is replaced only as a whole word
SHORTEST, SHORTEST_NUMBER = 4, 6  # characters; a still shorter value cannot be told from ordinary text
ADDRESS = re.compile(r"(?P<scheme>\w://)[^\s/?#:@'\"<>]*:[^\s/?#'\"<>]+@")  # user and password in an address
PASSWORD = re.compile(r"\w+://[^/:@\s]*:(?P<password>.+)@[^@]+")  # whole address; the password may be unencoded
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
}  # of secrets from anywhere
API_KEY = re.compile(r"(?<![0-9a-fA-F])[0-9a-f]{40}(?![0-9a-fA-F])")  # W&B's old form; commits too, so only in code
ASSIGNED = re.compile(
    r"(?P<name>[\w.-]+)(?P<between>['\"]?\]?[ \t]*[:=]>?[ \t]*)"
    r"([bfru]*(?P<quote>['\"])(?P<quoted>[^<'\"\n][^'\"\n]{3,})(?P=quote)|(?P<plain>[\w+/=.@!%^&*-]{6,})[ \t]*$)",
    re.MULTILINE,
)  # a value with a name, in code, in YAML or in a file of variables

_public: set[str] = set()
_needed: set[str] = set()


def need(config: Mapping[str, Any], public: Iterable[str]) -> None:
    """Keep readable the values of a config, except under keys that name a secret, and ``public``: a run needs them."""
    _public.update(public)
    keys = ((key.rpartition(".")[2].partition("[")[0], value) for key, value in leaves(config))
    _needed.update(str(value) for key, value in keys if not TELLING_KEY.search(key))


def redact(text: str) -> str:
    return _filter()(text)


def redacted(content: Any) -> Any:
    """Return a copy of plain containers without secrets in texts, nor values under a key that names a secret."""
    clean = _filter()

    def copy(value: Any, secret: str = "") -> Any:
        if isinstance(value, Mapping):
            return {
                key: copy(item, str(key) if TELLING_KEY.search(str(key)) else secret) for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [copy(item, secret) for item in value]
        if secret and value and not isinstance(value, bool):
            return f"<{secret}>"
        return clean(value) if isinstance(value, str) else value

    return copy(content)


def redact_code(text: str) -> str:
    """Return code without secrets, nor values that are assigned to a telling name."""

    def hide(match: re.Match[str]) -> str:
        plain = match["plain"]
        code = plain is not None and re.fullmatch(r"[A-Za-z_.]+", plain)
        if code or not TELLING_KEY.search(match["name"]):
            return match[0]
        mark = match["quote"] or ""
        return f"{match['name']}{match['between']}{mark}<{match['name']}>{mark}"

    return ASSIGNED.sub(hide, API_KEY.sub("<api key>", redact(text)))


class Formatter(logging.Formatter):
    """Format log lines without secrets and without characters that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)), keep="\n\t")


def show_bugs_redacted() -> None:
    """Remove secrets from the traceback that ends the process too."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = redact("".join(traceback.format_exception(kind, error, trace)))
        print(visible(text, keep="\n\t"), end="", file=sys.stderr)

    sys.excepthook = show


def _filter() -> Callable[[str], str]:
    """Return the filter for the environment as it is now."""
    variables = ((name, value) for name, value in os.environ.items() if _telling(name) or "://" in value)
    return _filter_of(frozenset(variables) | _logins(), len(_public), len(_needed))


@lru_cache(maxsize=4)
def _filter_of(sources: frozenset[tuple[str, str]], *_known: int) -> Callable[[str], str]:
    names: dict[str, str] = {}
    words: list[str] = []
    texts: list[str] = []
    for name, secret in sorted(secret for source in sources for secret in _secrets(*source)):
        for form in _forms(secret):
            if form not in names:
                names[form] = name
                (words if len(secret) < SHORT or secret.isdigit() else texts).append(form)
    parts = [re.escape(form) for form in sorted(texts, key=len, reverse=True)]
    parts += [f"(?<![\\w.]){re.escape(form)}(?!\\w)" for form in sorted(words, key=len, reverse=True)]
    known = re.compile("|".join(parts)) if parts else None

    def clean(text: str) -> str:
        if known is not None:
            text = known.sub(lambda form: f"<{names[form[0]]}>", text)
        if "://" in text:
            text = ADDRESS.sub(r"\g<scheme><user>:<password>@", text)
        for name, form in FORMS.items():
            text = form.sub(f"<{name}>", text)
        return text

    return clean


def _secrets(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield (name, secret) for each secret in a variable, or for a password in ``netrc``."""
    value, secrets = value.strip(), set()
    if address := PASSWORD.fullmatch(value):
        secrets |= {address["password"], unquote(address["password"])}
    if name == NETRC or _telling(name):
        secrets |= {value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= SHORT)}
    yield from ((name, secret) for secret in secrets if _is_secret(secret))


def _is_secret(value: str) -> bool:
    shortest = SHORTEST_NUMBER if re.fullmatch(r"[\d.eE+-]*", value) else SHORTEST
    if len(value) < shortest or value in _needed or any(value in name for name in (*_words(), *_public)):
        return False
    with suppress(OSError, ValueError):  # too long for a path, or with a zero in it
        return not (Path(value).is_absolute() and Path(value).exists())  # the path of a file with a secret is no secret
    return True


def _forms(secret: str) -> Iterator[str]:
    """Yield its spellings in shells, code, JSON, YAML, addresses and pages."""
    bare = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]
    encoded = {quote(secret, safe=safe) for safe in ("", "/", "/:@")} | {quote_plus(secret)}
    hydras = re.sub(r"([\\()\[\]{}:=, \t'\"])", r"\\\1", secret)
    doubled = (secret.replace(mark, pair) for mark, pair in (("'", "''"), ("'", "\\'"), ('"', '\\"'), ("\\", "\\\\")))
    yield from {secret, *bare, *(json.dumps(form)[1:-1] for form in bare), hydras, *doubled, shlex.quote(secret)}
    yield from {*encoded, *(re.sub(r"%..", lambda code: code[0].lower(), form) for form in encoded)}
    yield from {html.escape(secret), html.escape(secret, quote=False), base64.b64encode(secret.encode()).decode()}


@cache
def _telling(name: str) -> bool:
    return name not in PLACES and TELLING.search(name) is not None


@cache
def _words() -> frozenset[str]:
    """Return the words of our own config: options, keys, values."""
    words = {word for item in KEYS.values() for word in item.metadata["choices"]}
    for file in CONF.rglob("*.yaml"):
        text = re.sub(r"(^|\s)#.*", "", file.read_text(encoding="utf-8"))
        words |= {file.stem, *re.split(r"[\s,\[\]{}:\"'()=]+", text)}
    return frozenset(words)


def _logins() -> frozenset[tuple[str, str]]:
    try:
        file = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
        return frozenset((NETRC, login[2]) for login in netrc.netrc(str(file)).hosts.values() if login[2])
    except (OSError, RuntimeError, ValueError, netrc.NetrcParseError):  # no file, no home, or a damaged file
        return frozenset()
