"""Repeats that are no rounds: taken back to back, they share what differs from round to round."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.rounds import Units, units_of
from dlas.analyze.estimate.table import Table

LEAST_DF = 8
"""Degrees of freedom of what layers and pairs leave, below which nothing is said."""
TIMES = 4.0
"""By how much the variance of what is left has to be that of the repeats."""
ALPHA = 0.001


def repeats_noted(table: Table, estimates: Estimates, shares: pd.DataFrame) -> tuple[str, ...]:
    """Warn where repeats look as if they were taken back to back.

    Cells differ from what layers and pairs of layers make of them by far more than their repeats
    do, nearly everywhere, and no round has an effect of its own that is common to its cells: the
    repeats then share most of their error, and intervals made of them are too narrow. Studies of
    dlas have real rounds and are not looked at.
    """
    samples = table.samples
    if samples is None or "session" in samples or estimates.kind != "rounds" or table.least:
        return ()
    left = _left(estimates, shares)
    if left is None:
        return ()
    size, df = left
    repeats = float(estimates.var.sum(axis=1)[np.isfinite(estimates.mean)].mean())
    known = float(np.sum(estimates.df))
    if repeats <= 0 or size < TIMES * repeats or stats.f.sf(size / repeats, df, known) > ALPHA:
        return ()
    if _common(units_of(samples[samples["control"] == 0])) < ALPHA:
        return ()
    return (
        f"Cells differ from what layers and pairs of layers make of them by "
        f"{100 * np.sqrt(size):.2g} %, the mean of the repeats of a cell by "
        f"{100 * np.sqrt(repeats):.2g} %, "
        "and the repeats of one number have nothing in common: repeats taken back to back are no "
        "rounds, and intervals made of them are too narrow. Measure all cells once, in a shuffled "
        "order, and then again.",
    )


def _left(estimates: Estimates, shares: pd.DataFrame) -> tuple[float, int] | None:
    """Return the variance that layers and pairs leave, and its degrees of freedom."""
    terms = shares[shares["kind"].isin(["layer", "pair"])]
    rest = shares.loc[shares["kind"] == "rest", "share"]
    y = estimates.mean[np.isfinite(estimates.mean)]
    df = len(y) - 1 - int(terms["df"].sum()) if len(terms) else 0
    if df < LEAST_DF or not len(rest):
        return None
    total = float(((y - y.mean()) ** 2).sum())
    return float(rest.iloc[0]) * total / df, df


def _common(units: Units) -> float:
    """Return the p value of effects that rounds have in common (F test)."""
    rounds, n = int(units.round.max(initial=0)) + 1, len(units.log)
    cell = np.bincount(units.unit, units.log) / units.count
    residual: Floats = units.log - cell[units.unit]
    counts = np.bincount(units.round, minlength=rounds)
    effect = np.bincount(units.round, residual, minlength=rounds) / np.maximum(counts, 1)
    between = float((counts * effect**2).sum())
    spare = n - len(units.row) - rounds + 1
    if rounds < 2 or spare < 1:
        return 1.0
    within = max(float((residual**2).sum()) - between, 0.0)
    if within <= 0:
        return 1.0
    return float(stats.f.sf(between / (rounds - 1) / (within / spare), rounds - 1, spare))
