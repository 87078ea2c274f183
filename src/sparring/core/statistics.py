"""95 % intervals: for shares, for means, and for the differences of paired figures."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.special import bdtr, betaincinv, stdtr, stdtrit

from sparring.core.results import Estimate

Z = 1.959963984540054  # the 97.5 % point of the normal distribution
TAIL = 0.025
RISE = 0.01  # a point of accuracy: whoever has less of a rise has nothing to tell
ALIKE = 1e-12  # how far figures that are alike to the last digit may lie apart


def share(successes: int, n: int) -> Estimate:
    """Return a share with its Wilson interval; Clopper-Pearson at 0 % and 100 %, where Wilson's is too short."""
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if successes in (0, n):
        return clopper_pearson(successes, n)
    p = successes / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Estimate(p, centre - half, centre + half, n)


def clopper_pearson(successes: int, n: int) -> Estimate:
    """Return a share with its exact (Clopper-Pearson) interval, which covers at least 95 % whatever the truth."""
    low = float(betaincinv(successes, n - successes + 1, TAIL)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - TAIL)) if successes < n else 1.0
    return Estimate(successes / n, low, high, n)


def mean(values: Sequence[float]) -> Estimate:
    """Return a mean with its t-interval, which is unknown (NaN) for fewer than two values, and for an infinite mean.

    The mean of paired differences is the paired t-test: it is significant at 5 % when the interval leaves out 0.
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    centre = fmean(values)
    if n == 1 or not math.isfinite(centre):
        return Estimate(centre, math.nan, math.nan, n)
    half = float(stdtrit(n - 1, 1 - TAIL)) * stdev(values, centre) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b of two shares measured apart, with Newcombe's interval (1998, method 10).

    Too wide where both are measured on the same images: it errs on the side of "not settled".
    """
    low = a.value - b.value - math.hypot(a.value - a.low, b.high - b.value)
    high = a.value - b.value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(a.value - b.value, low, high, min(a.n, b.n))


def paired_difference(only_one: int, only_other: int, n: int) -> Estimate:
    """Return the difference of two shares of the same `n` examples, of which `only_one` count for the first alone.

    With the adjusted interval of Agresti and Min (2005): that of Wald with half an example more in each of four cells.
    """
    gap = (only_one - only_other) / (n + 2)
    half = Z * math.sqrt(((only_one + only_other + 1) / (n + 2) - gap**2) / (n + 2))
    return Estimate((only_one - only_other) / n, max(gap - half, -1.0), min(gap + half, 1.0), n)


def largest_rise(points: Sequence[tuple[float, Estimate]]) -> tuple[int, int] | None:
    """Return the places of the two points (at, share) between which a curve that should fall rises most.

    Only rises that the intervals do not explain count, and that are of `RISE` at least; None if there is none.
    """
    pairs = [
        (b.value - a.value, i, j)
        for i, (before, a) in enumerate(points)
        for j, (after, b) in enumerate(points)
        if after > before and b.low > a.high and b.value - a.value >= RISE - ALIKE
    ]
    return max(pairs)[1:] if pairs else None


def paired_p(values: Sequence[float]) -> float:
    """Return the two-sided p-value of the paired t-test on differences.

    NaN for fewer than two, if all are alike (but for rounding: 0.61 - 0.51 is not 0.52 - 0.42), and where one is not
    finite.
    """
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)) or max(values) - min(values) < ALIKE:
        return math.nan
    return 2 * float(stdtr(n - 1, -abs(fmean(values)) * math.sqrt(n) / stdev(values)))


def mcnemar_p(only_one: int, only_other: int) -> float:
    """Return the exact two-sided p-value of McNemar's test, of examples that one model alone has right; 1 of none."""
    count = only_one + only_other
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), count, 0.5))) if count else 1.0
