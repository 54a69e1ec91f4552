"""The undisturbed value: what the least of a few readings comes to, however many there are.

Whatever disturbs a measurement only adds time. The plain least of what was read shuns it, but
sinks with the number of readings, and cells get different numbers of runs and of rounds. So the
least of a *fixed* number stands for it: the mean, over all ways to choose ``k`` of ``n`` readings,
of their least. It is a U-statistic (Hoeffding 1948): its expectation is the same for every
``n >= k``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OF_RUNS = 10
"""Of how many runs of a round the least is taken."""
OF_ROUNDS = 3
"""Of how many rounds the least is taken."""


@lru_cache(4096)
def weights(n: int, k: int) -> Floats:
    """Return what each of ``n`` sorted readings counts in the expected least of ``k`` of them.

    The i-th smallest (from 0) is the least of C(n - 1 - i, k - 1) of the C(n, k) choices. Of fewer
    than ``k`` readings all are chosen.
    """
    k = min(k, n)
    i = np.arange(n - k)
    found: Floats = np.zeros(n)
    found[: n - k + 1] = k / n * np.concatenate([[1.0], np.cumprod((n - k - i) / (n - 1 - i))])
    return found


def expected_least(readings: Floats, k: int) -> Floats:
    """Return the expected least of ``k`` of the readings along the last axis."""
    found: Floats = np.sort(readings, axis=-1) @ weights(readings.shape[-1], k)
    return found


def of_runs(samples: Sequence[float]) -> float:
    """Return the expected least of ten of the runs of a round, in the unit of the samples."""
    return float(expected_least(np.asarray(samples, dtype=float), OF_RUNS))


@cache
def scale(n: int, k: int) -> float:
    """Return the variance of the expected least of ``k`` of ``n`` exponential readings of scale 1.

    Their sorted gaps are independent, the j-th with the scale 1 / (n - j) (Renyi 1953); it counts
    in all choices whose least lies above it. It serves to compare cells with different numbers of
    rounds, and to tell from the least of two what that of three would vary by.
    """
    k = min(k, n)
    above = np.cumsum(weights(n, k)[::-1])[::-1]
    return float(np.sum((above / (n - np.arange(n))) ** 2))


def jackknife(readings: Floats, k: int) -> Floats:
    """Return the variance of :func:`expected_least` along the last axis, each left out in turn.

    With no more than ``k`` readings the least of one fewer is jackknifed, and its variance brought
    to that of ``k`` by :func:`scale`. NaN for one reading.
    """
    n = readings.shape[-1]
    if n < 2:
        return np.full(readings.shape[:-1], math.nan)
    order = min(k, n - 1)
    inside = np.sort(readings, axis=-1)
    less = weights(n - 1, order)
    left_out = np.stack(
        [inside[..., [j for j in range(n) if j != i]] @ less for i in range(n)], axis=-1
    )
    spread = (n - 1) / n * np.sum((left_out - left_out.mean(-1, keepdims=True)) ** 2, axis=-1)
    found: Floats = spread * (scale(n, k) / scale(n, order))
    return found


def doubt(readings: Floats, k: int) -> Floats:
    """Return what is not known of :func:`expected_least` along the last axis, as a variance.

    That of the jackknife, and the square of what the least of ``k`` drawn with replacement would
    be more. The jackknife alone is blind to rare whole bad rounds: with one of four bad, no three
    are all bad, whichever is left out, though three of unlimited rounds would be now and then.
    Drawn with replacement (von Mises 1947) they are, as often as in unlimited rounds like these.
    """
    n = readings.shape[-1]
    left = np.arange(n, 0, -1.0)
    replaced = np.sort(readings, axis=-1) @ ((left**k - (left - 1) ** k) / n**k)
    found: Floats = jackknife(readings, k) + (replaced - expected_least(readings, k)) ** 2
    return found


def size(readings: Floats) -> Floats:
    """Return the size of the noise of rounds along the last axis; NaN for one round.

    Their doubt over that of exponential readings of scale 1 in as many rounds, so that cells with
    other numbers of rounds compare.
    """
    found: Floats = doubt(readings, OF_ROUNDS) / scale(readings.shape[-1], OF_ROUNDS)
    return found


def of_units(readings: Floats, units: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the expected least of three rounds of each unit, and the size of its noise.

    Args:
        readings: one of each round of each unit.
        units: the unit of each, numbered from 0, none without a reading.
    """
    count = np.bincount(units)
    value, noise = np.full(len(count), np.nan), np.full(len(count), np.nan)
    order = np.argsort(units, kind="stable")
    start = np.concatenate([[0], np.cumsum(count)])
    for n in np.unique(count).tolist():
        chosen = np.flatnonzero(count == n)
        own = readings[order[start[chosen][:, None] + np.arange(n)]]
        value[chosen] = expected_least(own, OF_ROUNDS)
        noise[chosen] = size(own)
    return value, noise


def pool(sizes: Floats, most: float) -> tuple[float, float]:
    """Return the mean size of the noise of some cells, and the degrees of freedom behind it.

    Degrees of freedom follow from how much the sizes differ (Satterthwaite 1946: those of a scaled
    chi-square of the same mean and variance), and are at most ``most / 2``, half of what normal
    errors would have, since the jackknife of a least is less exact than a variance.

    Args:
        sizes: the noise of each cell, on one scale; NaN where it is not known.
        most: the rounds of all cells beyond one each.
    """
    known = sizes[np.isfinite(sizes)]
    if not len(known):
        return 0.0, 0.0
    mean = float(known.mean())
    differ = float(known.var(ddof=1)) if len(known) > 1 else 0.0
    seen = 2 * len(known) * mean**2 / differ if differ > 0 else math.inf
    return mean, max(1.0, min(most / 2, seen))


def difference(before: Floats, now: Floats) -> tuple[float, float]:
    """Return how much more the least of a few rounds is now than before, and its variance.

    Of as many rounds on both sides, at most :data:`OF_ROUNDS`; NaN for the variance of one.
    """
    k = min(len(before), len(now), OF_ROUNDS)
    gap = float(expected_least(now, k) - expected_least(before, k))
    return gap, float(jackknife(now, k) + jackknife(before, k))
