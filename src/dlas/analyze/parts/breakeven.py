"""Break-even: the level of an ordered factor at which one choice overtakes another.

The log ratio of two choices is joined by straight lines between the factor's levels (on a log
axis where they are spaced like 1, 2, 4, 8); the break-even is where it crosses zero. Its 95 %
interval holds all levels at which a t test does not tell the two choices apart (inversion of
the test; Fieller 1954), so it says as often as it should where the lines cross, and says
"none in range" or "cannot tell" where they do not or may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Floats, Ints, codes, numbers
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Grid, grid, satterthwaite
from dlas.analyze.parts.limits import crowded, paired

CROSSES, NONE, OPEN = "crosses", "none in range", "cannot tell"
COLUMNS = [
    "factor", "layer", "a", "b", "context", "contexts", "verdict", "level", "low", "high",
    "below", "above", "crossings", "p", "cells",
]  # fmt: skip
AVERAGE = "(average)"
SPREAD = 8.0


@dataclass(frozen=True)
class Curves:
    """Log ratios (a over b) by curve and level, on the levels of an ordered factor."""

    d: Floats
    there: Bools
    own: Floats
    """Variance by curve, level and stratum that each level has for itself."""
    shared: Floats
    """Variance by curve and stratum that all levels of a curve share."""
    rows: Ints
    """Row of a and row of b by curve and level."""
    contexts: list[str]


def break_evens(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return where choices overtake each other along every ordered factor.

    One row per ordered factor, pair of choices and context, and one for the average over all
    contexts that hold every level (``context`` is ``(average)``). ``verdict`` is ``crosses``
    (a is surely better at one level and surely worse at another), ``none in range`` or
    ``cannot tell``; ``level`` the first break-even; ``low`` and ``high`` its interval, infinite
    where it leaves the range; ``below`` and ``above`` the ratio b over a at the lowest and
    highest level (above 1: a is better there). Without noise a sign counts beyond the floor and
    there is no interval. ``cells`` are a and b at the levels next to the break-even.
    """
    frames = []
    for factor in table.scaled:
        if factor.numeric and not crowded(table, factor):
            found = grid(table, factor, estimates)
            named = list(_candidates(table, estimates, found))
            if named:
                frames.append(_judged(table, estimates, found, named))
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def _judged(
    table: Table,
    estimates: Estimates,
    found: Grid,
    named: list[tuple[str, str, str, Curves]],
) -> pd.DataFrame:
    """Return the break-evens of all pairs along one factor, averages first within a pair."""
    parts: list[Curves] = []
    labels: list[tuple[str, str, str, int]] = []
    for layer, a, b, curves in named:
        mean = _averaged(curves)
        if mean is not None:
            parts.append(mean)
            labels.append((layer, a, b, int(curves.there[:, mean.there[0]].all(axis=1).sum())))
        parts.append(curves)
        labels += [(layer, a, b, 1)] * len(curves.d)
    whole = _joined(parts)
    # Curves that hold the same levels are solved at once.
    pattern = codes(list(whole.there.T), len(whole.d))
    order, solved = [], []
    for g in range(int(pattern.max(initial=-1)) + 1):
        k = np.flatnonzero(pattern == g)
        order.append(k)
        solved.append(_crossings(table, estimates, found, _some(whole, k)))
    columns = {
        name: list(chain.from_iterable(part[name] for part in solved)) for name in solved[0]
    }
    frame = pd.DataFrame(columns, index=np.concatenate(order)).sort_index()
    layers, firsts, seconds, counts = zip(*labels, strict=True)
    return frame.assign(
        factor=found.factor.name, layer=layers, a=firsts, b=seconds, contexts=counts
    ).reset_index(drop=True)


def _joined(parts: Sequence[Curves]) -> Curves:
    return Curves(
        d=np.concatenate([p.d for p in parts]),
        there=np.concatenate([p.there for p in parts]),
        own=np.concatenate([p.own for p in parts]),
        shared=np.concatenate([p.shared for p in parts]),
        rows=np.concatenate([p.rows for p in parts]),
        contexts=[c for p in parts for c in p.contexts],
    )


def _some(curves: Curves, k: Ints) -> Curves:
    return Curves(
        d=curves.d[k],
        there=curves.there[k],
        own=curves.own[k],
        shared=curves.shared[k],
        rows=curves.rows[k],
        contexts=[curves.contexts[i] for i in k],
    )


def _candidates(
    table: Table, estimates: Estimates, found: Grid
) -> Iterator[tuple[str, str, str, Curves]]:
    """Yield pairs of choices of other layers, and of this layer with one without the factor."""
    for layer in found.contexts.columns:
        if layer in paired(table) and layer != found.factor.layer:
            yield from _other_layer(table, estimates, found, str(layer))
    if found.factor.name != found.factor.layer and found.factor.layer in paired(table):
        yield from _own_layer(table, estimates, found)


def _other_layer(
    table: Table, estimates: Estimates, found: Grid, layer: str
) -> Iterator[tuple[str, str, str, Curves]]:
    rest_frame = found.contexts.drop(columns=layer)
    rest = codes([rest_frame[c].to_numpy() for c in rest_frame.columns], len(rest_frame))
    first = np.unique(rest, return_index=True)[1]
    told = [c for c in rest_frame.columns if _several(table, str(c))]
    names = [
        ", ".join(f"{c}={v}" for c, v in zip(told, row, strict=True) if v != EMPTY)
        for row in rest_frame.iloc[first][told].itertuples(index=False)
    ]
    levels = table.levels[layer]
    level = pd.Index(levels).get_indexer(found.contexts[layer])
    row = np.full((len(levels), len(first), len(found.levels)), -1, dtype=np.int64)
    row[level, rest] = found.row
    for i, j in zip(*np.triu_indices(len(levels), 1), strict=True):
        keep = ((row[i] >= 0) & (row[j] >= 0)).sum(axis=1) >= 2
        if keep.any():
            some = [names[k] for k in np.flatnonzero(keep)]
            yield layer, levels[i], levels[j], _curves(estimates, row[i][keep], row[j][keep], some)


def _own_layer(
    table: Table, estimates: Estimates, found: Grid
) -> Iterator[tuple[str, str, str, Curves]]:
    """Compare choices that have the parameter with each choice of the layer that has not."""
    layer = found.factor.layer
    others = [c for c in table.context_columns if c != layer]
    usable = np.isfinite(estimates.mean)
    without = usable & (table.cells[found.factor.name] == EMPTY).to_numpy(dtype=bool)
    siblings = list(table.siblings(found.factor))
    for kind, part in _kinds(table, found, [layer, *siblings]):
        keys = pd.MultiIndex.from_frame(found.contexts.loc[part, others])
        told = [i for i, c in enumerate(others) if _several(table, c)]
        names = [", ".join(f"{others[i]}={k[i]}" for i in told) for k in keys]
        for level in table.levels[layer]:
            rows = np.flatnonzero(without & (table.cells[layer] == level).to_numpy(dtype=bool))
            if not len(rows):
                continue
            index = pd.MultiIndex.from_frame(table.cells.iloc[rows][others])
            place = index.get_indexer(keys)
            a = found.row[part]
            keep = (place >= 0) & ((a >= 0).sum(axis=1) >= 2)
            if keep.any():
                b = np.where(a[keep] >= 0, rows[place[keep]][:, None], -1)
                some = [names[k] for k in np.flatnonzero(keep)]
                yield layer, kind, level, _curves(estimates, a[keep], b, some, shared=True)


def _several(table: Table, column: str) -> bool:
    """Say whether a column has several levels, so that naming one tells something."""
    return len(set(table.levels[column]) - {EMPTY}) > 1


def _kinds(table: Table, found: Grid, columns: list[str]) -> Iterator[tuple[str, Ints]]:
    """Yield the contexts of each technique, named by the parameters of which there are several."""
    told = [c for c in columns[1:] if _several(table, c)]
    group = codes([found.contexts[c].to_numpy() for c in columns], len(found.contexts))
    for g in range(int(group.max(initial=-1)) + 1):
        part = np.flatnonzero(group == g)
        first = found.contexts.iloc[part[0]]
        extra = [f"{c}={first[c]}" for c in told if first[c] != EMPTY]
        yield " with ".join([str(first[columns[0]]), *extra]), part


def _curves(
    estimates: Estimates, a: Ints, b: Ints, contexts: list[str], *, shared: bool = False
) -> Curves:
    there = (a >= 0) & (b >= 0)
    d = np.where(there, estimates.mean[a] - estimates.mean[b], 0.0)
    one, two = estimates.var[a] * there[:, :, None], estimates.var[b] * there[:, :, None]
    both = np.stack([a, b], axis=-1)
    if shared:
        return Curves(d, there, one, two.max(axis=1), both, contexts)
    return Curves(d, there, one + two, np.zeros((len(d), one.shape[2])), both, contexts)


def _averaged(curves: Curves) -> Curves | None:
    """Return the mean of the curves that hold every level any of them holds."""
    levels = np.asarray(curves.there.any(axis=0))
    whole = np.asarray(curves.there[:, levels].all(axis=1))
    n = int(whole.sum())
    if n < 2:
        return None
    return Curves(
        curves.d[whole].mean(axis=0, keepdims=True),
        levels[None, :],
        curves.own[whole].sum(axis=0, keepdims=True) / n**2,
        curves.shared[whole].sum(axis=0, keepdims=True) / n**2,
        curves.rows[whole][:1],
        [AVERAGE],
    )


def _crossings(table: Table, estimates: Estimates, found: Grid, curves: Curves) -> dict[str, Any]:
    """Solve curves that hold the same levels."""
    there: Bools = curves.there[0, :]
    levels = np.flatnonzero(there)
    x, back = _axis(numbers([found.levels[i] for i in levels]))
    d, own = curves.d[:, levels], curves.own[:, levels]
    point, crossings, segment = _first_crossing(x, d)
    ids = table.rows["cell"].to_numpy()
    near = curves.rows[:, levels]
    out: dict[str, Any] = {
        "context": curves.contexts,
        "level": back(point),
        "crossings": crossings,
        "below": np.exp(-d[:, 0]),
        "above": np.exp(-d[:, -1]),
        "cells": [
            [str(c) for c in ids[near[i, s : s + 2].ravel()]] if s >= 0 else []
            for i, s in enumerate(segment)
        ],
    }
    if not estimates.known:
        half, none = np.log1p(table.floor), np.full(len(d), np.nan)
        apart = (np.abs(d) > half).all(axis=1)
        verdict = _verdict((d > half).any(axis=1), (d < -half).any(axis=1), apart)
        return out | {"verdict": verdict, "low": none, "high": none, "p": none}
    total = own + curves.shared[:, None, :]
    se, df = np.sqrt(total.sum(axis=-1)), satterthwaite(total, estimates.df)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = d / se
    lower, higher = stats.t.cdf(t, df), stats.t.sf(t, df)
    low, high = _interval(x, d, own.sum(axis=-1), curves.shared.sum(axis=-1), df)
    verdict = _verdict((higher < 0.025).any(axis=1), (lower < 0.025).any(axis=1), np.isnan(low))
    p = np.minimum(1.0, len(levels) * np.maximum(lower.min(axis=1), higher.min(axis=1)))
    return out | {"verdict": verdict, "low": _ends(low, back), "high": _ends(high, back), "p": p}


def _ends(values: Floats, back: Callable[[Floats], Floats]) -> Floats:
    finite = np.isfinite(values)
    out = values.copy()
    out[finite] = back(values[finite])
    return out


def _verdict(positive: Bools, negative: Bools, apart: Bools) -> list[str]:
    crosses = positive & negative
    return [CROSSES if c else NONE if a else OPEN for c, a in zip(crosses, apart, strict=True)]


def _axis(values: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return levels on the axis that lines are drawn on, and the way back."""
    if values.min() > 0 and values.max() / values.min() >= SPREAD:
        return np.log(values), np.exp
    return values, np.asarray


def _first_crossing(x: Floats, d: Floats) -> tuple[Floats, Ints, Ints]:
    """Return where each curve first crosses zero, how often it does, and in which segment."""
    changes = np.sign(d[:, :-1]) * np.sign(d[:, 1:]) < 0
    count = changes.sum(axis=1)
    segment = np.where(count > 0, changes.argmax(axis=1), -1)
    i = np.arange(len(d))
    left, right = d[i, segment], d[i, np.minimum(segment + 1, d.shape[1] - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = left / (left - right)
        point = x[segment] + share * (x[np.minimum(segment + 1, len(x) - 1)] - x[segment])
    return np.where(count > 0, point, np.nan), count, segment


def _interval(
    x: Floats, d: Floats, own: Floats, shared: Floats, df: Floats
) -> tuple[Floats, Floats]:
    """Return the ends of {x: the test at x does not reject}, NaN where it is empty.

    Between two levels the test is a quadratic inequality in the place u between them:
    (d0 + u D)^2 <= t^2 ((1 - u)^2 v0 + u^2 v1 + shared).
    """
    crit = stats.t.ppf(0.975, np.minimum(df[:, :-1], df[:, 1:])) ** 2
    d0, step = d[:, :-1], d[:, 1:] - d[:, :-1]
    v0, v1 = own[:, :-1], own[:, 1:]
    a = step**2 - crit * (v0 + v1)
    b = 2 * (d0 * step + crit * v0)
    c = d0**2 - crit * (v0 + shared[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b**2 - 4 * a * c)
        roots = np.stack([(-b - root) / (2 * a), (-b + root) / (2 * a)])
    inside = (roots >= 0) & (roots <= 1)
    at0, at1 = c <= 0, a + b + c <= 0
    low = np.where(at0, 0.0, np.where(inside, roots, np.inf).min(axis=0))
    high = np.where(at1, 1.0, np.where(inside, roots, -np.inf).max(axis=0))
    low = np.where(np.isinf(low) & at1, 1.0, low)
    high = np.where(np.isinf(high) & at0, 0.0, high)
    width = np.diff(x)
    lows = np.where(np.isfinite(low), x[:-1] + low * width, np.inf).min(axis=1)
    highs = np.where(np.isfinite(high), x[:-1] + high * width, -np.inf).max(axis=1)
    empty = np.isinf(lows) | np.isinf(highs)
    lows = np.where(at0[:, 0], -np.inf, lows)
    highs = np.where(at1[:, -1], np.inf, highs)
    return np.where(empty, np.nan, lows), np.where(empty, np.nan, highs)
