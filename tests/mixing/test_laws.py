"""The law of lambda against scipy's, at its limits, and what it takes from the generator."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vicinal.mixing.beta import symmetric_beta, symmetric_beta_cdf

FINITE = st.floats(min_value=5e-324, max_value=1.7e308, allow_subnormal=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.2, 0.4, 0.5, 1.0, 2.0, 8.0, 32.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_kolmogorov_smirnov_against_scipy(alpha: float, seed: int) -> None:
    draws = symmetric_beta(alpha, 20_000, seeded(seed)).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.1, 0.2, 1.0, 32.0])
def test_distribution_function_away_from_the_ends(alpha: float) -> None:
    """For small alpha most of the mass is closer to 0 and 1 than float64 can tell: compare where it can."""
    count = 100_000
    draws = symmetric_beta(alpha, count, seeded())
    tail = torch.logspace(-12, math.log10(0.5), 200, dtype=torch.float64)
    at = torch.cat([tail, 1 - tail])
    expected = torch.from_numpy(stats.beta(alpha, alpha).cdf(at.numpy()))
    observed = torch.searchsorted(draws.sort().values, at, right=True) / count
    bound = math.sqrt(math.log(2 / 0.001) / (2 * count))  # Dvoretzky-Kiefer-Wolfowitz, at .1 %
    assert (observed - expected).abs().max() < bound


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2, 1.0, 2.0, 8.0, 32.0])
def test_moments(alpha: float) -> None:
    count = 200_000
    centred = symmetric_beta(alpha, count, seeded(2)) - 0.5
    second = 1 / (4 * (2 * alpha + 1))
    fourth = 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))
    assert float(centred.mean()) == pytest.approx(0, abs=4 * math.sqrt(second / count))
    assert float((centred**2).mean()) == pytest.approx(second, abs=4 * math.sqrt((fourth - second**2) / count) + 1e-12)
    assert float((centred**4).mean()) == pytest.approx(fourth, rel=0.02)


@given(alpha=FINITE, seed=st.integers(0, 2**32))
def test_never_nan_and_in_the_unit_interval(alpha: float, seed: int) -> None:
    draws = symmetric_beta(alpha, 64, seeded(seed))
    assert draws.dtype == torch.float64
    assert bool(((draws >= 0) & (draws <= 1)).all())


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_never_nan_in_a_million_draws(alpha: float) -> None:
    draws = symmetric_beta(alpha, 1_000_000, seeded())
    assert bool(((draws >= 0) & (draws <= 1)).all())


def test_limits_of_alpha() -> None:
    tiny = symmetric_beta(1e-6, 10_000, seeded())
    huge = symmetric_beta(1e6, 10_000, seeded())
    assert float(torch.minimum(tiny, 1 - tiny).quantile(0.99)) == 0
    assert float(tiny.mean()) == pytest.approx(0.5, abs=0.02)  # as many zeros as ones
    assert float((huge - 0.5).abs().max()) < 6 * math.sqrt(1 / (4 * (2e6 + 1)))


def test_alpha_zero_mixes_nothing() -> None:
    assert symmetric_beta(0, 5, seeded()).tolist() == [1.0] * 5


@given(alpha=st.one_of(st.just(0.0), FINITE), count=st.integers(1, 40))
def test_every_draw_takes_two_uniforms_whatever_alpha_is(alpha: float, count: int) -> None:
    drawn, replayed = seeded(3), seeded(3)
    symmetric_beta(alpha, count, drawn)
    torch.rand(2 * count, dtype=torch.float64, generator=replayed)
    assert torch.equal(drawn.get_state(), replayed.get_state())


@given(alphas=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), seed=st.integers(0, 2**32))
def test_from_the_same_numbers_a_larger_alpha_mixes_more(alphas: tuple[float, float], seed: int) -> None:
    less, more = (symmetric_beta(alpha, 32, seeded(seed)) - 0.5 for alpha in sorted(alphas))
    assert bool((more.abs() <= less.abs() + 1e-12).all())
    assert torch.equal(less.sign(), more.sign())


@pytest.mark.parametrize(
    ("alpha", "draws"),
    [
        (0.2, [1.0, 0.0014146646717563272, 0.8789759874343872]),
        (1.0, [0.9902912974357605, 0.15490807592868805, 0.6146971583366394]),
    ],
)
def test_golden_draws(alpha: float, draws: list[float]) -> None:
    assert symmetric_beta(alpha, 3, seeded(0)).float().tolist() == draws


@given(alpha=st.floats(1e-6, 1e5), x=st.floats(0, 1, allow_subnormal=False))  # scipy has four digits of those
def test_closed_form_of_the_law_against_scipy(alpha: float, x: float) -> None:
    assert symmetric_beta_cdf(x, alpha) == pytest.approx(stats.beta.cdf(x, alpha, alpha), abs=1e-12)


@given(alpha=FINITE, edge=st.integers(0, 40))
def test_the_law_of_any_alpha_goes_up_from_0_to_1(alpha: float, edge: int) -> None:
    below, here, above = (
        symmetric_beta_cdf(number / 40, alpha) for number in (max(edge - 1, 0), edge, min(edge + 1, 40))
    )
    assert 0 <= below <= here <= above <= 1
    assert (symmetric_beta_cdf(0, alpha), symmetric_beta_cdf(0.5, alpha), symmetric_beta_cdf(1, alpha)) == (0, 0.5, 1)


def test_the_law_without_mixing_is_1() -> None:
    assert [symmetric_beta_cdf(x, 0) for x in (0, 0.5, 0.999, 1)] == [0, 0, 0, 1]
