"""What a choice costs or saves beside the metric: score, memory, building."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.direction import more_is_better
from dlas.analyze.estimate.levels import Floats, Ints
from dlas.analyze.estimate.table import Table

POINTS, TIMES = "points", "times"
SCORE = "accuracy"
USUAL = (SCORE, "memory_mb", "build_s", "tuning_s", "energy_mj")
"""Columns that tell a cost by their names; the columns of the goals are looked at beside them."""
LEAST_DROP = 0.001
"""A change of a score below this is none."""


@dataclass(frozen=True)
class Paid:
    """What else changes with a choice, over the contexts that its effect is taken over."""

    name: str
    """The column, e.g. ``accuracy``."""
    unit: str
    """``points``: ``change`` is a difference, of a share as a share; ``times``: a ratio."""
    change: float
    """Mean difference, or geometric mean of the ratios, after over before."""
    least: float
    most: float
    """The range over contexts."""
    contexts: int
    worse: bool
    """Whether the change is one for the worse, by more than nothing."""
    more: bool = False
    """Whether more of it is better."""


def columns(table: Table) -> tuple[str, ...]:
    """Return the columns whose change is a cost: the usual ones and those of the goals."""
    names = dict.fromkeys((*USUAL, *table.goals.columns))
    known = [c for c in names if c in table.cells and c != table.metric and c not in table.layers]
    # A drop tells the same as the score that it is a drop of; latency as seen is no other cost.
    told = [c for c in known if not (c == f"{SCORE}_drop" and SCORE in known)]
    return tuple(c for c in told if c not in ("latency_ms", "quiet_ms"))


def costs(table: Table, before: Ints, after: Ints) -> tuple[Paid, ...]:
    """Return what changes between rows, context by context; columns without both are left out."""
    found = (_cost(table, name, before, after) for name in columns(table))
    return tuple(cost for cost in found if cost is not None)


def _cost(table: Table, name: str, before: Ints, after: Ints) -> Paid | None:
    values: Floats = pd.to_numeric(table.cells[name], errors="coerce").to_numpy(dtype=float)
    one, two = values[before], values[after]
    more = _more(table, name)
    # What may be zero or negative (a score, a drop) changes by a difference.
    points = bool(more) or not (values[np.isfinite(values)] > 0).all()
    both = np.isfinite(one) & np.isfinite(two)
    if not both.any():
        return None
    if points:
        change = two[both] - one[both]
        mean, least, most = float(change.mean()), float(change.min()), float(change.max())
        worse = mean < -LEAST_DROP if more else mean > LEAST_DROP
        return Paid(name, POINTS, mean, least, most, int(both.sum()), worse, more)
    log = np.log(two[both] / one[both])
    mean, least, most = (float(np.exp(x)) for x in (log.mean(), log.min(), log.max()))
    return Paid(name, TIMES, mean, least, most, int(both.sum()), mean > 1 + table.floor)


def _more(table: Table, name: str) -> bool:
    goals = table.goals
    if name in goals.maximize or name in (c for c, _ in goals.at_least):
        return True
    if name in goals.minimize or name in (c for c, _ in goals.at_most):
        return False
    return bool(more_is_better(name))
