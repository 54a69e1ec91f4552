"""Ordered factors: how the metric goes with the level, and where more stops paying."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Grid, average, differences, grid, tested

SCALING_COLUMNS = [
    "factor", "context", "fixed", "lowest", "highest", "gain", "low", "high", "p", "best",
    "best_gain", "shape", "cells",
]  # fmt: skip
RETURN_COLUMNS = [
    "factor", "technique", "from", "to", "contexts", "gain", "low", "high", "cost",
    "cost_change", "pays", "cells",
]  # fmt: skip
LEAST_DROP = 0.001
"""A fall of accuracy below this is none."""
COSTS = ("accuracy", "build_s", "tuning_s")
"""Columns that more of an ordered factor may cost: the first falls, the others rise."""


def scaling(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Say for each ordered factor and context what going from lowest to highest level does.

    ``gain`` is the metric at the lowest level over that at the highest (above 1: the highest
    is better) with its 95 % interval; ``best`` the best level and ``best_gain`` its gain over
    the lowest; ``shape`` is ``gains``, ``loses`` or ``flat``, followed by ``, best at X`` where
    a level between is better than both ends (by more than noise, or the floor without noise).
    ``fixed`` holds the context as a mapping, ``cells`` those of lowest, best and highest level.
    """
    rows: list[dict[str, object]] = []
    for factor in table.scaled:
        found = grid(table, factor, estimates)
        for k in np.flatnonzero((found.row >= 0).sum(axis=1) >= 2):
            rows.append(_profile(table, estimates, found, int(k)))
    return pd.DataFrame(rows, columns=SCALING_COLUMNS)


def _profile(table: Table, estimates: Estimates, found: Grid, k: int) -> dict[str, object]:
    there = np.flatnonzero(found.row[k] >= 0)
    rows = found.row[k, there]
    y, middle = estimates.mean[rows], estimates.median[rows]
    best = int(np.argmin(y))
    pairs = [(0, len(rows) - 1), (0, best), (len(rows) - 1, best)]
    ends = np.array([y[i] - y[j] for i, j in pairs])
    var = np.array([estimates.gap(rows[i], rows[j]) for i, j in pairs])
    medians = np.array([middle[i] - middle[j] for i, j in pairs])
    result = tested(ends, var, estimates, median=medians)
    sure = result.low > 0 if estimates.known else ends > np.log1p(table.floor)
    loses = result.high[0] < 0 if estimates.known else ends[0] < -np.log1p(table.floor)
    shape = "gains" if sure[0] else "loses" if loses else "flat"
    if 0 < best < len(rows) - 1 and sure[1] and sure[2]:
        shape += f", best at {found.levels[there[best]]}"
    ids = table.rows["cell"].to_numpy()
    return {
        "factor": found.factor.name,
        "context": found.texts[k],
        "fixed": found.fixed[k],
        "lowest": found.levels[there[0]],
        "highest": found.levels[there[-1]],
        "gain": float(np.exp(ends[0])),
        "low": float(np.exp(result.low[0])),
        "high": float(np.exp(result.high[0])),
        "p": float(result.p[0]),
        "best": found.levels[there[best]],
        "best_gain": float(np.exp(ends[1])),
        "shape": shape,
        "cells": [str(ids[rows[i]]) for i in dict.fromkeys((0, best, len(rows) - 1))],
    }


def returns(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Say for each step of an ordered factor what it gains and what it costs.

    One row per step between neighbouring levels and cost column there is: ``gain`` is the
    geometric mean over contexts of the metric before over after, with its interval;
    ``cost_change`` the mean change of the cost in the same contexts (accuracy: a difference;
    times: a ratio); ``pays`` is False where the gain is surely below the floor (without
    noise: below it) although the cost got worse; ``cells`` are those before and after in the
    context whose gain is in the middle.
    """
    costs = [c for c in COSTS if c in table.cells and c != table.metric]
    rows: list[dict[str, object]] = []
    for factor in table.scaled:
        if factor.numeric and costs:
            found = grid(table, factor, estimates)
            kinds = found.contexts.get(factor.layer)
            if kinds is None:
                rows += _steps(table, estimates, found, "", costs)
                continue
            for kind in pd.unique(kinds):
                rows += _steps(table, estimates, _only(found, kinds == kind), str(kind), costs)
    return pd.DataFrame(rows, columns=RETURN_COLUMNS)


def _only(found: Grid, which: pd.Series) -> Grid:
    keep = which.to_numpy(dtype=bool)
    contexts = found.contexts[keep].reset_index(drop=True)
    return Grid(found.factor, found.levels, contexts, found.row[keep])


def _steps(
    table: Table, estimates: Estimates, found: Grid, technique: str, costs: list[str]
) -> list[dict[str, object]]:
    out = []
    ids = table.rows["cell"].to_numpy()
    for i in range(len(found.levels) - 1):
        diff = differences(found, estimates, np.array([[i, i + 1]]))
        whole = average(diff, estimates)
        if not whole.count[0]:
            continue
        mean, count, result = whole.mean, whole.count, whole.tested(estimates)
        here = diff.there[:, 0] > 0
        before, after = found.row[here, i], found.row[here, i + 1]
        gains = diff.mean[here, 0]
        middle = int(np.argmin(np.abs(gains - np.median(gains))))
        for cost in costs:
            change, worse = _cost(table, cost, before, after)
            if np.isnan(change):
                continue
            limit = result.high[0] if estimates.known else mean[0]
            out.append(
                {
                    "factor": found.factor.name,
                    "technique": technique,
                    "from": found.levels[i],
                    "to": found.levels[i + 1],
                    "contexts": int(count[0]),
                    "gain": float(np.exp(mean[0])),
                    "low": float(np.exp(result.low[0])),
                    "high": float(np.exp(result.high[0])),
                    "cost": cost,
                    "cost_change": change,
                    "pays": not (worse and limit < np.log1p(table.floor)),
                    "cells": [str(ids[before[middle]]), str(ids[after[middle]])],
                }
            )
    return out


def _cost(table: Table, cost: str, before: np.ndarray, after: np.ndarray) -> tuple[float, bool]:
    values: Floats = pd.to_numeric(table.cells[cost], errors="coerce").to_numpy(dtype=float)
    one, two = values[before], values[after]
    both = np.isfinite(one) & np.isfinite(two)
    if not both.any():
        return float("nan"), False
    if cost == COSTS[0]:
        change = float(np.mean(two[both] - one[both]))
        return change, change < -LEAST_DROP
    both &= (one > 0) & (two > 0)
    if not both.any():
        return float("nan"), False
    change = float(np.exp(np.mean(np.log(two[both] / one[both]))))
    return change, change > 1 + table.floor
