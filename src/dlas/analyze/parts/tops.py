"""The best of some stacks beside the best of others, in each group of what is given.

Choices are made on one half of the rounds and the ratio is read on the other, both ways, averaged
on the log, since the best of noisy values looks better than it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import Halves
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.within import meeting


def candidates(table: Table, estimates: Estimates, both: Halves) -> Ints:
    """Return the rows that may be the best: they surely meet the goals; where none does, may."""
    surely, may = meeting(table, estimates)
    usable = (
        np.isfinite(estimates.mean) & np.isfinite(both.one.mean) & np.isfinite(both.other.mean)
    )
    return np.flatnonzero(usable & (surely if (usable & surely).any() else may))


def top(mean: Floats, rows: Ints, which: Bools, group: Ints) -> Ints:
    """Return by group the best of some rows, -1 where there is none."""
    out = np.full(int(group.max(initial=-1)) + 1, -1, dtype=np.int64)
    some = np.flatnonzero(which)
    order = some[np.argsort(-mean[rows[some]], kind="stable")]
    out[group[order]] = rows[order]
    return out


@dataclass(frozen=True)
class TopOverTop:
    """By group the log ratio of the best of some rows over the best of others."""

    value: Floats
    """NaN where either is missing, nothing where they are the same row."""
    ways: Floats
    """The same by way (chosen on one half and read on the other) and group: ``value`` is their
    mean. A single bad round is read one way only."""
    var: Floats
    """Its variance by stratum."""
    apart: Floats
    """What is left in it of each error that cells have in common."""


def top_over_top(both: Halves, rows: Ints, group: Ints, first: Bools, second: Bools) -> TopOverTop:
    """Return by group the log ratio of the best of some rows over the best of others."""
    values, variances, aparts = [], [], []
    for chosen, read in ((both.one, both.other), (both.other, both.one)):
        one, two = (top(chosen.mean, rows, which, group) for which in (first, second))
        there = (one >= 0) & (two >= 0)
        gap = np.where(there & (one != two), read.mean[one] - read.mean[two], 0.0)
        values.append(np.where(there, gap, np.nan))
        some = (there & (one != two))[:, None]
        variances.append(np.where(some, read.gap(one, two), 0.0))
        aparts.append(np.where(some, read.apart(one, two), 0.0))
    # Two halves that share no round are independent; without rounds both are the same. What cells
    # have in common is the same error in both.
    apart = np.mean(aparts, axis=0)
    var = np.mean(variances, axis=0) / (2 if both.split else 1)
    var[:, both.one.own :] = apart**2
    return TopOverTop(np.mean(values, axis=0), np.array(values), var, apart)


def nearer(ways: Floats) -> Floats:
    """Return of two ways (first axis) the value nearer to nothing: what both of them show."""
    found: Floats = np.where(np.abs(ways[0]) <= np.abs(ways[1]), ways[0], ways[1])
    return found
