"""The sentinel: a fixed small workload that tells whether the machine is still the same.

It is run every few measurements on the core where one-thread cells run: a matrix product (the
clock and the vector units) and a pass over 32 MB (caches and memory). When it is off its median
by more than 5 %, and by more than three times its own spread on this machine, what was measured
since the last good one is measured once more; see ``dlas.run.rounds``.

The second condition is for machines that are never still. On a virtual machine with busy
neighbours half of the readings were more than 5 % off (standard deviation 15 %): three quarters
of a study were measured twice, at moments no better than the first. What fluctuates so is seen
by the rounds and by the A/A controls; the sentinel is there for what changes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from dlas.run.measure.args import JobArgs

TOLERANCE = 0.05
SPREADS = 3.0
"""A reading that is off by more standard deviations is no fluctuation (0.3 % if normal)."""
_NORMAL = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
ENOUGH = 3
"""Readings before a median means something."""
_SIZE = 384
_WORDS = 8 * 2**20
_REPEATS = 9
"""Repetitions, at least."""
_SECONDS = 0.5
"""Seconds of repetitions, at least. On a virtual machine whose neighbour shares a core the speed
changes by a third for tens of milliseconds at a time; a sentinel of 50 ms called that drift in a
third of its readings, and had as much measured again for nothing."""
_WARM = 2  # not counted: they touch pages and fill caches


def run(args: JobArgs) -> dict[str, float]:
    """Run the workload and return ``seconds``: the median of its repetitions (some ms each).

    The median of short repetitions does not move when one of them is interrupted; it does when
    the machine has become slower or faster. ``args`` is not looked at.
    """
    generator = np.random.default_rng(0)
    a = generator.random((_SIZE, _SIZE), dtype=np.float32)
    b = generator.random((_SIZE, _SIZE), dtype=np.float32)
    block = np.ones(_WORDS, np.float32)
    out = np.empty_like(a)
    times: list[float] = []
    while len(times) < _WARM + _REPEATS or sum(times) < _SECONDS:
        began = time.perf_counter()
        for _ in range(4):
            np.matmul(a, b, out=out)
        block *= 1.0
        times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times[_WARM:])}


class Drift(StrEnum):
    """How a reading compares with the sentinel's median."""

    NONE = "none"
    SLOWER = "slower"
    FASTER = "faster"


def spread(readings: Sequence[float]) -> float:
    """Return the spread of readings over their median: a standard deviation, but robust.

    It is the median absolute deviation, scaled: few bad readings do not widen it.
    """
    middle = statistics.median(readings)
    return _NORMAL * statistics.median(abs(s - middle) for s in readings) / middle


def allowed(readings: Sequence[float], tolerance: float = TOLERANCE) -> float:
    """Return by how much of the median a reading may be off before it counts as drift."""
    return max(tolerance, SPREADS * spread(readings))


class Watch:
    """Judges readings of the sentinel against the median of all so far, itself included.

    Bad readings stay in: a change that lasts becomes the new median once most readings say so.
    The first two are good, as there is no median yet.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._seen: list[float] = []

    def see(self, seconds: float) -> Drift:
        """Take a reading and say whether it is off the median by more than is allowed."""
        self._seen.append(seconds)
        if len(self._seen) < ENOUGH:
            return Drift.NONE
        off = seconds / statistics.median(self._seen) - 1
        if abs(off) <= allowed(self._seen, self._tolerance):
            return Drift.NONE
        return Drift.SLOWER if off > 0 else Drift.FASTER
