"""How sure an accuracy is, and whether two differ."""

from __future__ import annotations

from collections.abc import Sequence
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


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of paired differences within -1..1, one for each sample.

    Agresti and Min's (2005): half a sample more of each of the four outcomes. So it is no point
    where no sample differs, and nearly all of -1..1 where there is none.
    """
    n = len(differences) + 2
    mean = sum(differences) / n
    spread = (sum(each * each for each in differences) + 1) / n - mean * mean
    half = Z * sqrt(spread / n)
    return max(-1.0, mean - half), min(1.0, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected for their number, in their order (Holm 1979): the smallest times n, and so on."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
