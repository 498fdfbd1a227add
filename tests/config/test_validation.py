"""Values are brought to their types and checked against their ranges, and messages say what is allowed."""

import re
from dataclasses import fields, make_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicinal.config.keys import key
from vicinal.config.validation import check_ranges, checked, convert, describe_key, describe_range, describe_type
from vicinal.errors import ConfigError, suggest, written

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
    limited = schema("float", low=low, high=high, above=above, below=below)
    if inside:
        check_ranges(limited, {"x": value})
    else:
        with pytest.raises(ConfigError):
            check_ranges(limited, {"x": value})


def test_each_item_of_a_list_is_checked_and_the_whole_list_is_shown() -> None:
    limited = schema("list[float]", low=0, below=1, length=2)
    check_ranges(limited, {"x": [0.0, 0.5]})
    with pytest.raises(ConfigError) as caught:
        check_ranges(limited, {"x": [0.9, 1.0]}, prefix="optimizer.")
    assert str(caught.value) == "optimizer.x=[0.9,1]: each must be a finite number in [0, 1)"
    with pytest.raises(ConfigError) as caught:
        check_ranges(limited, {"x": [0.9]})
    assert str(caught.value) == "x=[0.9]: must be a list of 2 numbers"


def test_a_list_has_its_length_and_a_number_its_range_where_both_are_allowed() -> None:
    both = make_dataclass("Both", [("x", int | list[int], key(1, "", low=1, high=9, length=2))])
    for value in (1, 9, [1, 9]):
        check_ranges(both, {"x": value})
    for value, allowed in {
        0: "must be an integer in [1, 9]",
        (1, 10): "each must be an integer in [1, 9]",
        (1,): "must be an integer or a list of 2 integers",
        (): "must be an integer or a list of 2 integers",
    }.items():
        value = [*value] if isinstance(value, tuple) else value
        with pytest.raises(ConfigError, match=f"^{re.escape(f'x={written(value)}: {allowed}')}$"):
            check_ranges(both, {"x": value})
    assert describe_key("dataset.image_size") == "must be an integer in [1, 65536], or a list of 2 such"
    assert describe_key("dataset.mean") == "must be a list, each a finite number in [-1000000, 1000000]"


def test_null_has_no_range() -> None:
    check_ranges(schema("float | None", above=0), {"x": None})


def test_keys_are_those_of_the_schema_neither_more_nor_fewer() -> None:
    assert checked(schema("int"), {"x": 1}) == {"x": 1}
    with pytest.raises(ConfigError, match=r"^a\.y=2: no such key; allowed: x$"):
        checked(schema("int"), {"x": 1, "y": 2}, "a.")
    with pytest.raises(ConfigError, match=r"^a\.x=\?\?\?: is missing$"):
        checked(schema("int"), {}, "a.")


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


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "an integer"),
        (float | None, "a number or null"),
        (list[float] | None, "a list of numbers or null"),
        (list[str], "a list of strings"),
        (int | str, "an integer or a string"),
        (bool, "true or false"),
        (int | list[int], "an integer or a list of integers"),
    ],
)
def test_types_in_words(hint: object, words: str) -> None:
    assert describe_type(hint) == words


@pytest.mark.parametrize(
    ("value", "hint", "converted"),
    [
        (1, float, 1.0),
        ("2", int, 2),
        ([1, 2], list[float], [1.0, 2.0]),
        (None, float | None, None),
        (5, str, "5"),
        (5, int | list[int], 5),
        (["5", 6], int | list[int], [5, 6]),
        (None, int | list[int] | None, None),
        ([2], int | list[float] | None, [2.0]),
        ("a", list[str] | str, "a"),
        ([1, "a"], list[str] | str, ["1", "a"]),
    ],
)
def test_a_value_is_brought_to_its_type(value: object, hint: object, converted: object) -> None:
    found = convert("a.b", value, hint)
    assert (found, type(found)) == (converted, type(converted))


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, bool),
        (1.5, int),
        ("x", float),
        ("x", list[str]),
        (None, int),
        *((value, int | list[int]) for value in ("x", 1.5, True, None, {})),
        *((value, int | list[int]) for value in ([True], ["x"], [1.5], [None], [[1]])),
    ],
)
def test_a_value_that_cannot_be_brought_to_its_type_is_refused(value: object, hint: object) -> None:
    with pytest.raises(ConfigError, match=r"^a\.b=.*: must be "):
        convert("a.b", value, hint)


@pytest.mark.parametrize(
    ("value", "hint", "key"),
    [(["???"], list[int], "a.b[0]"), ([1, "???"], int | list[int], "a.b[1]"), ({"c": "???"}, dict[str, int], "a.b.c")],
)
def test_a_missing_value_inside_another_is_named(value: object, hint: object, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        convert("a.b", value, hint)
    assert str(refused.value) == f"{key}=???: is missing"


def test_a_value_that_is_met_again_is_converted_as_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are equal in Python are told apart, whichever comes first, and references are looked up anew."""
    for _ in range(2):
        assert repr([convert("k", value, float) for value in (0.0, -0.0, 1)]) == "[0.0, -0.0, 1.0]"
        assert repr([convert("k", value, hint) for value, hint in ((1, int), (True, bool), (1, str))]) == (
            "[1, True, '1']"
        )
        for value, hint in ((True, int), (1, bool), (1.0, int)):
            with pytest.raises(ConfigError):
                convert("k", value, hint)
    for home in ("/a", "/b"):
        monkeypatch.setenv("HOME", home)
        assert convert("k", "${oc.env:HOME}", str) == home
