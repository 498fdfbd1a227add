"""Compose the jobs of a sweep as Hydra does it, and resolve once all values that could change between readings."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from vicinal.config.schema import CONF, KEYS
from vicinal.errors import ConfigError, UserError, written
from vicinal.utils.nested import flat

VALUE = re.compile(r"\+*([^~+@/]+\.[^@/]+|" + "|".join(key for key in KEYS if "." not in key) + ")")
"""Key of a single value: a dotted one, or one at the top of the config that is no group."""
COMPOSITIONS = 32  # cached at once
RESOLVER = re.compile(r"\$\{(?!\s*oc\.)[^{}$:]*[{$:]")  # call of a resolver that is not OmegaConf's: values may change
HYDRA = re.compile(r"\$\{\s*hydra:\s*([\w.]+)\s*\}")  # reference to Hydra's own node in a value


@cache
def parse(word: str) -> Override:
    """Parse one word of the command line."""
    return OverridesParser.create().parse_override(word)


def assigned(words: Iterable[str]) -> dict[str, str]:
    """Return {key: value} of the words of a job; a dict of values, such as ``mixup={alpha:0.2}``, as dotted keys."""
    values: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        key = key.lstrip("+")
        inside = parse(word).value() if value.startswith("{") else None
        values |= {name: written(item) for name, item in flat({key: inside}, ".").items()} if inside else {key: value}
    return values


def composer(loader: ConfigLoader, master: DictConfig) -> Callable[[Sequence[str]], DictConfig]:
    """Return a function that composes words as ``loader.load_sweep_config(master, words)`` does, but faster.

    Jobs that choose the same options differ only in single values. So Hydra, which takes a tenth of a second, composes
    each choice of options once, and the values are set on copies.
    """

    @lru_cache(COMPOSITIONS)
    def base(*words: str) -> bytes:
        return pickle.dumps(loader.load_sweep_config(master, list(words)))  # to be copied, faster than by deepcopy

    def compose(words: Sequence[str]) -> DictConfig:
        values = [parse(word) for word in words if VALUE.fullmatch(word.partition("=")[0])]
        options = [word for word in words if not VALUE.fullmatch(word.partition("=")[0])]
        if any(_overrides(parse(word), values) for word in options):  # then their order counts
            values, options = [], list(words)
        config: DictConfig = pickle.loads(base(*options))
        try:
            for value in values:
                _set(config, value)
        except OmegaConfBaseException:
            return loader.load_sweep_config(master, list(words))  # says what is wrong with which word
        describe(config.hydra, words)
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    return compose


def _overrides(option: Override, values: Sequence[Override]) -> bool:
    """Return whether a word changes, or takes out, keys of a group in which single values are set too."""
    group = option.key_or_group.partition(".")[0]
    changes = option.is_delete() or isinstance(option.value(), dict)
    return changes and any(value.key_or_group.partition(".")[0] == group for value in values)


def _set(config: DictConfig, value: Override) -> None:
    key, added = value.key_or_group, value.is_add()
    if added and OmegaConf.select(config, key, throw_on_missing=False) is not None:
        raise OmegaConfBaseException(f"{key} is there already")
    OmegaConf.update(config, key, value.value(), merge=True, force_add=added or value.is_force_add())


def describe(hydra: DictConfig, words: Sequence[str]) -> None:
    """Write the words of a job into Hydra's own node."""
    form = hydra.job.config.override_dirname
    with open_dict(hydra):
        hydra.overrides.task = list(words)
        hydra.job.override_dirname = get_overrides_dirname(
            list(map(parse, words)), kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
        )


def resolve_calls(master: DictConfig, config: DictConfig) -> None:
    """Replace calls of resolvers, such as a time, by values that ``master`` keeps for all jobs. Raises UserError."""
    calls = dict(_calls(config))
    if not calls:
        return
    OmegaConf.copy_cache(from_config=master, to_config=config)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # what ${hydra:...} looks into
    try:
        values = {path: _resolved(config, path, text) for path, text in calls.items()}
    finally:
        HydraConfig.instance().cfg = before
    OmegaConf.copy_cache(from_config=config, to_config=master)
    for path, value in values.items():
        OmegaConf.update(config, path, value, merge=False)


def _calls(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of each value, of the root or a group, that calls a resolver which is not OmegaConf's."""
    for name, node in config.items_ex(resolve=False):
        if name != "hydra" and RESOLVER.search(str(node)):
            own = node.items_ex(resolve=False) if OmegaConf.is_dict(node) and not node._is_interpolation() else ()
            texts = {f"{name!s}.{key!s}": str(value) for key, value in own} or {str(name): str(node)}
            yield from ((path, text) for path, text in texts.items() if RESOLVER.search(text))


def _resolved(config: DictConfig, path: str, text: str) -> Any:
    for key in HYDRA.findall(text):
        if OmegaConf.select(config.hydra, key) is None:
            reason = f"hydra.{key} is known only once a job is launched, and a sweep checks its jobs before"
            raise UserError(f"{path}={text}: {reason}")
    value = OmegaConf.select(config, path, throw_on_missing=True)
    return literal(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)


def literal(value: Any) -> Any:
    """Return plain containers in which OmegaConf takes no text for an interpolation."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, list):
        return [literal(item) for item in value]
    return {name: literal(item) for name, item in value.items()} if isinstance(value, dict) else value


def hidden(hydra: Any) -> Iterator[str]:
    """Yield a line for each of the user's files of a chosen option that another file of the same name hides."""
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    for group, option in hydra.runtime.choices.items():
        files = [file for folder in folders if (file := folder / group / f"{option}.yaml").is_file()]
        for file in files[1:]:
            if CONF not in file.parents and not file.samefile(files[0]):
                yield f"{file} is not used: {files[0]} has the same name and comes first"


def sweeping_word(hydra: Any) -> str | None:
    """Return the word of a recipe that is a sweep, by ``hydra.sweeper.params``, as ``experiment=methods``; else None.

    Raises ConfigError if the params are no mapping.
    """
    params = hydra.sweeper.get("params")
    if params is not None and not OmegaConf.is_dict(params):
        raise ConfigError("hydra.sweeper.params", params, "must be null or a mapping of keys to values, {seed: '0,1'}")
    if not params:
        return None
    recipe = hydra.runtime.choices.get("experiment")
    return f"experiment={recipe}" if recipe else f"hydra.sweeper.params={written(dict(params))}"


def refuse_moving(hydra: Any) -> None:
    if hydra.job.chdir:
        raise UserError("hydra.job.chdir=true: must be false; paths start in the folder where the command is typed")
