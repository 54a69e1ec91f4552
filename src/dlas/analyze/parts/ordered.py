"""Ordered factors: how the metric goes with the level, and where more stops paying."""

from __future__ import annotations

from collections.abc import Iterator

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
        rows += _profiles(table, estimates, grid(table, factor, estimates))
    return pd.DataFrame(rows, columns=SCALING_COLUMNS)


def _profiles(table: Table, estimates: Estimates, found: Grid) -> Iterator[dict[str, object]]:
    """Give what a factor does in each context with at least two of its levels."""
    there = found.row >= 0
    contexts = np.flatnonzero(there.sum(axis=1) >= 2)
    row, there = found.row[contexts], there[contexts]
    y = np.where(there, estimates.mean[row], np.inf)
    lowest, best = there.argmax(axis=1), y.argmin(axis=1)
    highest = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    every = np.arange(len(row))
    ends = np.stack([row[every, level] for level in (lowest, highest, best)], axis=1)
    before, after = ends[:, [0, 0, 1]], ends[:, [1, 2, 2]]
    gain = estimates.mean[before] - estimates.mean[after]
    middle = estimates.median[before] - estimates.median[after]
    result = tested(gain, estimates.gap(before, after), estimates, median=middle)
    half, known = np.log1p(table.floor), estimates.known
    sure = result.low > 0 if known else gain > half
    loses = result.high[:, 0] < 0 if known else gain[:, 0] < -half
    ids = table.rows["cell"].to_numpy()
    for i, k in enumerate(contexts.tolist()):
        shape = "gains" if sure[i, 0] else "loses" if loses[i] else "flat"
        if lowest[i] < best[i] < highest[i] and sure[i, 1] and sure[i, 2]:
            shape += f", best at {found.levels[best[i]]}"
        low, high, top = ends[i].tolist()
        yield {
            "factor": found.factor.name,
            "context": found.texts[k],
            "fixed": found.fixed[k],
            "lowest": found.levels[lowest[i]],
            "highest": found.levels[highest[i]],
            "gain": float(np.exp(gain[i, 0])),
            "low": float(np.exp(result.low[i, 0])),
            "high": float(np.exp(result.high[i, 0])),
            "p": float(result.p[i, 0]),
            "best": found.levels[best[i]],
            "best_gain": float(np.exp(gain[i, 1])),
            "shape": shape,
            "cells": [str(ids[r]) for r in dict.fromkeys((low, top, high))],
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
