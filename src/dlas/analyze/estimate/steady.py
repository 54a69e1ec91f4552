"""Rounds without the machine's drift, each stratum at the level that it was measured at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dlas.analyze.estimate.levels import Floats, codes
from dlas.analyze.estimate.rounds import Units, least_of_rounds
from dlas.analyze.estimate.strata import labels
from dlas.analyze.estimate.table import Table
from dlas.core.drift import drift
from dlas.core.least import OF_ROUNDS, pool, scale

LEAST_UNITS = 5
"""A stratum of fewer cells and controls keeps its readings as they are: its level is not known."""


@dataclass(frozen=True)
class Steady:
    """Rounds without drift."""

    units: Units
    var: Floats
    """By unit and error that units have in common, as variances: how well it is known how far a
    stratum moved, the same error for its units; last what the drift leaves unknown of the level,
    the same for all."""
    df: tuple[float, ...] = ()
    """Degrees of freedom behind each."""
    explained: float = 0.0
    """Share of the variance between the rounds of a cell that the drift was; 0 where none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        if not self.explained:
            return ()
        return (
            f"The machine's drift, which all readings of a time have in common, was "
            f"{self.explained:.0%} of the variance between rounds; it is taken off the "
            "undisturbed latency.",
        )


def steadied(table: Table, units: Units) -> Steady:
    """Take the drift of each session off its rounds, where they then agree better.

    It is that of :mod:`dlas.core.drift`. What remains is moved so that the mean of a stratum's
    undisturbed values stays what it was: cells are made comparable, none is made faster. How far
    is known from so many cells: an error that is the same for all of the stratum. So few rounds
    saw only so much of the drift: what the least of three of them is in doubt by is not gone, but
    it is the same for all cells.
    """
    none = Steady(units, np.zeros((len(units.row), 0)))
    if units.order is None or not table.least:
        return none
    before, size = least_of_rounds(units)
    group = codes([np.asarray(labels(table, units, size), dtype=object)], len(units.row))
    enough = np.bincount(group) >= LEAST_UNITS
    of = group[units.unit]
    found = drift(units.log, units.unit, units.order, of, units.session)
    log = units.log - np.where(enough[of], found.at, 0.0)
    explained = found.explained if np.any(log != units.log) else 0.0
    if not explained:
        return none
    after, left = least_of_rounds(replace(units, log=log))
    if np.nansum(left) >= np.nansum(size):
        return none
    moved = before - after
    doubts = least_of_rounds(replace(units, log=units.log - log))[1]
    level, doubt = np.zeros(len(enough)), np.zeros(len(enough))
    columns, df = [], []
    for stratum in np.flatnonzero(enough).tolist():
        own = moved[group == stratum]
        level[stratum] = own.mean()
        columns.append(np.where(group == stratum, own.var(ddof=1) / len(own), 0.0))
        df.append(len(own) - 1.0)
        doubt[stratum] = pool(doubts[group == stratum], math.inf)[0]
    columns.append(doubt[group] * np.array([scale(int(n), OF_ROUNDS) for n in units.count]))
    df.append(pool(doubts, float(np.sum(units.count - 1)))[1])
    steady = replace(units, log=log + level[of])
    return Steady(steady, np.stack(columns, axis=1), tuple(df), explained)
