"""How likely the stack to take is the best one, and what it loses if it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats, Ints

DRAWS = 4000
_SEED = 20240607


@dataclass(frozen=True)
class Odds:
    """What is known of a choice among some cells; NaN where noise is unknown."""

    chance: float
    """The probability that it is the best of them."""
    regret: float
    """If it is not, by how much the best of them is better, in the mean: 0.02 is 2 %."""


def odds(estimates: Estimates, rows: Ints) -> Odds:
    """Say how likely the first of some rows is the best of them.

    The values that the rows may have, given what was measured, are drawn: each row's own error and
    those that rows have in common, by Student's t with the degrees of freedom of its variance
    (the confidence distribution of the differences; with a flat prior the posterior). Rows that
    are surely worse need not be among them.
    """
    if not estimates.known or not np.isfinite(estimates.mean[rows]).all():
        return Odds(float("nan"), float("nan"))
    if len(rows) == 1:
        return Odds(1.0, float("nan"))
    gaps = _drawn(estimates, rows)
    lost = gaps[:, 0] - gaps.min(axis=1)
    wrong = lost > 0
    regret = float(np.expm1(lost[wrong]).mean()) if wrong.any() else float("nan")
    return Odds(1 - float(wrong.mean()), regret)


def _drawn(estimates: Estimates, rows: Ints) -> Floats:
    """Return values that the rows may have, by draw and row, on the log scale."""
    rng = np.random.default_rng(_SEED)
    own, var = estimates.own, estimates.var[rows]
    # A variance that is not well known is not well known for all of its rows at once.
    known = np.where(np.isfinite(estimates.df), estimates.df, 1e9)
    scale = np.sqrt(known / rng.chisquare(known, size=(DRAWS, len(known))))
    spread = np.sqrt(scale[:, :own] ** 2 @ var[:, :own].T)
    alone = rng.standard_normal((DRAWS, len(rows))) * spread
    common = rng.standard_normal((DRAWS, var.shape[1] - own)) * scale[:, own:]
    drawn: Floats = estimates.mean[rows] + alone + common @ np.sqrt(var[:, own:]).T
    return drawn
