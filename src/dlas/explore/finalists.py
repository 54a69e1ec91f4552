"""The stacks that may still be the answer, and what can be said between two of them.

A stack is chosen by what was measured so far, and what was measured so far flatters it. What is
said of it in the end rests on rounds that the choice did not look at (``settling.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.parts.contrasts import tested
from dlas.explore import improvement
from dlas.explore.anova import Floats
from dlas.explore.sought import Sought
from dlas.run.plan.plan import Runnable

FLOOR = 0.05
"""Ratio less one below which nothing counts, as long as no A/A controls have told."""
ONE_ROUND = 0.1
"""The same between two stacks that were measured in one round each: neither is known better."""
ALPHA = 0.05


@dataclass(frozen=True)
class Contender:
    """A stack that may be the answer, and what was known of it when it was chosen."""

    cell: Runnable
    values: Mapping[str, float]
    """Every column sought."""
    sure: bool = True
    """Whether it surely meets the limits: the best that does goes before what only may."""


def contenders(
    known: Sequence[Contender], sought: Sought, floor: float = ONE_ROUND
) -> list[Contender]:
    """Return the stacks that no other is better than by more than the floor, in every metric.

    Only those that meet the limits, those on times by the floor too; where none does, none. One
    that surely meets them is not left out for one that only may.
    """
    good = [each for each in known if may_meet(each.values, sought, floor)]
    if not good:
        return []
    points = np.array(
        [[*(_cost(each, c, s) for c, s in sought.metrics), _unsure(each)] for each in good]
    )
    margin = np.array([*(math.log1p(floor) if _timed(c) else 0.0 for c, _ in sought.metrics), 0])
    kept = []
    for point, each in zip(points, good, strict=True):
        worse = np.all(points + margin <= point, axis=1) & np.any(points + margin < point, axis=1)
        if not worse.any():
            kept.append(each)
    return kept


def may_meet(values: Mapping[str, float], sought: Sought, floor: float) -> bool:
    """Return whether a stack meets every limit, or misses one on a time by no more than noise."""
    return all(
        sign * values[c] <= sign * bound * (1 + sign * floor if _timed(c) else 1)
        for c, sign, bound in sought.limits
    )


def _cost(each: Contender, column: str, sign: float) -> float:
    value = each.values[column]
    return sign * (math.log(max(value, 1e-300)) if _timed(column) else value)


def _unsure(each: Contender) -> float:
    """Return one more metric, less is better: whether it is not sure that the limits are met."""
    return 0.0 if each.sure else 1.0


def _timed(column: str) -> bool:
    return column.endswith(("_ms", "_s", "_mj"))


# ---------------------------------------------------------------- between two stacks


@dataclass(frozen=True)
class Standing:
    """How contenders stand to each other."""

    beaten: NDArray[np.bool_]
    """Which are surely worse than another: no worse than it in nothing, and surely slower."""
    open: bool
    """Whether some of the others may yet turn out to be."""


def standing(
    known: Sequence[Contender],
    sought: Sought,
    estimates: Estimates,
    rows: Sequence[int],
    looks: int = 1,
) -> Standing:
    """Hold contenders against those of them that are on the front.

    The latency is the one metric with noise: a stack is beaten by one that is at
    least as good in all other metrics (and as sure of the limits) and surely faster. Two stacks
    whose ratio is surely within the floor are level: more rounds would decide nothing that counts.

    Args:
        known: the contenders.
        sought: the goals; without latency among the metrics nothing is beaten or open.
        estimates: of the latency.
        rows: each contender's row of them.
        looks: how often contenders are looked at in all; wrongly beating the best one stays a
            matter of 5 % over all of them.
    """
    none = np.zeros(len(known), dtype=bool)
    latency = sought.latency
    if latency is None or not len(known):
        return Standing(none, open=False)
    at = np.asarray(rows, dtype=np.int64)
    logs = estimates.mean[at]
    exact = np.array(
        [
            [*(_cost(each, c, s) for c, s in sought.metrics if c != latency), _unsure(each)]
            for each in known
        ]
    )
    finite = np.flatnonzero(np.isfinite(logs))
    whole = np.column_stack([logs, exact])[finite]
    members = finite[improvement.front(whole)] if len(finite) else finite
    level = 1 - 2 * ALPHA / max(len(members) * looks, 1)
    beaten, undecided = none.copy(), none.copy()
    for member in members.tolist():
        rivals = np.all(exact[member] <= exact, axis=1)
        rivals[member] = False
        if rivals.any():
            low, high = _between(estimates, at, rivals, member, level)
            beaten[rivals] |= low > 0
            level_with = (low > -math.log1p(FLOOR)) & (high < math.log1p(FLOOR))
            undecided[rivals] |= ~((low > 0) | (high < 0) | level_with)
    return Standing(beaten, bool(np.any(undecided & ~beaten)))


def _between(
    estimates: Estimates, at: NDArray[np.int64], rivals: NDArray[np.bool_], one: int, level: float
) -> tuple[Floats, Floats]:
    """Return the interval of the logarithm of the rivals' latency over that of one."""
    gap = estimates.mean[at[rivals]] - estimates.mean[at[one]]
    found = tested(gap, estimates.gap(at[rivals], at[[one]]), estimates, level)
    return found.low, found.high
