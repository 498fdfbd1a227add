"""The schema: what it says about ranges, and that the files and it say the same."""

from dataclasses import MISSING, fields, make_dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vicinal.config.schema import (
    CONF,
    GROUPS,
    Config,
    TrainerConfig,
    WandbConfig,
    check_keys,
    check_ranges,
    describe_range,
    key,
    suggest,
)
from vicinal.errors import ConfigError, written

INTERVALS = {
    "an integer >= 1": ("int", {"low": 1}),
    "a finite number > 0": ("float", {"above": 0}),
    "a finite number in [0, 1]": ("float", {"low": 0, "high": 1}),
    "a finite number in [0, 1)": ("float", {"low": 0, "below": 1}),
    "null or a finite number > 0": ("float | None", {"above": 0}),
    "auto or an integer >= 1": ("int | str", {"low": 1, "choices": ("auto",)}),
    "one of a, b": ("str", {"choices": ("a", "b")}),
}


def schema(hint: str, **limits: object) -> type:
    return make_dataclass("Schema", [("x", hint, key(None, "a doc", **limits))])


@pytest.mark.parametrize(("words", "limits"), INTERVALS.items())
def test_a_range_in_words(words: str, limits: tuple[str, dict[str, object]]) -> None:
    hint, given_limits = limits
    assert describe_range(fields(schema(hint, **given_limits))[0]) == words


@given(
    value=st.floats(allow_nan=True, allow_infinity=True),
    low=st.none() | st.floats(-3, 3),
    high=st.none() | st.floats(-3, 3),
    above=st.none() | st.floats(-3, 3),
    below=st.none() | st.floats(-3, 3),
)
def test_a_number_is_allowed_if_and_only_if_it_is_finite_and_in_all_of_its_limits(
    value: float, low: float | None, high: float | None, above: float | None, below: float | None
) -> None:
    inside = (
        abs(value) < float("inf")
        and (low is None or low <= value)
        and (high is None or value <= high)
        and (above is None or above < value)
        and (below is None or value < below)
    )
    checked = schema("float", low=low, high=high, above=above, below=below)
    if inside:
        check_ranges(checked, {"x": value})
    else:
        with pytest.raises(ConfigError):
            check_ranges(checked, {"x": value})


def test_each_item_of_a_list_is_checked_and_the_whole_list_is_shown() -> None:
    checked = schema("list[float]", low=0, below=1, length=2)
    check_ranges(checked, {"x": [0.0, 0.5]})
    with pytest.raises(ConfigError) as caught:
        check_ranges(checked, {"x": [0.9, 1.0]}, prefix="optimizer.")
    assert str(caught.value) == "optimizer.x=[0.9,1]: each must be a finite number in [0, 1)"
    with pytest.raises(ConfigError) as caught:
        check_ranges(checked, {"x": [0.9]})
    assert str(caught.value) == "x=[0.9]: must be a list of 2"


def test_null_has_no_range() -> None:
    check_ranges(schema("float | None", above=0), {"x": None})


def test_keys_are_those_of_the_schema_neither_more_nor_fewer() -> None:
    check_keys(schema("int"), {"x": 1})
    with pytest.raises(ConfigError, match=r"^a\.y=2: no such key; allowed: x$"):
        check_keys(schema("int"), {"x": 1, "y": 2}, "a.")
    with pytest.raises(ConfigError, match=r"^a\.x=\?\?\?: is missing$"):
        check_keys(schema("int"), {}, "a.")


def test_suggestions() -> None:
    assert suggest("aplha", ["prob", "alpha"]) == "did you mean alpha? allowed: prob, alpha"
    assert suggest("zzz", ["prob", "alpha"]) == "allowed: prob, alpha"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.0, "1"),
        (5e-4, "0.0005"),
        (0.30000000000000004, "0.3"),
        (float("nan"), "nan"),
        ("a b", "a b"),
        ([0.1, [None, "x"]], "[0.1,[null,x]]"),
        ({"a": [1]}, "{a:[1]}"),
    ],
)
def test_values_are_written_as_the_command_line_spells_them(value: object, text: str) -> None:
    assert written(value) == text


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
    assert [name for name in chosen if not name.startswith("override ")] == [*groups, "experiment"]


def test_every_field_says_what_it_is() -> None:
    for described in (Config, TrainerConfig, WandbConfig, *GROUPS.values()):
        for item in fields(described):
            assert not item.metadata or item.metadata["doc"], f"{described.__name__}.{item.name}"


def test_the_files_are_found_from_the_package() -> None:
    assert Path(__file__).parents[2] / "conf" == CONF
