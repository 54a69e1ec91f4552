"""How likely the stack to take is the best one, and what it loses if it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats, Ints

DRAWS = 4000
AT_ONCE = 1_000_000
"""Values that are drawn together: a few arrays of 8 MB."""
_SEED = 20240607


@dataclass(frozen=True)
class Odds:
    """What is known of a choice among some cells; NaN where noise is unknown, or it is alone."""

    chance: float
    """The probability that it is the best of them."""
    regret: float
    """If it is not, by how much the best of them is better, in the median: 0.02 is 2 %."""


NONE = Odds(float("nan"), float("nan"))


def odds(estimates: Estimates, rows: Ints) -> Odds:
    """Say how likely the first of some rows is the best of them.

    The values that the rows may have, given what was measured, are drawn: each row's own error and
    those that rows have in common, by Student's t with the degrees of freedom of its variance
    (the confidence distribution of the differences; with a flat prior the posterior). Rows that
    are surely worse need not be among them. Nothing is said where of some variance nothing is
    known (no degrees of freedom).
    """
    if len(rows) < 2 or not estimates.known or not np.isfinite(estimates.mean[rows]).all():
        return NONE
    rng = np.random.default_rng(_SEED)
    var = estimates.var[rows]
    there = np.flatnonzero((var > 0).any(axis=0))
    df = estimates.df[there]
    if not (np.isfinite(var).all() and (df > 0).all()):
        return NONE
    own = int((there < estimates.own).sum())
    size = max(1, AT_ONCE // len(rows))
    lost = np.concatenate(
        [
            _lost(rng, estimates.mean[rows], var[:, there], df, own, min(size, DRAWS - done))
            for done in range(0, DRAWS, size)
        ]
    )
    wrong = lost > 0
    regret = float(np.expm1(np.median(lost[wrong]))) if wrong.any() else float("nan")
    return Odds(1 - float(wrong.mean()), regret)


def _lost(
    rng: np.random.Generator, mean: Floats, var: Floats, df: Floats, own: int, count: int
) -> Floats:
    """Draw the rows' values; return by draw how far the first is from the best, in logarithms.

    The first ``own`` columns of ``var`` are of errors that each row has for itself.
    """
    # A variance that is not well known is not well known for all of its rows at once.
    known = np.where(np.isfinite(df), df, 1e9)
    scale = np.sqrt(known / rng.chisquare(known, size=(count, len(known))))
    spread = np.sqrt(scale[:, :own] ** 2 @ var[:, :own].T)
    common = rng.standard_normal((count, len(df) - own)) * scale[:, own:]
    drawn = rng.standard_normal((count, len(mean))) * spread
    drawn += mean + common @ np.sqrt(var[:, own:]).T
    found: Floats = drawn[:, 0] - drawn.min(axis=1)
    return found
