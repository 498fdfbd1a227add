"""What W&B is told of a run besides its numbers: the config's word, else a variable's, checked by W&B's own rules.

W&B itself checks when a run starts there, or when it is uploaded, which is too late for a night of training. Nothing
here imports it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from vicinal.errors import ConfigError, UserError, written
from vicinal.utils.escaping import visible

NAME_LENGTH = 128
"""Characters of a project, an entity, a run's name or a group, at most."""
TAG_LENGTH = 64
NOTES_LENGTH = 10_000
RESERVED = "/\\#?%:"
"""Characters that a project cannot have, since it is part of an address; nor can an entity."""

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""{word of ``WANDB_MODE``: mode}; the last two are W&B's old names."""
TRUTHS = {"": False, "0": False, "false": False, "no": False, "off": False}
TRUTHS |= {"1": True, "true": True, "yes": True, "on": True}

VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
}
"""{key: the variable that speaks where it is null}."""
MODE, DISABLED, BASE_URL = "WANDB_MODE", "WANDB_DISABLED", "WANDB_BASE_URL"
AGENTS = frozenset({"WANDB_DIR", "WANDB_RUN_ID"})
"""Variables that W&B's agent sets for each run of a W&B sweep; there they keep their effect."""
IGNORED = {
    "WANDB_DIR": "W&B's files are in the run's folder",
    "WANDB_DATA_DIR": "W&B's files are in the run's folder",
    "WANDB_RUN_ID": "the id is in the run's folder",
    "WANDB_RESUME": "the run's folder says whether there is something to continue",
    "WANDB_JOB_TYPE": "the job type is always train",
    "WANDB_CONSOLE": "what is printed is not uploaded",
    "WANDB_SAVE_CODE": "code is not uploaded",
    "WANDB_DISABLE_CODE": "code is not uploaded",
    "WANDB_DISABLE_GIT": "the commit is in the config",
    "WANDB_PROGRAM": "the program is the script that trains",
    "WANDB_SILENT": "W&B prints nothing",
    "WANDB_QUIET": "W&B prints nothing",
}
"""{variable: why it has no effect}: what W&B would go by, and is told by the program instead."""
OWN = frozenset({*VARIABLES.values(), *IGNORED})
"""Variables of what W&B is told by the program."""


def wished_mode(mode: str) -> tuple[str, str]:
    """The mode that is asked for, and where, in words. Reads the environment and imports nothing.

    Args:
        mode: ``auto``, ``online``, ``offline`` or ``disabled``. ``auto`` is what ``WANDB_DISABLED`` or ``WANDB_MODE``
            says where one of them is set, and online otherwise.

    Raises:
        ConfigError: a variable says what it cannot; W&B would not begin, whatever the config says.
    """
    disabled, wish = os.environ.get(DISABLED, ""), os.environ.get(MODE, "")
    if mode == "disabled":
        return mode, f"wandb.mode={mode}"
    if disabled.lower() not in TRUTHS:
        raise ConfigError(DISABLED, _shown(disabled), "must be true or false")
    if wish and wish not in MODES:
        raise ConfigError(MODE, _shown(wish), "must be one of online, offline, disabled")
    if mode != "auto":
        return mode, f"wandb.mode={mode}"
    if TRUTHS[disabled.lower()]:
        return "disabled", f"{DISABLED}={disabled}"
    return (MODES[wish], f"{MODE}={wish}") if wish else ("online", "logged in")


def settle(values: Mapping[str, Any]) -> dict[str, Any]:
    """The group ``wandb`` of a config with what the environment says where it is silent, all of it checked.

    Variables are read where W&B is asked for at all. Name and group stay null where none is given: by default
    they are those of the run and its sweep.

    Args:
        values: of the config, their types checked.

    Raises:
        UserError: names the key or the variable, its value and what is allowed.
    """
    settled = dict(values)
    asked = wished_mode(values["mode"])[0] != "disabled"
    for key, variable in VARIABLES.items():
        where = f"wandb.{key}"
        if asked and settled[key] is None and (text := os.environ.get(variable)):
            where, settled[key] = variable, _spoken(key, text)
        if settled[key] is not None:
            RULES[key](where, settled[key])
    if asked and (url := os.environ.get(BASE_URL)):
        _check_address(url)
    defaults = {"project": "vicinal", "tags": []}
    return {**settled, **{key: value for key, value in defaults.items() if settled[key] is None}}


def unheard(values: Mapping[str, Any]) -> list[str]:
    """The variables of W&B's that are set but have no effect, and why, a line each.

    Args:
        values: of the group ``wandb``, settled.
    """
    mode = values["mode"]
    if wished_mode(mode)[0] == "disabled":
        return []
    said = {name: os.environ[name] for name in (*IGNORED, *VARIABLES.values(), MODE, DISABLED) if os.environ.get(name)}
    reasons = {name: reason for name, reason in IGNORED.items() if hidden(name)}
    for key, variable in VARIABLES.items():
        if variable in said and _spoken(key, said[variable]) != values[key]:
            reasons[variable] = f"wandb.{key}={written(values[key])}"
    if mode != "auto" and MODES.get(said.get(MODE, "")) != mode:
        reasons[MODE] = f"wandb.mode={mode}"
    if mode != "auto" and TRUTHS[said.get(DISABLED, "").lower()]:
        reasons[DISABLED] = f"wandb.mode={mode}"
    return [f"{name} has no effect: {reasons[name]}" for name in said if name in reasons]


def hidden(name: str) -> bool:
    """Whether W&B's own process is not to see a variable, since it goes by what it is told."""
    return name in OWN and not (name in AGENTS and os.environ.get("WANDB_SWEEP_ID"))


def _spoken(key: str, text: str) -> str | list[str]:
    """What a variable says, as the config would."""
    return [tag.strip() for tag in text.split(",")] if key == "tags" else text


def _check_name(where: str, value: str) -> None:
    if not (len(value) <= NAME_LENGTH and value.strip() and value.isprintable()):
        raise ConfigError(where, _shown(value), f"must be 1 to {NAME_LENGTH} printable characters")


def _check_project(where: str, value: str) -> None:
    _check_name(where, value)
    if set(value) & set(RESERVED):
        raise ConfigError(where, _shown(value), f"must have none of the characters {RESERVED}")


def _check_entity(where: str, value: str) -> None:
    _check_project(where, value)
    if " " in value:
        raise ConfigError(where, _shown(value), "must have no spaces")


def _check_notes(where: str, value: str) -> None:
    if len(value) > NOTES_LENGTH or not all(line.isprintable() for line in value.replace("\t", " ").split("\n")):
        raise ConfigError(where, _shown(value), f"must be up to {NOTES_LENGTH} printable characters and line breaks")


def _check_tags(where: str, tags: list[str]) -> None:
    if not all(len(tag) <= TAG_LENGTH and tag.strip() and tag.isprintable() for tag in tags):
        allowed = f"each must be 1 to {TAG_LENGTH} printable characters"
        raise ConfigError(where, list(map(_shown, tags)), allowed)
    if len(set(tags)) < len(tags):
        raise ConfigError(where, list(map(_shown, tags)), "must have no tag twice")


def _check_address(url: str) -> None:
    """Refuse what is no address of a W&B server. The message does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        host, right = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        host, right = "", False
    if host == "wandb.ai" or host.endswith(".wandb.ai"):  # its pages have other addresses than its server
        right = parts.scheme == "https" and "api" in host.split(".")
    if not (right and host.isprintable() and host and " " not in host):
        raise UserError(f"{BASE_URL}: must be the address of a W&B server, such as https://api.wandb.ai")


def _shown(text: str) -> str:
    """``text`` on one line, shortened for a message."""
    clean = visible(text)
    if not text.strip():
        return f"'{clean}'"
    return clean if len(clean) <= NAME_LENGTH // 2 else f"{clean[: NAME_LENGTH // 2]}... ({len(text)} characters)"


RULES: dict[str, Callable[[str, Any], None]] = {
    "project": _check_project,
    "entity": _check_entity,
    "name": _check_name,
    "notes": _check_notes,
    "group": _check_name,
    "tags": _check_tags,
}
