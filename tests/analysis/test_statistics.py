"""Statistics against scipy's and statsmodels', and against their formulas written out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from vicinal.analysis.statistics import NAN, compare, holm, least_wilcoxon, summarise

accuracy = st.floats(0, 1, allow_subnormal=False)
grained = st.integers(0, 12).map(lambda hits: hits / 12)
"""Accuracies of a small test set: ties and zeros are the rule."""


def pairs_of(score: st.SearchStrategy[float], most: int) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(score, score), min_size=2, max_size=most)


def spread(values: np.ndarray) -> bool:
    return bool(values.std() > 1e-6)


@given(st.lists(accuracy, min_size=3, max_size=40))
def test_summary_is_the_textbook_formula_and_statsmodels_wilson_interval(values: list[float]) -> None:
    data = np.array(values)
    assume(spread(data))
    n, mean = len(values), sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    about = summarise(values)
    assert about.n == n
    assert (about.mean, about.std) == pytest.approx((data.mean(), data.std(ddof=1)), rel=1e-12)
    assert (about.mean, about.std) == pytest.approx((mean, std), rel=1e-9)
    effective = mean * (1 - mean) / (std**2 / n)  # images, of which a binomial count would vary as much
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, n - 1))
    limits = proportion_confint(mean * effective, effective, alpha, method="wilson")
    assert (about.low, about.high) == pytest.approx(limits, rel=1e-7, abs=1e-12)
    assert 0 <= about.low < about.mean < about.high <= 1


@given(st.lists(st.floats(-20, 20, allow_subnormal=False), min_size=3, max_size=12))
def test_a_score_that_is_no_share_has_students_interval(values: list[float]) -> None:
    data = np.array(values)
    assume(spread(data))
    about = summarise(values, limit=math.inf)
    students = stats.t.interval(0.95, len(values) - 1, data.mean(), stats.sem(data))
    assert (about.low, about.high) == pytest.approx(students, rel=1e-9, abs=1e-9)


def test_near_the_end_the_interval_stays_inside_and_in_the_middle_it_is_students() -> None:
    near, middle = [0.97, 0.99, 0.995], [0.497, 0.5, 0.504]
    assert stats.t.interval(0.95, 2, 0.985, stats.sem(near))[1] > 1
    assert (summarise(near).low, summarise(near).high) == pytest.approx((0.9060, 0.9977), abs=5e-4)
    students = stats.t.interval(0.95, 2, np.mean(middle), stats.sem(middle))
    assert (summarise(middle).low, summarise(middle).high) == pytest.approx(students, abs=1e-5)


def test_two_values_have_a_deviation_and_no_interval() -> None:
    about = summarise([0.97, 0.99])
    assert (about.mean, about.std) == pytest.approx((0.98, 0.02 / math.sqrt(2)))
    assert all(map(math.isnan, (about.low, about.high)))
    found = compare([0.97, 0.99], [0.9, 0.95])
    assert all(map(math.isnan, (found.low, found.high)))
    assert found.p_t == pytest.approx(stats.ttest_rel([0.97, 0.99], [0.9, 0.95]).pvalue)
    assert found.why == "fewer than 3 pairs: no interval"


def test_the_interval_of_a_difference_ends_where_differences_do() -> None:
    found = compare([1.0, 0.0, 1.0], [0.0, 0.1, 0.0])
    assert stats.ttest_rel([1.0, 0.0, 1.0], [0.0, 0.1, 0.0]).confidence_interval(0.95).high > 1
    assert (found.low, found.high) == pytest.approx((-0.9443, 1.0), abs=5e-5)


@given(pairs_of(accuracy, 30))
def test_paired_t_test_is_the_formula_and_scipys(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(pairs).T
    differences = ours - theirs
    assume(spread(differences))
    n = len(pairs)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(n))
    found = compare(ours.tolist(), theirs.tolist())
    assert found.difference == pytest.approx(differences.mean(), abs=1e-12)
    assert found.p_t == pytest.approx(2 * special.stdtr(n - 1, -abs(t)), rel=1e-4, abs=1e-12)
    scipys = stats.ttest_rel(ours, theirs)
    assert found.p_t == pytest.approx(scipys.pvalue, rel=1e-4, abs=1e-12)
    if n > 2:
        limits = np.clip(scipys.confidence_interval(0.95), -1, 1)
        assert (found.low, found.high) == pytest.approx(tuple(limits), abs=1e-9)
        assert found.why == ""


def signed_rank_by_enumeration(differences: list[float]) -> float:
    """Over all 2^n signs, the share with a rank sum at least as far from its mean; zeros are left out."""
    sizes = [abs(value) for value in differences if value]
    ranks = [sum(other < size for other in sizes) + (sum(other == size for other in sizes) + 1) / 2 for size in sizes]
    middle = sum(ranks) / 2
    seen = sum(rank for rank, value in zip(ranks, filter(None, differences), strict=True) if value > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return sum(abs(total - middle) >= abs(seen - middle) for total in sums) / len(sums)


@given(pairs_of(grained, 8))
def test_signed_rank_test_is_the_enumeration_of_all_signs_with_ties_and_zeros(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    exact = [round(12 * (a - b)) for a, b in pairs]  # 12 (a - b) is a whole number: its ties are real ties
    expected = signed_rank_by_enumeration(exact) if any(exact) else 1.0
    assert compare(ours, theirs).p_wilcoxon == pytest.approx(expected, abs=1e-12)


@given(pairs_of(grained, 9))
def test_signed_rank_test_with_ties_is_scipys(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = map(list, zip(*pairs, strict=True))
    differences = np.round(np.subtract(ours, theirs), 12)
    assume(differences.any())
    assert compare(ours, theirs).p_wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue, abs=1e-12)


@given(st.lists(st.integers(-30, 30).filter(bool), min_size=35, max_size=50))
def test_signed_rank_test_with_many_ties_is_near_the_normal_approximation(steps: list[int]) -> None:
    expected = stats.wilcoxon(steps, method="asymptotic").pvalue
    assert compare([step / 360 for step in steps], [0.0] * len(steps)).p_wilcoxon == pytest.approx(expected, abs=0.02)


@given(st.lists(accuracy.filter(bool), min_size=2, max_size=50, unique_by=lambda value: round(value, 12)))
def test_signed_rank_test_without_ties_is_scipys(values: list[float]) -> None:
    ours = [value if index % 3 else -value for index, value in enumerate(values)]
    assume(all(np.round(ours, 12)))
    assert compare(ours, [0.0] * len(ours)).p_wilcoxon == stats.wilcoxon(np.round(ours, 12)).pvalue


def test_students_sleep_data() -> None:
    """R's ``t.test(extra ~ group, data = sleep, paired = TRUE)`` prints p = 0.002833 and -2.4598858 to -0.7001142 h.

    Here in units of 10 h, since differences of accuracies are smaller than 1.
    """
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = compare([hours / 10 for hours in first], [hours / 10 for hours in second])
    assert found.difference == pytest.approx(-0.158)
    assert found.p_t == pytest.approx(0.002833, abs=5e-7)
    assert (10 * found.low, 10 * found.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert found.p_wilcoxon == pytest.approx(2 / 2**9)  # one pair is equal, the other nine have one sign


def test_differences_that_are_equal_on_paper_are_equal() -> None:
    """.9 - .8 and .8 - .7 differ in the last bit; a t-test of that would have p = 0."""
    assert len({0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6}) > 1
    found = compare([0.9, 0.8, 0.7], [0.8, 0.7, 0.6])
    assert math.isnan(found.p_t)
    assert found.p_wilcoxon == 0.25
    assert found.difference == pytest.approx(0.1)
    assert all(map(math.isnan, (found.low, found.high)))
    assert found.why == "the same difference in all pairs: no interval and no t-test"


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e5, 1e9])
def test_what_counts_as_equal_is_relative_to_the_scores(scale: float) -> None:
    before = [scale, 2 * scale, 3 * scale]
    found = compare([value + 1e-6 * scale for value in before], before, math.inf)
    assert found.difference == pytest.approx(1e-6 * scale)
    assert math.isnan(found.p_t)
    assert found.why == "the same difference in all pairs: no interval and no t-test"
    equal = summarise([0.1 * scale + 0.2 * scale, 0.3 * scale, 0.3 * scale], math.inf)
    assert math.isnan(equal.low)
    assert not math.isnan(summarise(before, math.inf).low)


def test_no_difference_at_all_speaks_against_nothing() -> None:
    found = compare([0.5, 0.75], [0.5, 0.75])
    assert (found.n, found.difference, found.p_t, found.p_wilcoxon) == (2, 0.0, 1.0, 1.0)
    assert all(map(math.isnan, (found.low, found.high)))
    assert found.why == "no difference in any pair: no interval"


@pytest.mark.parametrize(("values", "difference"), [([], NAN), ([0.5], 0.25)])
def test_fewer_than_two_pairs_have_no_interval_and_no_test(values: list[float], difference: float) -> None:
    found = compare(values, [0.25] * len(values))
    assert found.difference == pytest.approx(difference, nan_ok=True)
    assert all(map(math.isnan, (found.low, found.high, found.p_t, found.p_wilcoxon)))
    assert found.why == "fewer than two pairs"


def test_one_value_and_equal_values() -> None:
    one = summarise([0.25])
    assert (one.n, one.mean) == (1, 0.25)
    assert all(map(math.isnan, (one.std, one.low, one.high)))
    for values in ([0.1] * 3, [0.1 + 0.2, 0.3]):  # equal, or on paper
        same = summarise(values)
        assert (same.mean, same.std) == pytest.approx((values[-1], 0.0))
        assert all(map(math.isnan, (same.low, same.high)))
    assert math.isnan(summarise([]).mean)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition_and_statsmodels(p_values: list[float]) -> None:
    m = len(p_values)
    order = sorted(range(m), key=p_values.__getitem__)
    expected = [0.0] * m
    for position, index in enumerate(order):
        steps = [(m - earlier) * p_values[order[earlier]] for earlier in range(position + 1)]
        expected[index] = min(1.0, max(steps))
    found = holm(p_values)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found == multipletests(p_values, method="holm")[1].tolist()


def test_an_undefined_test_counts_in_the_family() -> None:
    found = holm([0.01, NAN, 0.04])
    assert found[0] == pytest.approx(0.03)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.08)
    assert holm([]) == []


@pytest.mark.parametrize("n", range(2, 12))
def test_the_least_p_of_the_signed_rank_test_is_reached_where_all_signs_agree(n: int) -> None:
    assert compare([0.01 * (k + 1) for k in range(n)], [0.0] * n).p_wilcoxon == pytest.approx(least_wilcoxon(n))
    assert (least_wilcoxon(n) < 0.05) == (n >= 6)


@pytest.mark.parametrize(("mean", "count"), [(0.9, 100), (0.5, 25)])  # deviations of 0.03 and 0.1
def test_the_interval_covers_the_mean_as_often_as_it_says(mean: float, count: int) -> None:
    draws = np.random.default_rng(0).beta(mean * count, (1 - mean) * count, size=(4000, 5))
    intervals = [summarise(draw) for draw in draws.tolist()]
    covered = np.mean([about.low <= mean <= about.high for about in intervals])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / 4000))
