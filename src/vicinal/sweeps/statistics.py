"""What is said about numbers: intervals of means, paired differences, and p-values corrected for their number.

scipy and statsmodels compute; what they leave undefined (one seed, no spread, only ties) is decided and explained here.
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
DECIMALS = 12
"""Differences are rounded to this many: accuracies are multiples of 1 / images, and .9 - .8 must tie with .8 - .7."""
EXACT = 50
"""Most pairs for which the signed-rank test is exact, as in scipy."""
NAN = math.nan


@dataclass(frozen=True)
class Summary:
    """Of one cell's seeds: the mean, the sample deviation (n - 1) and the interval of the mean; NaN where undefined."""

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Of differences between two cells, seed by seed.

    Attributes:
        n: pairs.
        difference: their mean.
        low: of its interval.
        high: likewise.
        p_t: of the paired t-test, two-sided.
        p_wilcoxon: of the signed-rank test, two-sided.
        why: a p-value is not what the formula gives; "" if both are.
    """

    n: int
    difference: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    why: str


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample deviation and Student's interval of the mean: mean ± t(.975, n - 1) std / sqrt(n) [Student 1908].

    The values are taken for independent draws of a normal distribution. One value has neither deviation nor interval;
    equal values have no interval either, since nothing tells how much they would vary.
    """
    n = len(values)
    mean = exact_mean(values) if n else NAN
    std = stdev(values) if n > 1 else NAN  # in exact arithmetic: equal values have none at all
    low, high = _interval(n, mean, std)
    return Summary(n, mean, std, low, high)


def compare(values: Sequence[float], baseline: Sequence[float]) -> Paired:
    """Differences ``values - baseline``, pair by pair.

    Their mean has a Student interval and a paired t-test (scipy's ``ttest_rel``). The signed-rank test [Wilcoxon 1945]
    is exact up to 50 pairs, with ties too; pairs without a difference are left out of its ranks.

    Where the formulas divide by zero: equal differences have no interval, and no t-test if they are not zero, since
    nothing tells how much they would vary; where all are zero nothing speaks against "no difference", so both p-values
    are 1.
    """
    import numpy as np

    differences = np.round(np.subtract(values, baseline), DECIMALS)
    about = summarise(differences.tolist())
    if about.n < 2:
        return Paired(about.n, about.mean, NAN, NAN, NAN, NAN, "fewer than two pairs")
    if not differences.any():
        return Paired(about.n, 0.0, NAN, NAN, 1.0, 1.0, "no difference in any pair: no interval")
    p_wilcoxon = _signed_rank(differences[differences != 0])
    if about.std == 0:
        why = "the same difference in all pairs: no interval and no t-test"
        return Paired(about.n, about.mean, about.low, about.high, NAN, p_wilcoxon, why)
    from scipy import stats

    p_t = float(stats.ttest_1samp(differences, 0.0).pvalue)  # what ttest_rel does, on the rounded differences
    return Paired(about.n, about.mean, about.low, about.high, p_t, p_wilcoxon, "")


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method [Holm 1979], statsmodels' ``holm``.

    They bound the chance of even one false claim in the family. NaN stays NaN and counts: that a test came out
    undefined must not make the others look better.
    """
    undefined = [math.isnan(p) for p in p_values]
    if all(undefined):
        return [NAN] * len(undefined)
    from statsmodels.stats.multitest import multipletests

    counted = [1.0 if nan else p for p, nan in zip(p_values, undefined, strict=True)]
    corrected = multipletests(counted, method="holm")[1].tolist()
    return [NAN if nan else p for p, nan in zip(corrected, undefined, strict=True)]


def least_wilcoxon(n: int) -> float:
    """The smallest p-value that the two-sided signed-rank test can give with ``n`` pairs: 2 of the 2^n signs."""
    return 2.0 ** (1 - n)


def _signed_rank(differences: FloatArray) -> float:
    """The two-sided p-value of differences that are not zero.

    scipy's test is exact without ties. With ties it tries all signs one by one, which takes seconds, or approximates;
    here the sums of all 2^n signs are counted by the shift algorithm [Streitberg and Röhmel 1986]: ranks, doubled, are
    whole numbers, so each is a polynomial 1 + x^rank, and the product's coefficients are the counts.
    """
    import numpy as np
    from scipy import stats

    ranks = stats.rankdata(np.abs(differences))
    if len(ranks) > EXACT or len(set(ranks)) == len(ranks):
        return float(stats.wilcoxon(differences).pvalue)
    doubled = (2 * ranks).astype(int)
    counts = np.ones(1)
    for rank in doubled:
        counts = np.pad(counts, (0, rank)) + np.pad(counts, (rank, 0))
    positive = doubled[differences > 0].sum()
    tail = counts[: min(positive, doubled.sum() - positive) + 1].sum()
    return min(1.0, float(2 * tail / 2.0 ** len(ranks)))


def _interval(n: int, mean: float, std: float) -> tuple[float, float]:
    if n < 2 or std < 10.0**-DECIMALS:
        return NAN, NAN
    from scipy.special import stdtrit  # what scipy.stats.t.ppf is; scipy.stats takes half a second to import

    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n)
    return mean - half, mean + half
