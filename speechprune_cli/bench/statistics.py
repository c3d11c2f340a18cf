"""How sure an accuracy is, and whether two differ."""

from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)  # standard deviations on either side that hold 95%


def wilson(right: float, n: int) -> tuple[float, float]:
    """95% Wilson interval of the share `right / n`, both ends within 0..1.

    `right` may be a fraction where a question is asked several times; the interval is then a
    little too wide. Of nothing, nothing is known: (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    share, square = right / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z * sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p value of the paired test: how likely chance alone splits them so unevenly.

    `b` and `c` count the samples that one condition got right and the other wrong, and vice versa.
    """
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2 ** (b + c))
