"""The drift of a machine: what all its readings at a time have in common.

The speed of a shared processor changes in seconds to minutes, and all that is measured meanwhile
changes with it. Cells are measured in shuffled rounds, so that the neighbours in time of a reading
are other cells; what they are off their own means tells what the machine was like at that time.
It is taken off as far as it foretells readings that were left out, and not at all where it does
not surely do so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = (2, 4, 8, 16)
"""Standard deviations of the kernel that are tried, in readings."""
SURE = 20.0
"""Least ratio of what is foretold to what is not, times the readings; by chance in 2 % at most."""
FAR = 3.0
"""Readings farther from their cell's median, in robust standard deviations, count as so far."""
MOST = 2.0
"""Cells feel at most so many times what those around them do."""
LEAST = 8
STEPS = 5


@dataclass(frozen=True)
class SharedDrift:
    """What was found in the readings."""

    at: Floats
    """What to take off the logarithm of each reading; 0 on average over a session."""
    explained: float
    """Share of the variance between the rounds of a cell that it foretells; 0 where none."""


def drift(
    logs: Floats, units: Ints, order: Ints, groups: Ints, sessions: Ints | None = None
) -> SharedDrift:
    """Estimate the drift of each session.

    Each reading is foretold by the others around it: the mean of what they are off the means of
    their cells, with a Gaussian kernel over the order of measuring (Nadaraya 1964, Watson 1964),
    shrunk by least squares in each group, since not all feel the machine alike. The width is the
    one that foretells best.

    Args:
        logs: logarithms of the readings.
        units: number of the cell or control that each belongs to.
        order: place in time of each, within its session.
        groups: number of the group of cells that each belongs to, from 0.
        sessions: number of the session of each; one where None.
    """
    if sessions is None:
        return _of_session(logs, np.unique(units, return_inverse=True)[1], order, groups)
    at, explained = np.zeros(len(logs)), 0.0
    for session in np.unique(sessions):
        own = np.flatnonzero(sessions == session)
        found = drift(logs[own], units[own], order[own], groups[own])
        at[own] = found.at
        explained += found.explained * len(own) / len(logs)
    return SharedDrift(at, explained)


def _of_session(logs: Floats, units: Ints, order: Ints, groups: Ints) -> SharedDrift:
    """Estimate the drift of one session, whose units are numbered from 0."""
    none = SharedDrift(np.zeros(len(logs)), 0.0)
    count = np.bincount(units)[units]
    if len(logs) < LEAST or not np.any(count > 1):
        return none
    place = np.argsort(order, kind="stable")
    sorted_ = (logs[place], units[place], groups[place], count[place])
    best = max((_smoothed(*sorted_, width) for width in WIDTHS), key=lambda d: d.explained)
    if best.explained * int(np.sum(count > 1)) < SURE * (1 - best.explained):
        return none
    back = np.empty(len(logs))
    back[place] = best.at - best.at.mean()
    return SharedDrift(back, best.explained)


def _smoothed(log: Floats, unit: Ints, group: Ints, count: Ints, width: int) -> SharedDrift:
    """Estimate the drift with one kernel from readings in order, cells and drift in turns."""
    known, found, explained = count > 1, np.zeros(len(log)), 0.0
    grown = np.sqrt(count / np.maximum(count - 1, 1))
    for _ in range(STEPS):
        off, far = _off(log - found, unit, count)
        off = np.clip(np.where(known, (found + off) * grown, 0.0), -2 * far, 2 * far)
        told = _around(off, known, width)
        square, along = (np.bincount(group, told * by) for by in (told, off))
        found = np.clip(along / np.maximum(square, 1e-300), 0.0, MOST)[group] * told
        spread = float(off @ off)
        explained = 1 - float(np.sum(((off - found) * known) ** 2)) / spread if spread else 0.0
    return SharedDrift(found, max(explained, 0.0))


def _off(log: Floats, unit: Ints, count: Ints) -> tuple[Floats, float]:
    """Return what readings are off the means of their cells, and how much is far.

    What is far off the median counts as far in the mean, so that one bad reading does not move it.
    """
    cells = np.arange(int(unit.max()) + 1)
    middle = np.asarray(ndimage.median(log, unit, cells), dtype=float)[unit]
    far = FAR * 1.4826 * float(np.median(np.abs(log - middle)[count > 1]))
    more = np.bincount(unit, np.clip(log - middle, -far, far), minlength=len(cells))
    return log - middle - more[unit] / count, far


def _around(off: Floats, known: NDArray[np.bool_], width: int) -> Floats:
    """Return the weighted mean of the other readings around each."""
    reach = np.arange(-3 * width, 3 * width + 1)
    kernel = np.exp(-0.5 * (reach / width) ** 2) * (reach != 0)
    side = 3 * width
    total = np.convolve(off, kernel)[side : side + len(off)]
    weight = np.convolve(known.astype(float), kernel)[side : side + len(off)]
    found: Floats = np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), 0.0)
    return found
