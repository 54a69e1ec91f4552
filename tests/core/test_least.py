"""The expected least of k: against counting all choices, and against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dlas.core.least import doubt, expected_least, jackknife, pool, scale, weights


@pytest.mark.parametrize(("n", "k"), [(3, 3), (5, 3), (7, 3), (12, 10), (4, 1), (2, 3), (1, 3)])
def test_it_is_the_mean_over_all_choices(n: int, k: int) -> None:
    readings = np.random.default_rng(n * 10 + k).normal(size=n)
    choices = [min(c) for c in itertools.combinations(readings, min(k, n))]
    assert expected_least(readings, k) == pytest.approx(np.mean(choices))
    assert weights(n, k).sum() == pytest.approx(1)


def test_its_expectation_does_not_depend_on_how_many_there_are() -> None:
    rng = np.random.default_rng(4)
    found = [expected_least(rng.exponential(size=(200_000, n)), 3).mean() for n in (3, 5, 12)]
    assert found == pytest.approx([1 / 3] * 3, abs=0.004)
    plain = [rng.exponential(size=(50_000, n)).min(1).mean() for n in (3, 12)]
    assert plain[0] > 3 * plain[1]


@pytest.mark.parametrize(("n", "k"), [(2, 3), (3, 3), (7, 3), (12, 3), (10, 10), (40, 10)])
def test_the_variance_of_exponential_readings(n: int, k: int) -> None:
    drawn = expected_least(np.random.default_rng(n).exponential(size=(100_000, n)), k)
    assert scale(n, k) == pytest.approx(drawn.var(), rel=0.03)


def test_the_jackknife_is_never_narrower_than_exponential_readings_are() -> None:
    rng = np.random.default_rng(9)
    for n, room in ((2, 0.02), (3, 0.6), (7, 0.25), (12, 0.15)):
        found = jackknife(rng.exponential(size=(50_000, n)), 3).mean()
        assert scale(n, 3) * 0.95 < found < scale(n, 3) * (1 + room), n
    assert math.isnan(jackknife(np.array([1.0]), 3))


def test_a_rare_bad_round_is_doubted_though_no_three_are_bad() -> None:
    readings = np.array([0.0, 0.0, 0.0, 1.0])
    assert jackknife(readings, 3) == pytest.approx(0)
    drawn = [min(c) for c in itertools.product(readings, repeat=3)]
    assert doubt(readings, 3) == pytest.approx(np.mean(drawn) ** 2)


def test_pooling_counts_fewer_degrees_of_freedom_where_sizes_differ() -> None:
    same, differ = np.array([1.0] * 6), np.array([0.1] * 5 + [10.0])
    assert pool(same, 18.0) == (1.0, 9.0)
    mean, df = pool(differ, 18.0)
    assert mean == pytest.approx(1.75) and 1 <= df < 3
    assert pool(np.array([np.nan, np.nan]), 4.0) == (0.0, 0.0)
