"""Readings without disturbed ones or without drift: whichever leaves less in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlas.core.disturbed import Bools, Floats, Ints, disturbed
from dlas.core.drift import drift
from dlas.core.least import OF_ROUNDS, of_units, scale


@dataclass(frozen=True)
class Quieted:
    """What was found in the readings."""

    logs: Floats
    """Their logarithms, less the drift where that was taken off."""
    told: Bools
    """Which were measured while the machine was disturbed, where such are left out."""
    kept: Bools
    """Which stand."""


def quieted(
    logs: Floats,
    units: Ints,
    order: Ints,
    groups: Ints,
    columns: Sequence[Ints],
    sessions: Ints,
) -> Quieted:
    """Leave out disturbed readings, or take the drift off, or both, or neither.

    Units with too few undisturbed readings have no say: what is left of theirs is disturbed.

    Args:
        logs: logarithms of the readings.
        units: number of the cell or control that each belongs to.
        order: place in time of each, within its session.
        groups: number of the stratum of each, which may feel the drift more or less.
        columns: by what units may be disturbed together; see
            :func:`dlas.core.disturbed.disturbed`.
        sessions: number of the session of each.
    """
    every = np.ones(len(logs), dtype=bool)
    found = disturbed(logs, units, order, columns, sessions)
    enough = ~np.isin(units, units[found.told & found.kept])
    ways = []
    for told, kept in ((~every, every), (found.told, found.kept)):
        less = logs.copy()
        less[kept] -= drift(logs[kept], units[kept], order[kept], groups[kept], sessions[kept]).at
        own = kept & enough
        for each in (logs, less):
            ways.append((doubt(each[own], units[own]), Quieted(each, told, kept)))
    return min(ways, key=lambda way: way[0])[1]


def doubt(logs: Floats, units: Ints) -> float:
    """Return the sum over units of what is not known of their least of three, as variances.

    A single reading is in doubt as the others are.
    """
    unit = np.unique(units, return_inverse=True)[1]
    sizes = of_units(logs, unit)[1]
    known = np.isfinite(sizes)
    scales = np.array([scale(n, OF_ROUNDS) for n in np.bincount(unit).tolist()])
    mean = float(sizes[known].mean()) if known.any() else 0.0
    return float(np.where(known, sizes, mean) @ scales)
