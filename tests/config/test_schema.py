"""The schema says the same as the files of ``conf/``."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from vicinal.config.schema import CONF, GROUPS, Config, TrainerConfig, WandbConfig


@pytest.mark.parametrize(("group", "schema"), [("trainer", TrainerConfig), ("wandb", WandbConfig)])
def test_the_defaults_of_the_schema_are_those_of_the_file(group: str, schema: type) -> None:
    file = yaml.safe_load((CONF / group / "default.yaml").read_text())
    defaults = {
        item.name: item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
        for item in fields(schema)
    }
    assert file == defaults


def test_the_keys_of_the_root_are_those_of_the_file() -> None:
    file = yaml.safe_load((CONF / "config.yaml").read_text())
    own = [item.name for item in fields(Config) if item.metadata]
    assert {name: file[name] for name in own} == {item.name: item.default for item in fields(Config) if item.metadata}
    chosen = [name for entry in file["defaults"] if isinstance(entry, dict) for name in entry]
    groups = [item.name for item in fields(Config) if not item.metadata and item.name != "_choices_"]
    last = ["dataset", "experiment"]  # they may choose options of the others
    assert [name for name in chosen if not name.startswith("override ")] == [
        *(group for group in groups if group not in last),
        *last,
    ]


def test_every_field_says_what_it_is() -> None:
    for described in (Config, TrainerConfig, WandbConfig, *GROUPS.values()):
        for item in fields(described):
            assert not item.metadata or item.metadata["doc"], f"{described.__name__}.{item.name}"


def test_the_files_are_found_from_the_package() -> None:
    assert Path(__file__).parents[2] / "conf" == CONF
