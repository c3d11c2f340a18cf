"""Intervals and paired tests against scipy's."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from speechprune_cli.bench.statistics import Z, holm, mcnemar, paired_interval, wilson

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
shares = st.tuples(st.floats(0, 1), st.integers(1, 2000))


@settings(deadline=None)
@given(counts)
def test_wilson_is_scipy_s(count):
    right, n = count
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(deadline=None)
@given(shares)
def test_an_interval_holds_its_share_and_mirrors_its_complement(pair):
    share, n = pair
    low, high = wilson(share * n, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert wilson((1 - share) * n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@settings(deadline=None)
@given(shares)
def test_more_samples_narrow_an_interval(pair):
    share, n = pair
    few, many = wilson(share * n, n), wilson(share * 4 * n, 4 * n)
    assert many[1] - many[0] < few[1] - few[0]


def test_of_no_samples_nothing_is_known():
    assert wilson(0, 0) == (0, 1)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_scipy_s_binomial_test(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-6)
    assert mcnemar(b, c) == mcnemar(c, b)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30))
def test_corrected_p_values_keep_their_order_and_only_grow(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    assert sorted(corrected) == [c for _, c in sorted(zip(p_values, corrected, strict=True))]
    if p_values:
        assert min(corrected) == min(1, len(p_values) * min(p_values))


def test_holm_s_own_way_of_counting():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_the_interval_of_a_difference_is_agresti_and_min_s(b, c, same):
    """By their own formula: b and c the samples that only one of the two got right."""
    n = b + c + same + 2
    difference = (b - c) / n
    half = Z * sqrt(b + c + 1 - (b - c) ** 2 / n) / n
    low, high = paired_interval([1.0] * b + [-1.0] * c + [0.0] * same)
    assert low == pytest.approx(max(-1, difference - half))
    assert high == pytest.approx(min(1, difference + half))
    assert low < high


def test_of_no_pairs_nothing_is_known():
    assert paired_interval([]) == pytest.approx((-0.98, 0.98), abs=0.01)


def test_many_samples_that_differ_do_not_overflow():
    assert 0 < mcnemar(2000, 1800) < 0.002
    assert mcnemar(5000, 0) == 0.0
