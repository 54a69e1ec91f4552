"""Paired speed-ups of each choice, and what the second-best choice of a layer costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import Differences, Tested, average, differences, grid, tested
from dlas.analyze.parts.covered import in_common

SPEEDUP_COLUMNS = [
    "factor", "layer", "level", "baseline", "contexts", "ratio", "low", "high", "p",
    "median", "median_low", "median_high", "q10", "q90", "least", "most",
    "slower", "surely_slower", "surely_faster", "undecided",
]  # fmt: skip
CONTEXT_COLUMNS = [
    "factor", "level", "baseline", "context", "ratio", "low", "high", "cell", "baseline_cell",
]  # fmt: skip


def speedups(table: Table, estimates: Estimates) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare every level with its factor's baseline, everything else equal.

    Returns:
        One row per factor and level: ``ratio`` is the geometric mean over contexts of
        baseline over level (above 1: the level is better) with its 95 % t interval from the
        noise of rounds; ``median`` the middle context, its interval made of the contexts'
        own intervals (it covers at least as often as it says); ``q10, q90, least, most`` the
        spread over contexts, which is no uncertainty; ``slower`` the share of contexts where
        the level is worse, ``surely_slower``, ``surely_faster`` and ``undecided`` those that
        the context's own interval (without noise: the floor) decides.
        And one row per factor, level and context with the two cells.
    """
    summary: list[dict[str, Any]] = []
    contexts: list[pd.DataFrame] = []
    for factor in table.compared:
        found = grid(table, factor, estimates)
        base = found.levels.index(baseline_of(table, factor))
        others = [i for i in range(len(found.levels)) if i != base]
        diff = differences(found, estimates, np.array([[base, i] for i in others]))
        each = tested(diff.mean, diff.var, estimates, median=diff.median)
        rows = _summaries(table, diff, each, estimates)
        summary += [{"factor": factor.name, "layer": factor.layer} | row for row in rows]
        contexts.append(_by_context(table, diff, each).assign(factor=factor.name))
    one = pd.DataFrame(summary, columns=SPEEDUP_COLUMNS)
    if not contexts:
        return one, pd.DataFrame(columns=CONTEXT_COLUMNS)
    return one, pd.concat(contexts, ignore_index=True)[CONTEXT_COLUMNS]


def baseline_of(table: Table, factor: Factor) -> str:
    """Return the level that the others of a factor are compared with.

    Of a sub-layer that of its layer, else what stands for no technique, where it has it. Of a
    parameter: the lowest where its levels are ordered, else its default, which is what it has
    where the text of the choice does not name it; else the first.
    """
    if factor.name == factor.layer:
        return table.reference(factor.name)
    if factor.name in table.sublayers:
        plain = (*sorted(table.inside[factor.layer].plain), table.sublayers[factor.name])
        usual = (table.reference(factor.layer), *plain)
        if known := [level for level in usual if level in factor.levels]:
            return known[0]
    if factor.ordered:
        return factor.levels[0]
    named = f"{factor.name.partition('.')[2]}="
    unsaid = ~table.cells[factor.layer].astype(str).str.contains(named, regex=False)
    found = set(table.cells[factor.name][unsaid & table.complete]) & set(factor.levels)
    return found.pop() if len(found) == 1 else factor.levels[0]


def _summaries(
    table: Table, diff: Differences, each: Tested, estimates: Estimates
) -> list[dict[str, Any]]:
    """Return the summary of each level that shares a context with the baseline."""
    found = average(diff, estimates)
    whole, count = found.tested(estimates), found.count
    lows, highs = _decided(table, each, estimates)
    levels = diff.grid.levels
    out = []
    for k in np.flatnonzero(count > 0):
        here = diff.there[:, k] > 0
        d = diff.mean[here, k]
        faster = float(np.mean(lows[here, k] > 0))
        slower = float(np.mean(highs[here, k] < 0))
        q10, q90 = np.quantile(d, [0.1, 0.9])
        out.append(
            {
                "level": levels[diff.second[k]],
                "baseline": levels[diff.first[k]],
                "contexts": int(count[k]),
                "ratio": float(np.exp(whole.value[k])),
                "low": float(np.exp(whole.low[k])),
                "high": float(np.exp(whole.high[k])),
                "p": float(whole.p[k]),
                "median": float(np.exp(np.median(d))),
                "median_low": float(np.exp(np.median(each.low[here, k]))),
                "median_high": float(np.exp(np.median(each.high[here, k]))),
                "q10": float(np.exp(q10)),
                "q90": float(np.exp(q90)),
                "least": float(np.exp(d.min())),
                "most": float(np.exp(d.max())),
                "slower": float(np.mean(d < 0)),
                "surely_slower": slower,
                "surely_faster": faster,
                "undecided": max(0.0, 1.0 - faster - slower),
            }
        )
    return out


def _decided(table: Table, each: Tested, estimates: Estimates) -> tuple[Floats, Floats]:
    """Return the ends that decide a sign: of the intervals, or of the floor without noise."""
    if estimates.known:
        return each.low, each.high
    half = np.log1p(table.floor)
    return each.value - half, each.value + half


def _by_context(table: Table, diff: Differences, each: Tested) -> pd.DataFrame:
    """Return one row per level and context, level by level."""
    k, i = np.nonzero(diff.there.T)
    ids = table.rows["cell"].to_numpy()
    names = np.array(diff.grid.levels, dtype=object)
    texts = np.array(diff.grid.texts, dtype=object)
    return pd.DataFrame(
        {
            "level": names[diff.second[k]],
            "baseline": names[diff.first[k]],
            "context": texts[i],
            "ratio": np.exp(each.value[i, k]),
            "low": np.exp(each.low[i, k]),
            "high": np.exp(each.high[i, k]),
            "cell": ids[diff.grid.row[i, diff.second[k]]],
            "baseline_cell": ids[diff.grid.row[i, diff.first[k]]],
        }
    )


def losses(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return what each layer costs when its best choice is not taken, everything else equal.

    One row per layer over its contexts with at least two choices: ``second_median`` and
    ``second_q90`` are second-best over best (1.3: a 30 % loss), ``baseline_median`` and
    ``baseline_q90`` baseline over best, ``worst_median`` worst over best; ``ties`` is the share
    of contexts in which the second-best is within the floor; ``cells`` are best and second-best
    of the context in the middle; ``shared`` is what all of these contexts have in common. Among
    choices that differ little, the best of noisy values looks a little better than it is: read
    ratios near the floor as 1.
    """
    rows = (_loss(table, estimates, layer) for layer in table.free)
    columns = [
        "layer", "contexts", "second_median", "second_q90", "ties", "baseline",
        "baseline_median", "baseline_q90", "worst_median", "cells", "shared",
    ]  # fmt: skip
    return pd.DataFrame([row for row in rows if row is not None], columns=columns)


def _loss(table: Table, estimates: Estimates, layer: str) -> dict[str, object] | None:
    factor = Factor(layer, layer, table.levels[layer])
    found = grid(table, factor, estimates)
    several = (found.row >= 0).sum(axis=1) >= 2
    row = found.row[several]
    if not len(row):
        return None
    y = np.where(row >= 0, estimates.mean[row], np.inf)
    ranked = np.sort(y, axis=1)
    second = ranked[:, 1] - ranked[:, 0]
    worst = np.where(row >= 0, y, -np.inf).max(axis=1) - ranked[:, 0]
    base = found.levels.index(baseline_of(table, factor))
    from_base = (y[:, base] - ranked[:, 0])[row[:, base] >= 0]
    middle = int(np.argmin(np.abs(second - np.median(second))))
    ids = table.rows["cell"].to_numpy()
    return {
        "layer": layer,
        "contexts": len(row),
        "second_median": float(np.exp(np.median(second))),
        "second_q90": float(np.exp(np.quantile(second, 0.9))),
        "ties": float(np.mean(second < np.log1p(table.floor))),
        "baseline": found.levels[base],
        "baseline_median": _exp_quantile(from_base, 0.5),
        "baseline_q90": _exp_quantile(from_base, 0.9),
        "worst_median": float(np.exp(np.median(worst))),
        "cells": [str(ids[i]) for i in row[middle, np.argsort(y[middle])][:2]],
        "shared": list(in_common(table, found, several)),
    }


def _exp_quantile(values: Floats, q: float) -> float:
    return float(np.exp(np.quantile(values, q))) if len(values) else float("nan")
