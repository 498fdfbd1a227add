"""The words of a command line as the axes of a space."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from vicinal.errors import UserError
from vicinal.launch.search_space import Axis, read_space


def axis(word: str) -> Axis:
    [found] = read_space(OverridesParser.create().parse_overrides(["trainer.epochs=3", word]))
    return found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=interval(0.05,8)", FloatDistribution(0.05, 8)),
        ("a=tag(log,interval(0.05,8))", FloatDistribution(0.05, 8, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=range(1,9)", IntDistribution(1, 8)),
        ("a=range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("a=range(8,1,-2)", IntDistribution(2, 8, step=2)),
        ("a=tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
        ("a=range(0,1,0.1)", FloatDistribution(0, 0.9, step=0.1)),
        ("a=shuffle(x,y,z,u,v,w)", CategoricalDistribution(("x", "y", "z", "u", "v", "w"))),
        ("a=sort(y,x)", CategoricalDistribution(("x", "y"))),
        ("a=1,1.0,2,1e0", CategoricalDistribution(("1", "2"))),
        ("a=x,y,x", CategoricalDistribution(("x", "y"))),
        ("a=choice([1,2],[3])", CategoricalDistribution(("[1,2]", "[3]"))),
        ("+a=1,2", CategoricalDistribution(("1", "2"))),
    ],
)
def test_words_are_optunas_distributions(word: str, expected: object) -> None:
    assert axis(word).distribution == expected


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("a=interval(8,0.05)", "the low end must be below the high end, and both finite"),
        ("a=interval(1,1)", "the low end must be below the high end, and both finite"),
        ("a=interval(0,inf)", "the low end must be below the high end, and both finite"),
        ("a=interval(0,nan)", "the low end must be below the high end, and both finite"),
        ("a=tag(log,interval(0,1))", "a logarithmic axis must begin above 0"),
        ("a=tag(log,range(1,9,2))", "only an interval, or a range of integers one by one, can be logarithmic"),
        ("a=tag(log,choice(1,2))", "only an interval, or a range of integers one by one, can be logarithmic"),
        ("a=tag(normal,interval(0,1))", "tag(normal, ...) has no meaning here; allowed: log"),
        ("a=range(3,3)", "there is no value in it to sweep over"),
        ("seed=1,2", "a seed is not chosen by its score; hydra.sweeper.seeds trains each point on several"),
        ("dry_run=true,false", "dry_run is of the whole command, and cannot be swept"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_its_word(word: str, reason: str) -> None:
    with pytest.raises(UserError) as refused:
        axis(word)
    assert str(refused.value) == f"{word}: {reason}"


def test_a_command_without_a_space_is_refused() -> None:
    with pytest.raises(UserError, match=r"there is nothing to search; write mixup\.alpha='interval\(0\.05,8\)'"):
        read_space(OverridesParser.create().parse_overrides(["a=1"]))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_a_settled_value_is_short_close_and_within(low: float, width: float, share: float) -> None:
    high = low + width
    one = Axis("a", low=low, high=high)
    value = min(high, low + share * width)
    settled = one.settled(value)
    assert low <= settled <= high
    assert abs(settled - value) <= width / 100
    assert one.settled(settled) == settled
    assert one.value(one.text(settled)) == settled


def test_values_have_four_digits() -> None:
    assert axis("a=interval(0.05,8)").text(axis("a=interval(0.05,8)").settled(1.9348692130361291)) == "1.935"
    assert axis("a=interval(1e-6,1)").settled(0.0000123456) == 0.00001235
    assert axis("a=int(interval(1,200000))").settled(123456) == 123456
    assert axis("a=range(0,1,0.1)").text(axis("a=range(0,1,0.1)").settled(0.30000000000000004)) == "0.3"


@pytest.mark.parametrize(
    ("word", "known", "foreign"),
    [
        ("a=interval(0.05,8)", {"0.05": 0.05, "8": 8.0, "1": 1.0}, ["8.01", "x", "nan"]),
        ("a=range(1,9,3)", {"4": 4, "4.0": 4}, ["5", "10", "0.5"]),
        ("a=range(0,1,0.1)", {"0.3": 0.3}, ["0.35", "1"]),
        ("a=x,1", {"x": "x", "1.0": "1"}, ["y", "2"]),
    ],
)
def test_a_text_is_read_back_if_it_is_in_the_space(word: str, known: dict[str, object], foreign: list[str]) -> None:
    assert {text: axis(word).value(text) for text in known} == known
    assert [axis(word).value(text) for text in foreign] == [None] * len(foreign)


def test_probes_are_the_ends_and_a_number_that_is_not_whole() -> None:
    assert axis("a=interval(8,64)").probes == ["8", "64", "29.39"]
    assert axis("a=range(1,9,3)").probes == ["1", "7"]
    assert axis("a=x,y").probes == ["x", "y"]
