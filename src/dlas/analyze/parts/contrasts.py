"""Comparing with everything else equal: contexts, contrasts of cells, their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Floats, Ints, codes
from dlas.analyze.estimate.student import above, quantile
from dlas.analyze.estimate.table import Factor, Table


@dataclass(frozen=True, eq=False)
class Grid:
    """A factor against all contexts: everything else that was chosen.

    Grids are told apart by identity, so that what follows from one can be kept beside it.
    """

    factor: Factor
    levels: tuple[str, ...]
    contexts: pd.DataFrame
    """One row per context: the other layers (and parameters, host) as text."""
    row: Ints
    """Row of ``Table.cells`` by context and level, -1 where no complete cell is."""

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """What contexts are made of, by name."""
        return {str(c): self.contexts[c].to_numpy(dtype=object) for c in self.contexts.columns}

    @cached_property
    def fixed(self) -> list[dict[str, str]]:
        """Each context as a mapping."""
        names, columns = list(self.columns), [c.tolist() for c in self.columns.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] or [
            {} for _ in range(len(self.contexts))
        ]

    @cached_property
    def texts(self) -> list[str]:
        """Each context as text, layer by layer."""
        return [place(fixed) for fixed in self.fixed]


def grid(table: Table, factor: Factor, estimates: Estimates) -> Grid:
    """Lay out the comparable cells of a factor: contexts by levels.

    A grid depends on which cells have an estimate, not on its value: it is made once per table.
    """
    usable = np.isfinite(estimates.mean)
    key = (factor.name, factor.levels, usable.tobytes())
    if key not in table.grids:
        table.grids[key] = _grid(table, factor, usable)
    found = table.grids[key]
    assert isinstance(found, Grid)
    return found


def _grid(table: Table, factor: Factor, usable: Bools) -> Grid:
    if EMPTY not in factor.levels:
        usable = usable & (table.cells[factor.name] != EMPTY).to_numpy(dtype=bool)
    rows = np.flatnonzero(usable)
    frame = _context_frame(table, factor).iloc[rows]
    level = pd.Index(factor.levels).get_indexer(table.cells[factor.name].iloc[rows])
    context = codes([frame[c].to_numpy() for c in frame.columns], len(rows))
    first = np.unique(context, return_index=True)[1]
    row = np.full((len(first), len(factor.levels)), -1, dtype=np.int64)
    row[context, level] = rows
    contexts = frame.iloc[first].reset_index(drop=True)
    return Grid(factor, factor.levels, contexts, row)


def _context_frame(table: Table, factor: Factor) -> pd.DataFrame:
    others = [c for c in table.context_columns if c != factor.layer]
    frame = table.cells[others]
    if factor.name == factor.layer:
        return frame
    if factor.name in table.sublayers:
        own = [c for c in table.sublayers if c.startswith(f"{factor.layer}.")]
        return frame.assign(**{c: table.cells[c] for c in own if c != factor.name})
    extra = {c: table.cells[c] for c in table.siblings(factor)}
    return frame.assign(**{factor.layer: table.inside[factor.layer].kinds}, **extra)


@dataclass(frozen=True)
class Differences:
    """Log ratios of pairs of levels (first over second) in each context; 0 where absent."""

    grid: Grid
    first: Ints
    second: Ints
    there: Floats
    """1.0 by context and pair where both cells are."""
    mean: Floats
    median: Floats
    var: Floats
    """Variance by context, pair and stratum."""
    apart: Floats
    """What is left by context and pair of each error that cells have in common."""


def differences(found: Grid, estimates: Estimates, pairs: Ints | None = None) -> Differences:
    """Return the log ratios of all (or some) pairs of levels in every context."""
    if pairs is None:
        pairs = np.array(np.triu_indices(len(found.levels), 1)).T.reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    a, b = found.row[:, first], found.row[:, second]
    both = (a >= 0) & (b >= 0)
    mean = np.where(both, estimates.mean[a] - estimates.mean[b], 0.0)
    median = np.where(both, estimates.median[a] - estimates.median[b], 0.0)
    var, apart = (of(a, b) * both[:, :, None] for of in (estimates.gap, estimates.apart))
    return Differences(found, first, second, both.astype(float), mean, median, var, apart)


def satterthwaite(var: Floats, df: Floats) -> Floats:
    """Return degrees of freedom of summed variances (last axis: strata), Satterthwaite 1946."""
    total = var.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(var > 0, var**2 / df, 0.0).sum(axis=-1)
        out = np.where(parts > 0, total**2 / parts, np.inf)
    return np.asarray(out, dtype=float)


def upper(value: Floats, var: Floats, estimates: Estimates) -> Floats:
    """Return one-sided p values of contrasts above nothing; their variance is by stratum."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = value / np.sqrt(var.sum(axis=-1))
        return np.asarray(above(t, satterthwaite(var, estimates.df)))


@dataclass(frozen=True)
class Tested:
    """Estimates with their t intervals and two-sided p values; NaN where noise is unknown."""

    value: Floats
    se: Floats
    df: Floats
    low: Floats
    high: Floats
    p: Floats


def tested(
    value: Floats,
    var: Floats,
    estimates: Estimates,
    level: float | Floats = 0.95,
    *,
    median: Floats | None = None,
) -> Tested:
    """Put t intervals around contrasts whose variance is given by stratum (last axis).

    Args:
        value: the contrasts of means over rounds.
        var: their variance by stratum.
        estimates: what is known of the noise.
        level: of the intervals, of all or of each.
        median: the same contrasts of medians over rounds, as a guard against single bad rounds:
            the interval reaches from the lower of both to the higher, and what is tested is the
            smaller of them, nothing where they disagree on the sign.
    """
    value = np.asarray(value, dtype=float)
    if not estimates.known:
        nan = np.full(value.shape, np.nan)
        return Tested(value, nan, nan, nan, nan, nan)
    other = value if median is None else np.asarray(median, dtype=float)
    se = np.sqrt(var.sum(axis=-1))
    df = satterthwaite(var, estimates.df)
    half = quantile((1 + level) / 2, df) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * above(np.abs(smaller(value, other)) / se, df)
    low, high = np.minimum(value, other) - half, np.maximum(value, other) + half
    return Tested(value, se, df, low, high, np.asarray(p))


def smaller(mean: Floats, median: Floats) -> Floats:
    """Return what mean and median over rounds both show: the smaller, 0 where signs differ."""
    size = np.minimum(np.abs(mean), np.abs(median))
    found: Floats = np.where(np.sign(mean) == np.sign(median), np.sign(mean) * size, 0.0)
    return found


@dataclass(frozen=True)
class Average:
    """Log ratios of pairs of levels, averaged over the contexts that hold both."""

    mean: Floats
    median: Floats
    """Of the medians over rounds."""
    var: Floats
    """Variance of ``mean`` by pair and stratum."""
    count: Floats
    """How many contexts."""

    def tested(self, estimates: Estimates) -> Tested:
        """Put guarded intervals around the averages."""
        return tested(self.mean, self.var, estimates, median=self.median)


def average(diff: Differences, estimates: Estimates) -> Average:
    """Return the averages of log ratios over contexts."""
    count = diff.there.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = diff.mean.sum(axis=0) / count
        median = diff.median.sum(axis=0) / count
        var = estimates.averaged(diff.var.sum(axis=0), count, diff.apart.sum(axis=0))
    return Average(mean, median, var, count)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return q values (Benjamini and Hochberg 1995); NaN stays NaN and is not counted."""
    p = np.asarray(p, dtype=float)
    q = np.full(p.shape, np.nan)
    good = np.isfinite(p)
    if good.any():
        q[good] = stats.false_discovery_control(np.clip(p[good], 0, 1))
    return q


def place(fixed: Mapping[str, str]) -> str:
    """Return choices as text, ``layer=level, layer=level``."""
    return ", ".join(f"{c}={v}" for c, v in fixed.items())
