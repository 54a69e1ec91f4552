"""Disturbed readings: those that were taken while the machine was slow, as their neighbours tell.

A neighbour on the same host takes a core away for seconds to minutes, and all that is measured
meanwhile takes longer, some of it twice as long: too much, and too differently from cell to cell,
to be corrected as a drift (:mod:`dlas.core.drift`). Such readings are told apart and left out.
What tells of a reading is what *other* cells read at that time, never the reading itself, so that
none is left out because it is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDTH = 4
"""Standard deviation of the kernel over the order of measuring, in readings."""
SLOW = 0.05
"""The machine is disturbed while what is around reads so much more, as a logarithm, than in its
quiet times."""
QUIET_TIMES = 0.2
"""At this quantile of what is around a reading the machine is quiet."""
TELLING = 0.25
"""Least share of the variance between the rounds of a cell that the two states must explain."""
SURE = 40.0
"""Least ratio of what they explain to what they do not, times the degrees of freedom. Readings
with nothing but noise of their own (10 %) were told in none of 8,400 sessions of 2 to 60 cells."""
ENOUGH = 2
"""With fewer undisturbed readings all of a unit stand, and its value is in doubt."""
LEAST = 16
"""Fewer readings of a group tell nothing."""


@dataclass(frozen=True)
class Disturbed:
    """What was found in the readings."""

    told: Bools
    """Which readings were taken while the machine was disturbed."""
    kept: Bools
    """Which stand: undisturbed ones, and all of a unit that has less than two of them."""
    more: Floats
    """By reading how much disturbed readings of its group read too much, as a logarithm."""
    links: Bools
    """Which may bring sessions together: undisturbed ones, but not where a unit has too few of
    them in its session. The few that are left there are at the ends of what was disturbed."""


def disturbed(
    logs: Floats, units: Ints, order: Ints, columns: Sequence[Ints], sessions: Ints
) -> Disturbed:
    """Tell which readings were taken while the machine was disturbed.

    What is around a reading is the weighted median of by how much readings of other units, of
    its group, exceed the least of theirs. It is disturbed where that exceeds what it is in quiet
    times; and only if disturbed readings surely take longer than others of their unit.

    Args:
        logs: logarithms of the readings.
        units: number of the cell or control that each belongs to.
        order: place in time of each, within its session.
        columns: by what units may be disturbed together (runtime, threads), each as a number of
            each reading, from 0. All may be, those with the same number in one column, or in every
            column: what explains most is taken, in each session.
        sessions: number of the session of each.
    """
    told, more = np.zeros(len(logs), dtype=bool), np.zeros(len(logs))
    for session in np.unique(sessions):
        own = np.flatnonzero(sessions == session)
        own = own[np.argsort(order[own], kind="stable")]
        unit = np.unique(units[own], return_inverse=True)[1]
        best = (0.0, told[own], more[own])
        for grouping in _groupings(columns, len(logs)):
            found = _by(logs[own], unit, grouping[own])
            best = max(best, found, key=lambda each: each[0])
        told[own], more[own] = best[1:]
    kept = ~told | (_undisturbed(units, told) < ENOUGH)
    there = units * (int(sessions.max(initial=0)) + 1) + sessions
    few = (_undisturbed(there, told) < ENOUGH) & np.isin(there, there[told])
    return Disturbed(told, kept, more, ~told & ~few)


def _undisturbed(of: Ints, told: Bools) -> Ints:
    """Return by reading how many undisturbed ones there are with the same number."""
    number = np.unique(of, return_inverse=True)[1]
    return np.asarray(np.bincount(number, ~told, minlength=1)[number]).astype(np.int64)


def _groupings(columns: Sequence[Ints], readings: int) -> list[Ints]:
    """Return the numbers of groups by reading: one of all, by each column, and by all of them."""
    every = np.zeros(readings, dtype=np.int64)
    joint = every
    for column in columns:
        joint = joint * (int(column.max(initial=0)) + 1) + column
    return [every, *columns, *([joint] if len(columns) > 1 else [])]


def _by(log: Floats, unit: Ints, group: Ints) -> tuple[float, Bools, Floats]:
    """Tell the readings of a session, in order; return the sum of squares that it explains."""
    total, told, more = 0.0, np.zeros(len(log), dtype=bool), np.zeros(len(log))
    count = np.bincount(unit)[unit]
    least = np.full(int(unit.max(initial=-1)) + 1, np.inf)
    np.minimum.at(least, unit, log)
    over = log - least[unit]
    for one in np.unique(group):
        own = np.flatnonzero((group == one) & (count > 1))
        if len(own) < LEAST:
            continue
        around = _around(over[own], unit[own])
        slow = around > np.quantile(around, QUIET_TIMES) + SLOW
        explained, longer = _explained(log[own], unit[own], slow)
        if longer >= SLOW:
            total += explained
            told[own], more[own] = slow, longer
    return total, told, more


def _around(over: Floats, unit: Ints) -> Floats:
    """Return the weighted median of other units' readings around each; 0 without any."""
    reach = np.arange(-3 * WIDTH, 3 * WIDTH + 1)
    place = np.arange(len(over))[:, None] + reach
    there = (place >= 0) & (place < len(over))
    place = np.clip(place, 0, len(over) - 1)
    weight = np.exp(-0.5 * (reach / WIDTH) ** 2) * there * (unit[place] != unit[:, None])
    ranked = np.argsort(over[place], axis=1)
    sum_ = np.cumsum(np.take_along_axis(weight, ranked, axis=1), axis=1)
    middle = np.argmax(sum_ >= sum_[:, -1:] / 2, axis=1)
    chosen = np.take_along_axis(ranked, middle[:, None], axis=1)
    found = np.take_along_axis(over[place], chosen, axis=1)[:, 0]
    return np.where(sum_[:, -1] > 0, found, 0.0)


def _explained(log: Floats, unit: Ints, slow: Bools) -> tuple[float, float]:
    """Return the sum of squares that the state explains, and how much longer it makes readings.

    Within units: log = unit + longer x slow, by least squares. Both 0 where it is not telling.
    """
    units = np.bincount(unit)
    own, state = (
        x - (np.bincount(unit, x) / np.maximum(units, 1))[unit] for x in (log, slow.astype(float))
    )
    square, varies = float(own @ own), float(state @ state)
    if not square or not varies:
        return 0.0, 0.0
    longer = float(state @ own) / varies
    explained = longer**2 * varies
    share = explained / square
    free = len(log) - int(np.count_nonzero(units)) - 1
    if share < TELLING or share * free < SURE * (1 - share):
        return 0.0, 0.0
    return explained, longer
