"""The latency of each cell, as seen and undisturbed, with intervals.

- ``latency_ms``, as seen: the median over rounds of each round's median, what a user of this
  machine gets; its interval is a t interval of the model log(round median) = cell + round + error.
- ``quiet_ms``, undisturbed: the expected least of three rounds of the expected least of ten runs
  (:mod:`dlas.core.least`): neighbours, interrupts and clocks only ever add time.
  Stacks are compared by it; its interval says where unlimited rounds of its session would end.

Both are fitted once (:mod:`dlas.tables.fitted`): the analysis takes the same fits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from dlas.store.results import RoundRow
from dlas.tables.fitted import QUIET, SEEN, Fit, fits, round_ms, round_quiet_ms
from dlas.tables.read import Place, Results, complete

CONFIDENCE = 0.95

MEDIAN_VARIANCE = (
    1.0,
    0.5,
    0.44867,
    0.29824,
    0.28683,
    0.21473,
    0.21045,
    0.16821,
    0.16610,
    0.13833,
)
"""The variance of the median of 1, 2, ... 10 values of a normal distribution of variance 1: a
median of three is less exact than their mean (1/3), and an interval around it has to be wider."""


@dataclass(frozen=True, slots=True)
class Span:
    """A value with its 95 % interval, in milliseconds; None: the noise is not known."""

    ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """What the rounds of one cell on one host say."""

    seen: Span
    quiet: Span
    p90_ms: float
    p99_ms: float
    rounds: int
    samples: int


def median_variance(n: int) -> float:
    """Return the variance of the median of ``n`` values of a standard normal distribution."""
    if n <= len(MEDIAN_VARIANCE):
        return MEDIAN_VARIANCE[n - 1]
    return math.pi / (2 * n)  # its limit for many values, from above


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile as numpy does by default, at a tenth of its cost for few values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def latencies(results: Results) -> dict[Place, Latency]:
    """Return the latency of every cell on every host that has a complete round."""
    found: dict[Place, Latency] = {}
    for seen, quiet in zip(fits(results, SEEN), fits(results, QUIET), strict=True):
        for row, cell in enumerate(seen.cells):
            rounds = complete(results.rounds_of[cell, seen.host])
            if rounds:
                found[cell, seen.host] = _latency(rounds, seen, quiet, row)
    return found


def _latency(rounds: Sequence[RoundRow], seen: Fit, quiet: Fit, row: int) -> Latency:
    pooled = [seconds for r in rounds for seconds in r.samples]
    return Latency(
        seen=_seen(rounds, seen, row),
        quiet=_quiet(rounds, quiet, row),
        p90_ms=quantile(pooled, 0.9) * 1e3,
        p99_ms=quantile(pooled, 0.99) * 1e3,
        rounds=len(rounds),
        samples=len(pooled),
    )


def _seen(rounds: Sequence[RoundRow], fit: Fit, row: int) -> Span:
    ms = statistics.median(round_ms(r) for r in rounds)
    # the model's variance is that of a mean of as many rounds
    wider = len(rounds) * median_variance(len(rounds))
    return _span(math.log(ms), fit, row, wider)


def _quiet(rounds: Sequence[RoundRow], fit: Fit, row: int) -> Span:
    known = fit.estimates is not None and math.isfinite(fit.estimates.mean[row])
    if fit.estimates is None or not known:
        return Span(math.exp(least_of(rounds)), None, None)
    return _span(float(fit.estimates.mean[row]), fit, row, 1.0)


def least_of(rounds: Sequence[RoundRow]) -> float:
    """Return the logarithm of the expected least of three of some rounds."""
    import numpy as np

    from dlas.core.least import OF_ROUNDS, expected_least

    return float(expected_least(np.log([round_quiet_ms(r) for r in rounds]), OF_ROUNDS))


def _span(log: float, fit: Fit, row: int, wider: float) -> Span:
    """Return a value with its interval; ``wider`` is what its variance is of the fit's."""
    ms = math.exp(log)
    if fit.estimates is None:
        return Span(ms, None, None)
    from dlas.analyze.parts.contrasts import satterthwaite

    if not fit.estimates.df[fit.stratum(row)] > 0:
        return Span(ms, None, None)
    var = fit.estimates.var[row]
    half = _t(float(satterthwaite(var, fit.estimates.df))) * math.sqrt(float(var.sum()) * wider)
    if not math.isfinite(half):
        return Span(ms, None, None)
    return Span(ms, ms * math.exp(-half), ms * math.exp(half))


@cache
def _t(df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, df))
