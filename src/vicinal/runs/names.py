"""Names of runs: ids, which are the same for the same request wherever it is made, and readable names for folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from vicinal.config.composition import assigned
from vicinal.config.redaction import TELLING_KEY, redact
from vicinal.config.schema import GROUPS, VIEWS, Config, TrainerConfig
from vicinal.errors import written
from vicinal.runs.files import safe_name

TITLE = ("dataset", "model", "mixup")  # groups whose options begin the name of a run
UNSHOWN_GROUPS = (*TITLE, "experiment", *VIEWS)  # groups whose options do not follow as words of the command line
UNSHOWN_KEYS = {"seed", "trainer.device", "trainer.threads"}
"""Keys that have a place of their own, or say where a run is computed; neutral keys are not shown either."""
LONGEST_RUN, LONGEST_PART = 80, 32
"""Characters of a run's name, and of its part for one key. Parts that do not fit are left out."""


def cell_id(effective: Mapping[str, Any]) -> str:
    """Return ten hex digits of a hash of all that can change a result, except the seed, in typed plain containers."""
    canonical = json.dumps(effective, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def run_id(cell: str, seed: int) -> str:
    return f"{cell}-s{seed}"


def run_name(choices: Mapping[str, str], settings: Mapping[str, Any], words: Iterable[str] = ()) -> str:
    """Return ``digits-cnn-input-alpha0.2-lr0.05``: options, alpha, and what the words of the command line have set."""
    keys = dict.fromkeys(["mixup.alpha", *assigned(words)])
    values = {key: value for key in keys if _shown(key) and (value := _written(settings, key))}
    labels = short(values)
    parts = [_part(labels[key], value) for key, value in values.items()]
    parts += [choices[key] for key in keys if key in choices and key not in UNSHOWN_GROUPS]
    name = "-".join(choices.get(group, "custom") for group in TITLE)
    for part in parts:
        if len(name) + 1 + len(part) <= LONGEST_RUN:
            name = f"{name}-{part}"
    return safe_name(name)


def short(keys: Iterable[str]) -> dict[str, str]:
    """Return {dotted key: its last part}, or the whole key where two have the same."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: part if [*last.values()].count(part) == 1 else key for key, part in last.items()}


def setting(settings: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    """Return the value of a dotted key, or ``otherwise``."""
    value: Any = settings
    for name in key.split("."):
        value = value.get(name, otherwise) if isinstance(value, Mapping) else otherwise
    return value


def _shown(key: str) -> bool:
    group, _, name = key.rpartition(".")
    schema = {"": Config, **GROUPS, "trainer": TrainerConfig}.get(group)
    neutral = {item.name for item in fields(schema) if item.metadata.get("neutral")} if schema else ()
    secret = any(map(TELLING_KEY.search, key.split(".")))
    return not (key in UNSHOWN_KEYS or name in neutral or key.startswith("wandb.") or secret)


def _written(settings: Mapping[str, Any], key: str) -> str:
    """Return the value as the command line spells it, short; "" for a group, or a key that has no effect."""
    value = setting(settings, key, {})
    if isinstance(value, Mapping):
        return ""
    return f"{value:g}" if isinstance(value, float) else redact(written(value))


def _part(label: str, value: str) -> str:
    between = "_" if value[:1].isalpha() or label[-1].isdigit() else ""
    return safe_name(f"{label.strip('_')}{between}{value}", LONGEST_PART).strip("_")
