"""The rounds of every cell in two halves: what is chosen on one is read on the other.

The best of many noisy values looks better than it is. A choice made on one half of the rounds and
read on the other does not. Rounds are taken in turns, so that what drifts is in both halves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.rounds import Units, fit
from dlas.analyze.estimate.spared import calmed
from dlas.analyze.estimate.table import Table
from dlas.core.least import OF_ROUNDS, expected_least, scale


@dataclass(frozen=True)
class Halves:
    """Two readings of every row that share no round, each with its noise."""

    one: Estimates
    other: Estimates
    split: bool
    """False: there are no rounds to split, and both are the whole."""
    thin: Bools
    """Rows that have an estimate but too few rounds for two halves; NaN in both."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        n = int(self.thin.sum())
        if not n:
            return ()
        return (
            f"{n} cells have too few rounds for two halves: price, importance and the ways of a "
            "technique, which are chosen on one half of the rounds and read on the other, leave "
            "them out.",
        )


def halves(table: Table, whole: Estimates) -> Halves:
    """Split the rounds of every row in two and estimate each half as the whole was.

    The noise is that of the whole, which was fitted once: a half has fewer rounds, so that its
    variance is larger, by what the estimator's variance is for so many. Where the least of a few
    rounds is taken it is the least of equally many in all halves: as many as the smaller half of
    the cell with fewest rounds holds, but for cells with fewer than four where most have more:
    these have no halves.
    """
    known = np.isfinite(whole.mean)
    if table.samples is None or whole.kind != "rounds":
        return Halves(whole, whole, False, np.zeros(len(known), dtype=bool))
    units, beyond = _apart(table, table.samples)
    logs = units.log if table.least else fit(units).net
    order = np.lexsort((units.round, units.unit))
    rank = np.empty(len(order), dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(units.count)])
    rank[order] = np.arange(len(order)) - start[units.unit[order]]
    count = np.stack([(units.count + 1) // 2, units.count // 2])
    k = _of(table, count[1])
    found = []
    for half in (0, 1):
        chosen = rank % 2 == half
        value, factor = _values(table, units, logs, chosen, count[half], k)
        value[count[1] < k] = np.nan
        found.append(_as_half(whole, units.row, value, factor, beyond))
    thin = known & ~(np.isfinite(found[0].mean) & np.isfinite(found[1].mean))
    return Halves(found[0], found[1], True, thin)


def _apart(table: Table, samples: pd.DataFrame) -> tuple[Units, Floats]:
    """Return the rounds of the cells as the whole took them, without A/A controls.

    And by cell what sessions and disturbed rounds add to its variance, however many rounds there
    are. Where hosts were fitted one by one (:mod:`dlas.tables.fitted`) so they are here.
    """
    apart = table.estimates is not None and "host" in samples
    parts = [part for _, part in samples.groupby("host")] if apart else [samples]
    units, beyond, start = [], [], 0
    for calm in (calmed(table, part) for part in parts):
        own = calm.units.control == 0
        kept = own[calm.units.unit]
        number = (np.cumsum(own) - 1 + start)[calm.units.unit]
        units.append((calm.units, own, kept, number[kept]))
        beyond.append(calm.var()[own])
        start += int(own.sum())
    return Units(
        np.concatenate([each.row[own] for each, own, _, _ in units]),
        np.zeros(start, dtype=np.int64),
        np.concatenate([number for *_, number in units]),
        *(np.concatenate([getattr(each, name)[kept] for each, _, kept, _ in units])
          for name in ("round", "log", "session")),
    ), np.concatenate(beyond)  # fmt: skip


def _of(table: Table, fewer: Ints) -> int:
    """Return of how many rounds the least is taken; else the rounds that a half needs."""
    usual = max(1.0, min(2.0, float(np.median(fewer))))
    some = fewer[fewer >= usual]
    return min(OF_ROUNDS, int(some.min())) if table.least and len(some) else 1


def _values(
    table: Table, units: Units, logs: Floats, chosen: Bools, count: Ints, k: int
) -> tuple[Floats, Floats]:
    """Return by unit the estimate from the chosen rounds, and its variance over the whole's."""
    value, factor = np.full(len(count), np.nan), np.full(len(count), np.nan)
    unit = units.unit[chosen]
    if not table.least:
        there = count > 0
        value[there] = np.bincount(unit, logs[chosen], minlength=len(count))[there] / count[there]
        factor[there] = units.count[there] / count[there]
        return value, factor
    sorted_ = logs[chosen][np.argsort(unit, kind="stable")]
    start = np.concatenate([[0], np.cumsum(count)])
    for n in np.unique(count[count > 0]).tolist():
        own = np.flatnonzero(count == n)
        value[own] = expected_least(sorted_[start[own][:, None] + np.arange(n)], k)
        for u in own.tolist():
            factor[u] = scale(n, k) / scale(int(units.count[u]), OF_ROUNDS)
    return value, factor


def _as_half(
    whole: Estimates, row: Ints, value: Floats, factor: Floats, beyond: Floats
) -> Estimates:
    """Return the estimates of a half by row; what is not known of sessions stays as it is."""
    mean, times = np.full(len(whole.mean), np.nan), np.ones(len(whole.mean))
    mean[row], times[row] = value, np.nan_to_num(factor, nan=1.0)
    mean[~np.isfinite(whole.mean)] = np.nan
    var = whole.var.copy()
    stays = np.zeros_like(var)
    stays[row, whole.stratum[row]] = beyond * whole.inflation**2
    stays = np.minimum(stays, var)
    var[:, : whole.own] += (times[:, None] - 1) * (var - stays)[:, : whole.own]
    return replace(whole, mean=mean, median=mean, var=var)
