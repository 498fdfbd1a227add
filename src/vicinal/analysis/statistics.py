"""Intervals of means, paired differences, and p-values corrected for their number.

scipy computes. The cases that it leaves undefined (one seed, no spread, ties alone) are decided and explained here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean as exact_mean
from statistics import stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
INTERVAL = "95 % interval (Wilson's of shares, else Student's, by the deviation between seeds; none for fewer than 3)"
"""Its description in captions."""
DECIMALS = 12
"""Digits of a score that count, from the power of ten above it: accuracies are multiples of 1 / images, and 0.9 - 0.8
must tie with 0.8 - 0.7."""
MOST_EXACT_PAIRS = 50  # the signed-rank test is exact up to this number of pairs, as in scipy
FEWEST = 3  # values that an interval needs. With two, Student's t is 12.7, and the interval says nothing.
NAN = math.nan


@dataclass(frozen=True)
class Summary:
    """Mean, sample deviation (n - 1) and interval of the mean over the seeds of a cell; NaN where undefined."""

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Mean difference of ``n`` pairs with its interval, and two-sided p-values of the t-test and the signed-rank test.

    ``why`` explains a missing p-value or interval; "" if nothing is missing.
    """

    n: int
    difference: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    why: str


def summarise(values: Sequence[float], limit: float = 1.0) -> Summary:
    """Return mean, sample deviation and an interval of the mean within the possible values of a score.

    Accuracies and calibration errors are proportions, and have Wilson's score interval [Wilson 1927], modified as for
    proportions of surveys [Korn and Graubard 1998]: the deviation is the one between runs, each of which is one draw,
    not that of a binomial count of images. It holds the means ``m`` with ``|mean - m| <= t(0.975, n - 1) s / sqrt(n)``,
    where ``s²`` is ``std²`` at the observed mean and elsewhere proportional to ``m (1 - m)``. Where the deviation is
    small beside the distance to 0 and 1, that is Student's own interval [Student 1908], which other scores have.

    One value has neither deviation nor interval, and two have no interval (FEWEST). Equal values have no interval
    either, since they do not show how much further values would vary.

    Args:
        values: of independent runs.
        limit: 1 for proportions, infinity for any other score.
    """
    n = len(values)
    mean = exact_mean(values) if n else NAN
    std = stdev(values) if n > 1 else NAN  # in exact arithmetic: equal values have none at all
    low, high = _inside(n, mean, NAN if negligible(std, mean) else std, limit)
    return Summary(n, mean, std, low, high)


def compare(values: Sequence[float], baseline: Sequence[float], limit: float = 1.0) -> Paired:
    """Test the differences ``values - baseline``, pair by pair.

    Their mean has a paired t-test (scipy's ``ttest_rel``) and its Student interval, cut at -limit and limit, which no
    difference exceeds; two pairs have a test and no interval (FEWEST). The signed-rank test [Wilcoxon 1945] is exact up
    to 50 pairs, with ties too; pairs without a difference are left out of its ranks.

    Where the formulas divide by zero: equal differences have no interval, and no t-test if they are not zero, since
    they do not show how much further ones would vary; if all are zero, nothing contradicts "no difference", so both
    p-values are 1. ``limit`` is the largest possible difference, as in :func:`summarise`.
    """
    import numpy as np

    differences = np.round(np.subtract(values, baseline), _decimals([*values, *baseline]))
    n = len(differences)
    mean = exact_mean(differences.tolist()) if n else NAN
    if n < 2:
        return Paired(n, mean, NAN, NAN, NAN, NAN, "fewer than two pairs")
    if not differences.any():
        return Paired(n, 0.0, NAN, NAN, 1.0, 1.0, "no difference in any pair: no interval")
    p_wilcoxon = _signed_rank(differences[differences != 0])
    std = stdev(differences.tolist())
    if std == 0:
        return Paired(n, mean, NAN, NAN, NAN, p_wilcoxon, "the same difference in all pairs: no interval and no t-test")
    from scipy import stats

    p_t = float(stats.ttest_1samp(differences, 0.0).pvalue)  # what ttest_rel does, on the rounded differences
    half = _half(n, std)
    low, high = max(-limit, mean - half), min(limit, mean + half)
    if math.isnan(half):
        low = high = NAN
    return Paired(n, mean, low, high, p_t, p_wilcoxon, "" if n >= FEWEST else f"fewer than {FEWEST} pairs: no interval")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method [Holm 1979].

    They bound the probability of at least one false claim in the family. NaN stays NaN and counts: an undefined test
    must not make the others look better. statsmodels' function gives the same bits, but takes a second to import and
    runs a garbage collection in every call.
    """
    import numpy as np

    given = np.asarray(p_values, float)
    undefined = np.isnan(given)
    counted = np.where(undefined, 1.0, given)
    order = np.argsort(counted)
    steps = np.maximum.accumulate(counted[order] * np.arange(len(counted), 0, -1))
    corrected = np.empty_like(counted)
    corrected[order] = np.minimum(steps, 1.0)
    return np.where(undefined, NAN, corrected).tolist()  # type: ignore[no-any-return]


def least_wilcoxon(n: int) -> float:
    """Return the smallest p-value of the two-sided signed-rank test with ``n`` pairs: 2 of the 2^n signs."""
    return 2.0 ** (1 - n)


def negligible(std: float, mean: float) -> bool:
    """Return whether a deviation of scores is one of rounding alone."""
    return not math.isnan(std) and std < 10.0 ** -_decimals([mean])


def _decimals(values: Sequence[float]) -> int:
    """Return how many decimals of such scores count."""
    largest = max(map(abs, values), default=0.0)
    return DECIMALS - math.ceil(math.log10(largest)) if largest else DECIMALS


def _signed_rank(differences: FloatArray) -> float:
    """Return the two-sided p-value of differences that are not zero.

    scipy's test is exact without ties. With ties it tries all signs one by one, which takes seconds, or approximates.
    Here the sums of all 2^n signs are counted by the shift algorithm [Streitberg and Röhmel 1986]: doubled ranks are
    whole numbers, each is a polynomial 1 + x^rank, and the coefficients of the product are the counts.
    """
    import numpy as np
    from scipy import stats

    ranks = stats.rankdata(np.abs(differences))
    if len(ranks) > MOST_EXACT_PAIRS or len(set(ranks)) == len(ranks):
        return float(stats.wilcoxon(differences).pvalue)
    doubled = (2 * ranks).astype(int)
    counts = np.ones(1)
    for rank in doubled:
        counts = np.pad(counts, (0, rank)) + np.pad(counts, (rank, 0))
    positive = doubled[differences > 0].sum()
    tail = counts[: min(positive, doubled.sum() - positive) + 1].sum()
    return min(1.0, float(2 * tail / 2.0 ** len(ranks)))


def _inside(n: int, mean: float, std: float, limit: float) -> tuple[float, float]:
    """Return the interval of a mean; if limit is 1, in (0, 1): both roots of a quadratic equation."""
    half = _half(n, std)
    if math.isinf(limit):
        return mean - half, mean + half
    if math.isnan(half) or not 0 < mean < 1:
        return NAN, NAN
    spread = half**2 / (mean * (1 - mean))
    end = 2 * mean + spread + math.sqrt(spread**2 + 4 * mean * spread * (1 - mean))
    return 2 * mean**2 / end, min(1.0, end / (2 * (1 + spread)))


def _half(n: int, std: float) -> float:
    """Return half the width of Student's interval; NaN where there is none."""
    if n < FEWEST:
        return NAN
    from scipy.special import stdtrit  # scipy.stats.t.ppf, without the half second that scipy.stats takes to import

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n)
