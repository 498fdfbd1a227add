"""W&B's settings of a run: from the config, else from W&B's variables, checked by W&B's own rules.

W&B itself checks when a run starts there, or when it is uploaded, which is too late for a night of training. Nothing
here imports it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from vicinal.errors import ConfigError, UserError, written
from vicinal.utils.escaping import visible

NAME_LENGTH = 128  # largest number of characters of a project, an entity, a run's name or a group
TAG_LENGTH = 64
NOTES_LENGTH = 10_000
RESERVED = "/\\#?%:"
"""Characters that a project or an entity cannot have, since it is part of an address."""

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""{value of ``WANDB_MODE``: mode}; the last two are W&B's old names."""
BOOLEANS = dict.fromkeys(("", "0", "false", "no", "off"), False) | dict.fromkeys(("1", "true", "yes", "on"), True)

VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
}
"""{key: variable that replaces null}."""
MODE, DISABLED, BASE_URL = "WANDB_MODE", "WANDB_DISABLED", "WANDB_BASE_URL"
AGENTS = frozenset({"WANDB_DIR", "WANDB_RUN_ID"})
"""Variables that W&B's agent sets for each run of a W&B sweep; there they keep their effect."""
IGNORED = {
    **dict.fromkeys(("WANDB_DIR", "WANDB_DATA_DIR"), "W&B's files are in the run's folder"),
    "WANDB_RUN_ID": "the id is in the run's folder",
    "WANDB_RESUME": "the run's folder says whether there is something to resume",
    "WANDB_JOB_TYPE": "the job type is always train",
    "WANDB_CONSOLE": "what is printed is not uploaded",
    **dict.fromkeys(("WANDB_SAVE_CODE", "WANDB_DISABLE_CODE"), "code is not uploaded"),
    "WANDB_DISABLE_GIT": "the commit is in the config",
    "WANDB_PROGRAM": "the program is the script that trains",
    **dict.fromkeys(("WANDB_SILENT", "WANDB_QUIET"), "W&B prints nothing"),
}
"""{variable: why it has no effect}: the program sets these itself."""
OWN = frozenset({*VARIABLES.values(), *IGNORED})  # variables whose values W&B gets from the program


def agent_run() -> str | None:
    """Return W&B's id of the run for which an agent of a W&B sweep has started this process; None outside of one."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def requested_mode(mode: str) -> tuple[str, str]:
    """Return the mode that is asked for, and by what, in words. Reads the environment and imports nothing.

    ``auto`` is the value of ``WANDB_DISABLED`` or ``WANDB_MODE`` where one of them is set, and online otherwise. Raises
    ConfigError if a variable has a value that W&B refuses, whatever the config says.
    """
    disabled, asked = os.environ.get(DISABLED, ""), os.environ.get(MODE, "")
    if mode == "disabled":
        return mode, f"wandb.mode={mode}"
    if disabled.lower() not in BOOLEANS:
        raise ConfigError(DISABLED, _shown(disabled), "must be true or false")
    if asked and asked not in MODES:
        raise ConfigError(MODE, _shown(asked), "must be one of online, offline, disabled")
    if mode != "auto":
        return mode, f"wandb.mode={mode}"
    if BOOLEANS[disabled.lower()]:
        return "disabled", f"{DISABLED}={disabled}"
    return (MODES[asked], f"{MODE}={asked}") if asked else ("online", "logged in")


def with_variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config group ``wandb`` with W&B's variables in place of null, all of it checked.

    Variables count unless W&B is disabled. Name and group stay null where none is given: by default they are those of
    the run and its sweep. Raises UserError, which names the key or the variable, its value and what is allowed.
    """
    result = dict(values)
    enabled = requested_mode(values["mode"])[0] != "disabled"
    for key, variable in VARIABLES.items():
        source = f"wandb.{key}"
        if enabled and result[key] is None and (text := os.environ.get(variable)):
            source, result[key] = variable, _parsed(key, text)
        if result[key] is not None and (allowed := _refusal(key, result[key])):
            raise ConfigError(source, _shown(result[key]), allowed)
    if enabled and (url := os.environ.get(BASE_URL)):
        _check_address(url)
    defaults = {"project": "vicinal", "tags": []}
    return {**result, **{key: value for key, value in defaults.items() if result[key] is None}}


def ineffective_variables(values: Mapping[str, Any]) -> list[str]:
    """Return one line per variable of W&B's that is set but has no effect on these settings, with the reason."""
    mode = values["mode"]
    if requested_mode(mode)[0] == "disabled":
        return []
    reasons = {name: reason for name, reason in IGNORED.items() if hidden(name)}
    for key, variable in VARIABLES.items():
        if _parsed(key, os.environ.get(variable, "")) != values[key]:
            reasons[variable] = f"wandb.{key}={written(values[key])}"
    if mode != "auto" and MODES.get(os.environ.get(MODE, "")) != mode:
        reasons[MODE] = f"wandb.mode={mode}"
    if mode != "auto" and BOOLEANS[os.environ.get(DISABLED, "").lower()]:
        reasons[DISABLED] = f"wandb.mode={mode}"
    return [f"{name} has no effect: {reason}" for name, reason in reasons.items() if os.environ.get(name)]


def hidden(name: str) -> bool:
    """Return whether W&B's own process does not see a variable, since the program sends its value."""
    return name in OWN and not (name in AGENTS and os.environ.get("WANDB_SWEEP_ID"))


def _parsed(key: str, text: str) -> str | list[str]:
    """Return the value of a variable as the config would have it."""
    return [tag.strip() for tag in text.split(",")] if key == "tags" else text


def _refusal(key: str, value: Any) -> str | None:
    """Return the rule that a value breaks, in words; None if it breaks none."""
    if key == "notes":
        if len(value) > NOTES_LENGTH or not value.replace("\t", " ").replace("\n", " ").isprintable():
            return f"must be up to {NOTES_LENGTH} printable characters and line breaks"
    elif key == "tags":
        if not all(_printable(tag, TAG_LENGTH) for tag in value):
            return f"each must be 1 to {TAG_LENGTH} printable characters"
        if len(set(value)) < len(value):
            return "must have no tag twice"
    elif not _printable(value, NAME_LENGTH):
        return f"must be 1 to {NAME_LENGTH} printable characters"
    elif key in {"project", "entity"} and set(value) & set(RESERVED):
        return f"must have none of the characters {RESERVED}"
    elif key == "entity" and " " in value:
        return "must have no spaces"
    return None


def _printable(text: str, longest: int) -> bool:
    return len(text) <= longest and text.strip() != "" and text.isprintable()


def _check_address(url: str) -> None:
    """Refuse what is no address of a W&B server. The message does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        host, valid = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        host, valid = "", False
    if host == "wandb.ai" or host.endswith(".wandb.ai"):  # its pages have other addresses than its server
        valid = parts.scheme == "https" and "api" in host.split(".")
    if not (valid and host.isprintable() and host and " " not in host):
        raise UserError(f"{BASE_URL}: must be the address of a W&B server, such as https://api.wandb.ai")


def _shown(value: str | list[str]) -> str | list[str]:
    """Return a text, or each text of a list, on one line and shortened for a message."""
    if isinstance(value, list):
        return [str(_shown(text)) for text in value]
    clean = visible(value)
    if not value.strip():
        return f"'{clean}'"
    return clean if len(clean) <= NAME_LENGTH // 2 else f"{clean[: NAME_LENGTH // 2]}... ({len(value)} characters)"
