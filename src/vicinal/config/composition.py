"""Compose the jobs of a sweep: once to check them, then from a copy of the same files to launch them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from vicinal.config.schema import CONF, GROUPS
from vicinal.errors import UserError

RESOLVER = re.compile(r"\$\{(?!\s*oc\.)[^{}$:]*[{$:]")
"""Where an interpolation calls a resolver that may give something else the next time; OmegaConf's ``oc.*`` do not."""
HYDRA = re.compile(r"\$\{\s*hydra:\s*([\w.]+)\s*\}")
"""A reference to Hydra's own node in a value."""


class Composer(ConfigLoaderImpl):
    """Composes the jobs of a sweep for a launcher, as Hydra does, from files that do not change any more.

    Points that choose the same options differ in single values alone. So Hydra, which takes a tenth of a second,
    composes each choice of options once; the values are set on copies, with its own function.

    Args:
        places: where the files are, ``scheme://path``, the first one first; ``hydra.searchpath`` is among them already.
    """

    _chosen: ClassVar[dict[tuple[str, ...], DictConfig]] = {}
    """A process's own, since a launcher may send the loader to its workers with every job; of one sweep."""

    def __init__(self, places: Iterable[tuple[str, str]]) -> None:
        path = ConfigSearchPathImpl()
        for provider, place in places:
            path.append(provider, place)
        super().__init__(path)

    def _process_config_searchpath(
        self, config_name: str | None, parsed_overrides: list[Override], repo: CachingConfigRepository
    ) -> None:
        """Nothing is added to the search path any more."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        options = self._options(sweep_overrides)
        places = [str(element.path) for element in self.get_search_path().get_path()]
        sweep = (*places, *master_config.hydra.overrides.hydra, str(master_config.hydra.job.config_name))
        key = (*sweep, "", *options)
        if key not in self._chosen:
            if any(known[: len(sweep)] != sweep for known in self._chosen):
                self._chosen.clear()
            self._chosen[key] = super().load_sweep_config(master_config, options)
        config = deepcopy(self._chosen[key])
        self._apply_overrides_to_config([parse(word) for word in sweep_overrides if word not in options], config)
        with open_dict(config.hydra):
            config.hydra.overrides.task = list(sweep_overrides)
            config.hydra.job.override_dirname = self._dirname(config, sweep_overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _options(self, words: Sequence[str]) -> list[str]:
        """The words of a point that choose an option of a group."""
        exists = self.repository.group_exists
        parsed = {word: parse(word) for word in words}
        return [
            word for word, each in parsed.items() if exists(each.key_or_group) and not isinstance(each.value(), dict)
        ]

    @staticmethod
    def _dirname(config: DictConfig, words: Sequence[str]) -> str:
        form = config.hydra.job.config.override_dirname
        parsed = [each for each in map(parse, words) if not each.is_hydra_override()]
        return get_overrides_dirname(parsed, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys)


@cache
def parse(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


@dataclass(frozen=True)
class Seen:
    """A file of a config, and its content when it was first read."""

    path: Path
    content: bytes


class Observer(Composer):
    """The first look at the jobs of a sweep, which remembers the files that they are composed from.

    Args:
        master: what Hydra has composed of the sweep's own words; it says where Hydra looks.
    """

    _chosen: dict[tuple[str, ...], DictConfig]  # type: ignore[misc] # of this look alone: the next one reads again

    def __init__(self, master: DictConfig) -> None:
        sources = master.hydra.runtime.config_sources
        self._places = [(str(each.provider), f"{each.schema}://{each.path}") for each in sources]
        self._chosen = {}
        self.seen: dict[str, Seen] = {}
        """By their names in the config. All files of ``conf/``, and of other folders those that were read."""
        for file in CONF.rglob("*"):
            if file.is_file():
                self._see(CONF, file.relative_to(CONF).as_posix())
        super().__init__(self._places)
        for folder in self._folders():
            for file in (file for group in GROUPS for file in (folder / group).glob("*.yaml")):
                name = file.relative_to(folder).as_posix()
                if name not in self.seen:  # a sweep may cross options, and a key of one is accepted by the others
                    self._see(folder, name)

    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        self._repository: CachingConfigRepository | None = None
        config = super().load_configuration(*arguments, **named)
        assert self._repository is not None
        for key, found in self._repository.cache.items():
            if found is not None and found.path.startswith("file://"):
                name = key.removeprefix("config_path=").removesuffix(".yaml") + ".yaml"
                folder = Path(found.path.removeprefix("file://"))
                if name not in self.seen or self.seen[name].path != (folder / name).resolve():
                    self._see(folder, name)
        return config

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed, self._repository = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        return parsed, self._repository

    def _see(self, folder: Path, name: str) -> None:
        file = (folder / name).resolve()
        self.seen[name] = Seen(file, file.read_bytes())

    def _folders(self) -> list[Path]:
        return [Path(place.removeprefix("file://")) for _, place in self._places if place.startswith("file://")]

    def from_copy(self, conf: Path) -> Composer:
        """The same, from a copy of the files that were seen."""
        others = [(provider, place) for provider, place in self._places if not place.startswith("file://")]
        first = next(i for i, (_, place) in enumerate(self._places) if place.startswith("file://"))
        return Composer([*others[:first], ("main", f"file://{conf}"), *others[first:]])


def resolve_once(master: DictConfig, config: DictConfig) -> tuple[str, ...]:
    """Resolve the values of a job's config that may change between two readings, such as a time or a counter.

    Args:
        master: of the sweep; a time is the same for all its jobs.
        config: of a job, in which the values take the place of the interpolations.

    Returns:
        The values as words, so that the job is launched with those that were checked.

    Raises:
        UserError: a value is known to the launched job alone.
    """
    changing = dict(_changing(config))
    if not changing:
        return ()
    OmegaConf.copy_cache(from_config=master, to_config=config)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # what ${hydra:...} looks into
    try:
        values = {path: _resolved(config, path, text) for path, text in changing.items()}
    finally:
        HydraConfig.instance().cfg = before
    OmegaConf.copy_cache(from_config=config, to_config=master)
    for path, value in values.items():
        OmegaConf.update(config, path, value, merge=False)
    return tuple(f"++{path}={_spelled(value)}" for path, value in values.items())


def _changing(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Keys of the root and of the groups whose value calls a resolver that is not OmegaConf's own, and its text."""
    for name, node in config.items_ex(resolve=False):
        if name != "hydra" and RESOLVER.search(str(node)):
            own = node.items_ex(resolve=False) if OmegaConf.is_dict(node) and not node._is_interpolation() else ()
            texts = {f"{name!s}.{key!s}": str(each) for key, each in own} or {str(name): str(node)}
            yield from ((path, text) for path, text in texts.items() if RESOLVER.search(text))


def _resolved(config: DictConfig, path: str, text: str) -> Any:
    for asked in HYDRA.findall(text):
        if OmegaConf.select(config.hydra, asked) is None:
            reason = f"hydra.{asked} is known only once a job is launched, and a sweep checks its jobs before"
            raise UserError(f"{path}={text}: {reason}")
    return _literal(OmegaConf.select(config, path, throw_on_missing=True))


def _literal(value: Any) -> Any:
    """A value in plain containers, with text that OmegaConf does not take for an interpolation."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return {name: _literal(each) for name, each in value.items()} if isinstance(value, dict) else value


def _spelled(value: Any) -> str:
    """A value as the command line's grammar reads it."""
    if isinstance(value, str):
        return QuotedString(text=value, quote=Quote.single).with_quotes()
    if isinstance(value, list):
        return "[" + ",".join(map(_spelled, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_spelled(each)}" for name, each in value.items()) + "}"
    return "null" if value is None else str(value)


def hidden(hydra: Any) -> Iterator[str]:
    """Yield a line for each of the user's files of a chosen option that another file of the same name hides.

    Args:
        hydra: Hydra's own node of a composed config.
    """
    folders = [Path(each.path) for each in hydra.runtime.config_sources if each.schema == "file"]
    for group, option in hydra.runtime.choices.items():
        files = [file for folder in folders if (file := folder / group / f"{option}.yaml").is_file()]
        for file in files[1:]:
            if CONF not in file.parents and not file.samefile(files[0]):
                yield f"{file} is not used: {files[0]} has the same name and comes first"


def refuse_moving(hydra: Any) -> None:
    """Refuse that jobs change their folder: paths of the config start in the one where the command is typed.

    Args:
        hydra: Hydra's own node of a composed config.

    Raises:
        UserError: says so.
    """
    if hydra.job.chdir:
        raise UserError("hydra.job.chdir=true: must be false; paths start in the folder where the command is typed")
