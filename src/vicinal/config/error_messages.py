"""Explain a mistake in one line: the key, the value and what is allowed, for errors of Hydra and YAML too."""

from __future__ import annotations

import os
import re
import shlex
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import errors
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from vicinal.config.composition import parse
from vicinal.config.option_folders import options_at
from vicinal.config.redaction import redact
from vicinal.config.schema import BASES, CHOOSABLE
from vicinal.config.validation import describe_key, suggest_key
from vicinal.errors import UserError, first_line, suggest
from vicinal.utils.escaping import visible

MISSING_FOLDER = r"provider=hydra\.searchpath in [\w-]+, path=(.*) is not available\."  # a warning of Hydra
COMPOSERS = {"hydra", "omegaconf", "yaml", "antlr4"}  # packages that read the command line and the YAML files
CALLERS = {"vicinal", "hydra_plugins"}  # packages whose own errors are bugs
FOLDERS = tuple(f"{group}/" for group in CHOOSABLE)  # whose options may be in folders: ``mixup=reference/timm``
LONGEST_WORD = 500  # characters without a space that a line shows whole
NO_KEY = (
    "cannot be read as key=value; a key has letters, digits and _, groups and keys joined by dots, "
    "and no space stands beside the ="
)


def is_mistake(error: BaseException) -> bool:
    """Return whether an error is a user's mistake, or a circumstance such as a full disk; not a bug."""
    known = (UserError, HydraException, errors.OmegaConfBaseException)
    system = isinstance(error, OSError) and error.errno is not None
    return isinstance(error, known) or system or _lacks_memory(error) or _in_composition(error)


def _in_composition(error: BaseException) -> bool:
    """Return whether Hydra, or a parser that it calls, raised the error: then the user's text is its cause."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = [module.partition(".")[0] for module in reversed(modules)]
    return next((name in COMPOSERS for name in packages if name in COMPOSERS | CALLERS), False)


def _lacks_memory(error: BaseException) -> bool:
    kind = type(error).__name__
    return isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "t allocate memory" in str(error)


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """Return one line for a user, without secrets; the overrides show the value of a refused key."""
    words = list(takewhile(lambda word: not word.startswith("-"), overrides))  # flags come last
    long = re.compile(rf"[^\s:]{{{LONGEST_WORD},}}")
    line = long.sub(lambda word: f"{word[0][:60]}... ({len(word[0])} characters)", _explain(error, words))
    return visible(redact(line))


def _explain(error: BaseException, words: Sequence[str]) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    cause = error if isinstance(error, errors.OmegaConfBaseException) else error.__cause__ or error.__context__ or error
    if isinstance(cause, errors.InterpolationResolutionError):
        return _unresolved(cause, words)
    if isinstance(cause, (errors.ConfigKeyError, errors.ConfigAttributeError)):
        return _unknown_key(cause, words)
    if isinstance(cause, errors.ValidationError) and cause.full_key:
        key = re.sub(r"\[\d+\]", "", str(cause.full_key))
        return f"{_word(key, words, str(cause))}: {describe_key(key) or _first_line(cause)}"
    if isinstance(cause, errors.ConfigTypeError) and cause.full_key:
        shape = "must be a mapping of names to values where the config has one, and a list where it has one"
        return f"{_word(cause.full_key, words)}: {describe_key(cause.full_key) or shape}"
    if isinstance(error, OSError) and error.strerror:
        return _path(error, words)
    if _lacks_memory(error):
        less = "a smaller trainer.batch_size, dataset.image_size or network needs less"
        return f"memory ran out ({_first_line(error)}); {less}"
    if isinstance(error, YAMLError | UnicodeDecodeError | OSError):  # the last is OmegaConf's of a file with one number
        return _ill_written(error)
    return _composition(error, words)


def _composition(error: BaseException, words: Sequence[str]) -> str:
    """Explain an error of Hydra that has no type of its own."""
    if not str(error).strip() and error.__cause__:
        error = error.__cause__
    reason = _first_line(error)
    if nameless := next((word for word in words if not word.partition("=")[0].strip("+~")), None):
        return f"{nameless}: {NO_KEY}"
    if sentence := _translated(reason, words):
        return sentence
    if match := re.match("Error merging override (.+)", reason):
        return f"{match[1]}: {_first_line(error.__cause__ or error)}"
    word = _culprit(error, words)
    if word is None:
        return reason
    if _chooses_nothing(word):
        return f"{word}: must be the name of an option; --help lists them"
    if word in reason:
        return reason
    if "integer string conversion" in reason:
        reason = "the number has too many digits"
    if reason == AssertionError.__name__:
        reason = "Hydra cannot use this value"
    return f"{word}: {describe_key(word.partition('=')[0].lstrip('+~')) or reason}"


def _translated(reason: str, words: Sequence[str]) -> str | None:
    """Return a known sentence of Hydra in our words."""
    if match := re.match(MISSING_FOLDER, reason):
        return f"hydra.searchpath={match[1]}: there is no such folder or package of configs"
    if re.match("(Additional|Primary) config directory", reason):
        return reason
    if re.match(".*(one subcommand|COMP_LINE)", reason):
        return "--shell-completion: needs install=bash or uninstall=bash; a shell itself asks with query=bash"
    if match := re.match("(?:Ambiguous value for argument '(.*)'$|Sweep parameters '(.*)' requires)", reason):
        word = match[1] or match[2]
        is_text = str(describe_key(word.partition("=")[0])).startswith("must be a string")
        text = f"; a text with a comma is quoted: {_quoted(word)}" if is_text else ""
        return f"{word}: several values are a sweep, which needs -m; a list is written [a,b]{text}"
    if match := re.match(r"Multiple values for (.+?)\.(?: To override a value use '(.+)')?", reason):
        key, override = match[1], match[2]
        if override and not any(word.startswith(f"+{key}") for word in words):
            return f"{_word('experiment', words)}: {key} is chosen already; write `{override}` in its defaults"
        return f"+{_word(key, words)}: {key} is there already; leave out the +"
    if match := re.match(r"Could not append to config\. An item is already at '(.+)'", reason):
        return f"+{_word(match[1], words)}: {match[1]} is there already; leave out the +"
    if match := re.match(r"In '(.+)': Could not override '(.+)'\. No match in the defaults list", reason):
        return f"{match[1]}.yaml: override {match[2]}: there is no such group; {suggest(match[2], CHOOSABLE)}"
    if (match := re.match(r"Could not override '(\w+)/(.+)'\. No match in", reason)) and match[1] in CHOOSABLE:
        folder, option = match[2], _word(f"{match[1]}/{match[2]}", words).rpartition("=")[2]
        return f"{match[1]}/{folder}={option}: an option in a folder is written {match[1]}={folder}/{option}"
    if match := re.match(r"Could not override '(.+)'\. No match in the defaults list", reason):
        return f"{_word(match[1], words)}: the config is a resolved one, in which there is nothing left to choose"
    return None


def _culprit(error: BaseException, words: Sequence[str]) -> str | None:
    """Return the word of the command line that caused the error; None if unknown."""
    text = str(error)
    if key := re.search(r"full_key: (\S+)", text):
        return _word(key[1], words)
    tests: tuple[Callable[[str], bool], ...] = (
        lambda word: word in text,
        lambda word: _parse(word) is None,
        _chooses_nothing,
        lambda word: word.lstrip("+~").startswith("hydra"),
    )
    culprits = (word for test in tests for word in words if test(word))
    return next(culprits, words[0] if len(words) == 1 else None)


def _parse(word: str) -> Override | None:
    with suppress(Exception):  # Python's own complaints about a number come out of it too
        return parse(word)
    return None


def _chooses_nothing(word: str) -> bool:
    """Return whether a group is set to something other than the name of an option."""
    override = _parse(word)
    if override is None or override.key_or_group not in CHOOSABLE or override.is_sweep_override():
        return False
    value = override.value()
    names = value if isinstance(value, list) else [value]
    return not isinstance(value, dict) and not all(isinstance(name, str) for name in names)


def _unreadable(error: OverrideParseException) -> str:
    """Explain a word that is not key=value, or whose value needs quotes."""
    word, reason = str(error.override), _first_line(error)
    key, equals, _ = word.partition("=")
    if not equals or _parse(f"{key}=1") is None:
        return f"{word}: {NO_KEY}"
    useful = "" if reason.startswith(("Error parsing override", "LexerNoViableAlt")) else f" ({reason})"
    return f"{word}: cannot be read{useful}; text of such characters is quoted: {_quoted(word)}"


def _quoted(word: str) -> str:
    """Return a word with its value in quotes, for a shell."""
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={QuotedString(text=value, quote=Quote.double).with_quotes()}")


def _missing_config(error: MissingConfigException) -> str:
    path, reason, found = str(error.missing_cfg_file), _first_line(error), error.options
    group, _, option = path.partition("/") if path.startswith(FOLDERS) else path.rpartition("/")
    if group in CHOOSABLE and re.search("Could not load", reason):  # one of a list, of which Hydra lists no options
        found = [name for _, name in options_at(group, re.findall(r"path=(\S+?://.*)", str(error)))]
    if group and found:
        options = [name for name in dict.fromkeys(found) if name not in BASES]
        return f"{group}={option}: no such option; {suggest(option, options)}"
    if match := re.match(r"In '(.+)/(.+)': Could not find '\1/(.+)/(.+)'", reason):
        return f"{match[1]}/{match[2]}.yaml: write `override /{match[3]}: {match[4]}` in its defaults"
    return reason


def _unknown_key(error: errors.ConfigKeyError | errors.ConfigAttributeError, words: Sequence[str]) -> str:
    key = str(error.full_key)
    if key == "experiment":
        recipe = "its file must begin with the line `# @package _global_`, and then say `key: value`"
        return f"{_word(key, words)}: {recipe}"
    known = [str(name) for name in error.parent_node or () if name not in ("hydra", "_target_")]
    return f"{_word(key, words)}: no such key; {suggest_key(str(error.key), known)}"


def _unresolved(error: errors.InterpolationResolutionError, words: Sequence[str]) -> str:
    reason = _first_line(error)
    name = str(error.full_key)
    for pattern, sentence in {
        r"Environment variable '(.+)' not found": "the environment variable {} is not set",
        r"Interpolation key '(.+)' not found": "there is no key {}",
        r"Missing mandatory value: (\S+)$": "is missing",
    }.items():
        if match := re.search(pattern, reason):
            name, reason = match[1], sentence.format(match[1])
            break
    # The key that is being resolved may be one of Hydra's own that refers to what the user wrote.
    return f"{next((word for word in words if name in word), error.full_key)}: {reason}"


def _ill_written(error: Exception) -> str:
    """Name the file, the line and the mistake in a YAML file."""
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        problem = str(error.problem or error.context or "cannot be read").replace("character '\\t'", "a tab,")
        return f"{mark.name}, line {mark.line + 1}: {problem}"
    values = [value for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()]
    names = [value for value in values if isinstance(value, str) and value.endswith(".yaml")]
    file = names[-1] if names else "a YAML file"
    if isinstance(error, UnicodeDecodeError):
        return f"{file}: must be UTF-8; byte {error.object[error.start]:#04x} is not"
    return f"{file}: {_first_line(error)}"


def _path(error: OSError, words: Sequence[str]) -> str:
    """Explain an error of a file or folder, after the word that leads there."""
    line = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    culprits = [word for word in words if error.filename and _leads_to(word, str(error.filename))]
    return f"{culprits[-1]}: {line}" if culprits else line


def _leads_to(word: str, file: str) -> bool:
    """Return whether the value of a word is a path to the file, or to a folder that holds it."""
    value, path = word.partition("=")[2].strip("'\""), Path(os.path.realpath(file))
    return bool(value) and Path(os.path.realpath(value)) in (path, *path.parents)


def _word(key: str, words: Sequence[str], complaint: str = "") -> str:
    """Return ``key=value`` of the command line, or with the value that a complaint quotes; else the key alone."""
    for word in reversed(words):  # the last one counts
        name = word.partition("=")[0].lstrip("+~")
        if name == key or name.startswith(f"{key}."):
            return word.lstrip("+~")
    quoted = re.match(r"Value '(.*?)'", complaint)
    return f"{key}={quoted[1]}" if quoted else key


def _first_line(error: BaseException) -> str:
    """Return it with single spaces: Hydra indents and YAML aligns."""
    return " ".join(first_line(error).split())
