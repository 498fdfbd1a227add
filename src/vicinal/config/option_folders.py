"""Options in folders of a group, such as ``mixup=reference/timm``: Hydra composes them, and here it lists them too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hydra._internal import config_loader_impl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigSource

from vicinal.config.schema import CHOOSABLE


def options_of(group: str, listing: Callable[[str, ObjectType], list[str]]) -> list[str]:
    """Return the options of a group by a function that lists one folder; those in a folder begin with its name."""
    inside = (
        f"{folder}/{option}"
        for folder in listing(group, ObjectType.GROUP)
        for option in options_of(f"{group}/{folder}", listing)
    )
    return [*listing(group, ObjectType.CONFIG), *inside]


def options_at(group: str, places: Iterable[str]) -> Iterator[tuple[ConfigSource, str]]:
    """Yield the options of a group in each of the places, ``scheme://path``, with the source that loads them."""
    for place in places:
        source = SourcesRegistry.instance().resolve(place.partition("://")[0])("", place)
        if source.is_group(group):
            yield from ((source, option) for option in options_of(group, source.list))


class Repository(ConfigRepository):
    """Hydra's options, by which it writes help, completes words, reads globs and explains a name that is none.

    Hydra takes a folder in a group for a group of its own, ``mixup/reference=timm``, which nothing chooses from.
    """

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        if group_name not in CHOOSABLE:
            return super().get_group_options(group_name, results_filter)
        return [] if results_filter == ObjectType.GROUP else options_of(group_name, super().get_group_options)


def list_folders() -> None:
    """Let Hydra use :class:`Repository`."""
    config_loader_impl.ConfigRepository = Repository  # type: ignore[attr-defined]
