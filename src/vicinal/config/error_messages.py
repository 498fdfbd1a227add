"""Hydra's and OmegaConf's complaints in one line: the key, the value and what is allowed."""

from __future__ import annotations

import os
import re
import shlex
import traceback
import typing
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from vicinal.config.components import describe_type
from vicinal.config.composition import parse
from vicinal.config.redaction import redact
from vicinal.config.schema import (
    GROUPS,
    VIEWS,
    Config,
    TrainerConfig,
    WandbConfig,
    describe_range,
    suggest,
    suggest_key,
)
from vicinal.errors import UserError
from vicinal.utils.escaping import visible

MISSING_FOLDER = r"provider=hydra\.searchpath in [\w-]+, path=(.*) is not available\."
"""Hydra's warning of a folder or package of configs that is not there."""
COMPOSERS = {"hydra", "omegaconf", "yaml", "antlr4"}
"""Packages that read what the user wrote: the command line and the YAML files."""
CALLERS = {"vicinal", "hydra_plugins"}
"""Packages whose own errors are bugs."""
CHOOSABLE = (*GROUPS, "trainer", *VIEWS, "experiment")
"""The groups of ``conf/config.yaml``."""
LONGEST_WORD = 500
"""Characters without a space that a line shows whole."""
NO_KEY = (
    "cannot be read as key=value; a key has letters, digits and _, groups and keys joined by dots, and no space stands "
    "beside the ="
)
RECIPE = "its file must begin with the line `# @package _global_`, and then say `key: value`"


def is_mistake(error: BaseException) -> bool:
    """It is a user's mistake, or a circumstance; not a bug. What the system says of a file or a folder is one."""
    known = (UserError, HydraException, OmegaConfBaseException)
    system = isinstance(error, OSError) and error.errno is not None
    return isinstance(error, known) or system or _lacks_memory(error) or _in_composition(error)


def _in_composition(error: BaseException) -> bool:
    """It comes out of Hydra or what Hydra reads with, and so from the words it was given, whatever its type."""
    frames = [
        str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return next((name in COMPOSERS for name in reversed(frames) if name in COMPOSERS | CALLERS), False)


def _lacks_memory(error: BaseException) -> bool:
    kind = type(error).__name__
    return isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "t allocate memory" in str(error)


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """One line for a user, without secrets.

    Args:
        error: of any kind; only a mistake's line is meant for a user.
        overrides: the words of the command line, where the value of a refused key is looked up.
    """
    words = list(takewhile(lambda word: not word.startswith("-"), overrides))  # flags come last
    line = re.sub(rf"[^\s:]{{{LONGEST_WORD},}}", _shortened, _explain(error, words))
    return visible(redact(line))


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:60]}... ({len(word[0])} characters)"


def _explain(error: BaseException, overrides: Sequence[str]) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _not_found(error)
    if place := re.match(MISSING_FOLDER, str(error)):
        return f"hydra.searchpath={place[1]}: there is no such folder or package of configs"
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__ or error
    if isinstance(cause, InterpolationResolutionError):
        return _unresolved(cause, overrides)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        return _unknown_key(cause, overrides)
    if isinstance(cause, ValidationError) and cause.full_key:
        key = re.sub(r"\[\d+\]", "", str(cause.full_key))
        return f"{_word(key, overrides, str(cause))}: {_allowed(key) or _first_line(cause)}"
    if isinstance(error, OSError) and error.strerror:
        return _place(error, overrides)
    if _lacks_memory(error):
        less = "a smaller trainer.batch_size, dataset.image_size or network needs less"
        return f"memory ran out ({_first_line(error)}); {less}"
    if isinstance(error, YAMLError | UnicodeDecodeError | OSError):  # OmegaConf says so of a file that is one number
        return _ill_written(error)
    return _composition(error, overrides)


def _composition(error: BaseException, overrides: Sequence[str]) -> str:
    """Hydra's own complaints, in the words of this program."""
    if not str(error).strip() and error.__cause__:
        error = error.__cause__
    reason = _first_line(error)
    if nameless := next((word for word in overrides if not word.partition("=")[0].strip("+~")), None):
        return f"{nameless}: {NO_KEY}"
    if re.match(r"(Additional|Primary) config directory", reason):
        return reason
    if re.search("one subcommand|COMP_LINE", reason):
        return "--shell-completion: needs install=bash or uninstall=bash; a shell itself asks with query=bash"
    if sweep := re.match(r"Ambiguous value for argument '(.*)'$|Sweep parameters '(.*)' requires", reason):
        word = sweep[1] or sweep[2]
        key = word.partition("=")[0]
        text = f"; a text with a comma is quoted: {_quoted(word)}" if _hint(key) in (str, str | None) else ""
        return f"{word}: several values are a sweep, which needs -m; a list is written [a,b]{text}"
    if present := re.match(
        r"Multiple values for (.+?)\.(?: To override a value use '(.+)')?|"
        r"Could not append to config. An item is already at '(.+)'",
        reason,
    ):
        key = present[1] or present[3]
        if present[2] and not any(word.startswith(f"+{key}") for word in overrides):
            return f"{_word('experiment', overrides)}: {key} is chosen already; write `{present[2]}` in its defaults"
        return f"+{_word(key, overrides)}: {key} is there already; leave out the +"
    if unknown := re.match(r"In '(.+)': Could not override '(.+)'\. No match in the defaults list", reason):
        return f"{unknown[1]}.yaml: override {unknown[2]}: there is no such group; {suggest(unknown[2], CHOOSABLE)}"
    if group := re.match(r"Could not override '(.+)'\. No match in the defaults list", reason):
        return f"{_word(group[1], overrides)}: the config is a resolved one, in which there is nothing left to choose"
    if merged := re.match(r"Error merging override (.+)", reason):
        return f"{merged[1]}: is not possible"
    word = _culprit(error, overrides)
    if word is None:
        return reason
    if _chooses_nothing(_parse(word)):
        return f"{word}: must be the name of an option; --help lists them"
    if word in reason:
        return reason
    if "integer string conversion" in reason:
        reason = "the number has too many digits"
    if reason == AssertionError.__name__:
        reason = "Hydra cannot use this value"
    return f"{word}: {_allowed(word.partition('=')[0].lstrip('+~')) or reason}"


def _culprit(error: BaseException, overrides: Sequence[str]) -> str | None:
    """The word of the command line that a complaint is about, as far as can be told."""
    text = str(error)
    if key := re.search(r"full_key: (\S+)", text):
        return _word(key[1], overrides)
    parsed = {word: _parse(word) for word in overrides}
    tests = (
        lambda word: word in text,
        lambda word: parsed[word] is None,
        lambda word: _chooses_nothing(parsed[word]),
        lambda word: word.lstrip("+~").startswith("hydra"),
    )
    found = (word for test in tests for word in parsed if test(word))
    return next(found, next(iter(parsed)) if len(parsed) == 1 else None)


def _parse(word: str) -> Override | None:
    with suppress(Exception):  # Python's own complaints about a number come out of it too
        return parse(word)
    return None


def _chooses_nothing(override: Override | None) -> bool:
    """A group is given something else than the name of an option."""
    if override is None or override.key_or_group not in CHOOSABLE or override.is_sweep_override():
        return False
    value = override.value()
    names = value if isinstance(value, list) else [value]
    return not isinstance(value, dict) and not all(isinstance(name, str) for name in names)


def _unreadable(error: OverrideParseException) -> str:
    """A word that is not key=value, or whose value wants quotes."""
    word, reason = str(error.override), _first_line(error)
    key, equals, _ = word.partition("=")
    if not equals or _parse(f"{key}=1") is None:
        return f"{word}: {NO_KEY}"
    known = reason.startswith(("Error parsing override", "LexerNoViableAlt"))
    return (
        f"{word}: cannot be read{'' if known else f' ({reason})'}; text of such characters is quoted: {_quoted(word)}"
    )


def _quoted(word: str) -> str:
    """A word with its value in quotes, as a shell wants it."""
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={QuotedString(text=value, quote=Quote.double).with_quotes()}")


def _not_found(error: MissingConfigException) -> str:
    missing, reason = str(error.missing_cfg_file), _first_line(error)
    group, _, option = missing.rpartition("/")
    if group and error.options:
        return f"{group}={option}: {f'no such option; {suggest(option, error.options)}'}"
    if relative := re.match(r"In '(.+)/(.+)': Could not find '\1/(.+)/(.+)'", reason):
        return f"{relative[1]}/{relative[2]}.yaml: write `override /{relative[3]}: {relative[4]}` in its defaults"
    return reason


def _unknown_key(error: ConfigKeyError | ConfigAttributeError, overrides: Sequence[str]) -> str:
    key = str(error.full_key)
    word = _word(key, overrides)
    if key == "experiment":
        return f"{word}: {RECIPE}"
    known = [str(name) for name in error.parent_node or () if name not in ("hydra", "_target_")]
    return f"{word}: no such key; {suggest_key(str(error.key), known)}"


def _unresolved(error: InterpolationResolutionError, overrides: Sequence[str]) -> str:
    reason = _first_line(error)
    if variable := re.search(r"Environment variable '(.+)' not found", reason):
        name, reason = variable[1], f"the environment variable {variable[1]} is not set"
    elif key := re.search(r"Interpolation key '(.+)' not found", reason):
        name, reason = key[1], f"there is no key {key[1]}"
    elif missing := re.search(r"Missing mandatory value: (\S+)$", reason):
        name, reason = missing[1], "is missing"
    else:
        name = str(error.full_key)
    # The key that is being resolved may be one of Hydra's own that refers to what the user wrote.
    return f"{next((word for word in overrides if name in word), error.full_key)}: {reason}"


def _ill_written(error: Exception) -> str:
    """A YAML file, by its name and line."""
    mark = isinstance(error, MarkedYAMLError) and (error.problem_mark or error.context_mark)
    if not isinstance(error, MarkedYAMLError) or not mark:
        seen = [each for frame, _ in traceback.walk_tb(error.__traceback__) for each in frame.f_locals.values()]
        file = next(
            (each for each in reversed(seen) if isinstance(each, str) and each.endswith(".yaml")), "a YAML file"
        )
        if isinstance(error, UnicodeDecodeError):
            return f"{file}: must be UTF-8; byte {error.object[error.start]:#04x} is not"
        return f"{file}: {_first_line(error)}"
    where = f"{mark.name}, line {mark.line + 1}"
    problem = str(error.problem or error.context or "cannot be read").replace("character '\\t'", "a tab,")
    return f"{where}: {problem}"


def _place(error: OSError, overrides: Sequence[str]) -> str:
    """What is wrong with a file or a folder, after the key that leads there."""
    line = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    file = str(error.filename or "")
    words = [word for word in overrides if file and _leads_to(word, file)]
    return f"{words[-1]}: {line}" if words else line


def _leads_to(word: str, file: str) -> bool:
    """Whether the value of a word is a path to a file or to a folder that holds it."""
    value, place = word.partition("=")[2].strip("'\""), Path(os.path.realpath(file))
    return bool(value) and Path(os.path.realpath(value)) in (place, *place.parents)


def _field(key: str) -> tuple[Any, Any]:
    """The field of the schema that a dotted key is, and its type; None twice if it is none."""
    parent, _, name = key.rpartition(".")
    schema = {**GROUPS, "trainer": TrainerConfig, "wandb": WandbConfig, "": Config}.get(parent)
    item = getattr(schema, "__dataclass_fields__", {}).get(name)
    return (None, None) if schema is None or item is None else (item, typing.get_type_hints(schema)[name])


def _hint(key: str) -> Any:
    return _field(key)[1]


def _allowed(key: str) -> str | None:
    """What the schema allows for a key."""
    item, hint = _field(key)
    if item is None or not item.metadata:
        return None
    ranged = any(item.metadata.get(limit) not in (None, ()) for limit in ("choices", "low", "high", "above", "below"))
    each = "a list, each " if ranged and "list" in str(item.type) else ""
    return f"must be {each}{describe_range(item) if ranged else describe_type(hint)}"


def _word(key: str, overrides: Sequence[str], complaint: str = "") -> str:
    """``key=value`` as the command line has it, or with the value that a complaint quotes; else the key alone."""
    for word in reversed(overrides):  # the last one counts
        name = word.partition("=")[0].lstrip("+~")
        if name == key or name.startswith(f"{key}."):
            return word.lstrip("+~")
    quoted = re.match(r"Value '(.*?)'", complaint)
    return f"{key}={quoted[1]}" if quoted else key


def _first_line(error: BaseException) -> str:
    lines = [re.sub(r"\s+", " ", line).strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)
