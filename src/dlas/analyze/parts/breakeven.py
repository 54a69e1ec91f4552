"""Break-even: the level of an ordered factor at which one choice overtakes another.

The log ratio of two choices is joined by straight lines between the factor's levels (on a log
axis where they are spaced like 1, 2, 4, 8); the break-even is where it crosses zero, between two
levels at which first the one and then the other choice is surely better. Its 95 %
interval holds all levels between them at which a t test does not tell the two choices apart
(inversion of the test; Fieller 1954), so it says as often as it should where the lines cross, and
says "none in range" or "cannot tell" where they do not or may not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints, codes, numbers
from dlas.analyze.estimate.student import quantile
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Grid, grid, satterthwaite, smaller, upper
from dlas.analyze.parts.curves import Curves, averaged, candidates, joined, some_of
from dlas.analyze.parts.limits import crowded

CROSSES, NONE, OPEN = "crosses", "none in range", "cannot tell"
COLUMNS = [
    "factor", "layer", "a", "b", "context", "contexts", "verdict", "first", "then", "level", "low",
    "high", "size", "below", "above", "crossings", "again", "p", "cells",
]  # fmt: skip
SPREAD = 8.0


def break_evens(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return where choices overtake each other along every ordered factor.

    One row per ordered factor, pair of choices and context, and one for the average over all
    contexts that hold every level (``context`` is ``(average)``). ``verdict`` is ``crosses``
    (``first`` is surely better at one level and ``then`` at a higher one), ``none in range`` or
    ``cannot tell``; ``level`` the first break-even that is sure; ``low`` and ``high`` its
    interval, infinite where it leaves the range; ``size`` the smaller of the two sure ratios on
    either side; ``crossings`` counts the sure ones, ``again`` holds between which levels those
    after the first lie; ``below`` and ``above`` are the ratio b over a at the lowest and highest
    level (above 1: a is better there). Without noise a sign counts beyond the floor and there is
    no interval. ``cells`` are a and b at the levels next to the break-even.
    """
    frames = []
    for factor in table.scaled:
        if factor.numeric and not crowded(table, factor):
            found = grid(table, factor, estimates)
            named = list(candidates(table, estimates, found))
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
        mean = averaged(curves)
        if mean is not None:
            parts.append(mean)
            labels.append((layer, a, b, int(curves.there[:, mean.there[0]].all(axis=1).sum())))
        parts.append(curves)
        labels += [(layer, a, b, 1)] * len(curves.d)
    whole = joined(parts)
    # Curves that hold the same levels are solved at once.
    pattern = codes(list(whole.there.T), len(whole.d))
    order, solved = [], []
    for g in range(int(pattern.max(initial=-1)) + 1):
        k = np.flatnonzero(pattern == g)
        order.append(k)
        solved.append(_crossings(table, estimates, found, some_of(whole, k)))
    columns = {
        name: list(chain.from_iterable(part[name] for part in solved)) for name in solved[0]
    }
    frame = pd.DataFrame(columns, index=np.concatenate(order)).sort_index()
    layers, firsts, seconds, counts = zip(*labels, strict=True)
    sign = frame.pop("sign").to_numpy()
    ahead, behind = (np.array(names, dtype=object) for names in (firsts, seconds))
    return frame.assign(
        factor=found.factor.name, layer=layers, a=firsts, b=seconds, contexts=counts,
        first=np.where(sign < 0, ahead, np.where(sign > 0, behind, "")),
        then=np.where(sign < 0, behind, np.where(sign > 0, ahead, "")),
    ).reset_index(drop=True)  # fmt: skip


def _crossings(table: Table, estimates: Estimates, found: Grid, curves: Curves) -> dict[str, Any]:
    """Solve curves that hold the same levels."""
    there: Bools = curves.there[0, :]
    levels = np.flatnonzero(there)
    x, back = _axis(numbers([found.levels[i] for i in levels]))
    d, median, own = curves.d[:, levels], curves.median[:, levels], curves.own[:, levels]
    known = estimates.known
    total = own + curves.shared[:, None, :]
    p = upper(np.abs(smaller(d, median)), total, estimates) if known else None
    sign = _sure_signs(d, p, float(np.log1p(table.floor)))
    turns = _turns(sign)
    inside = _within(turns, len(x))
    point, segment = _crossing_in(x, d, inside)
    ids, near = table.rows["cell"].to_numpy(), curves.rows[:, levels]
    rows = np.arange(len(d))
    out: dict[str, Any] = {
        "context": curves.contexts,
        "level": back(point),
        "sign": np.where(turns.count > 0, sign[rows, turns.start], 0),
        "size": np.exp(np.minimum(*(np.abs(d[rows, end]) for end in (turns.start, turns.end)))),
        "crossings": turns.count,
        "again": [[[found.levels[levels[i]] for i in t] for t in more] for more in turns.again],
        "below": np.exp(-d[:, 0]),
        "above": np.exp(-d[:, -1]),
        "cells": [
            [str(c) for c in ids[near[i, s : s + 2].ravel()]] if s >= 0 else []
            for i, s in enumerate(segment)
        ],
    }
    return out | _ranged(estimates, (x, d, median), (own, curves.shared), p, sign, turns, back)


def _ranged(
    estimates: Estimates,
    drawn: tuple[Floats, Floats, Floats],
    noise: tuple[Floats, Floats],
    p: Floats | None,
    sign: Ints,
    turns: _Crossed,
    back: Callable[[Floats], Floats],
) -> dict[str, Any]:
    """Return verdict, interval and p value of each curve."""
    (x, d, median), (own, shared) = drawn, noise
    if p is None:
        none = np.full(len(d), np.nan)
        verdict = _verdict(turns.count > 0, (sign != 0).all(axis=1))
        return {"verdict": verdict, "low": none, "high": none, "p": none}
    inside = _within(turns, len(x))
    df = satterthwaite(own + shared[:, None, :], estimates.df)
    spread = (own.sum(axis=-1), shared.sum(axis=-1), df)
    ends = [_interval(x, y, *spread, inside) for y in (d, median)]
    low, high = np.fmin(ends[0][0], ends[1][0]), np.fmax(ends[0][1], ends[1][1])
    rows = np.arange(len(d))
    sides = np.maximum(p[rows, turns.start], p[rows, turns.end])
    clear = np.where(turns.count > 0, sides, np.maximum(p.min(axis=1), 0.5))
    return {
        "verdict": _verdict(turns.count > 0, np.isnan(low)),
        "low": _ends(low, back),
        "high": _ends(high, back),
        "p": np.minimum(1.0, len(x) * clear),
    }


def _sure_signs(d: Floats, p: Floats | None, half: float) -> Ints:
    """Return by curve and level the sign that is sure, over all levels (Bonferroni); else 0."""
    sure = np.abs(d) > half if p is None else p < 0.025 / d.shape[1]
    return np.where(sure, np.sign(d), 0).astype(np.int64)


@dataclass(frozen=True)
class _Crossed:
    """Where curves surely turn from one sign to the other."""

    start: Ints
    """The last level of the first sign, 0 where a curve does not turn."""
    end: Ints
    """The first level of the other sign."""
    count: Ints
    again: list[list[tuple[int, int]]]
    """Start and end of the turns after the first."""


def _turns(sign: Ints) -> _Crossed:
    """Follow sure signs from level to level; levels without one are passed over."""
    n = len(sign)
    start, end, count = (np.zeros(n, dtype=np.int64) for _ in range(3))
    last, at = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    again: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for level in range(sign.shape[1]):
        here = sign[:, level]
        turned = (here != 0) & (last == -here)
        new = turned & (count == 0)
        start[new], end[new] = at[new], level
        for i in np.flatnonzero(turned & ~new):
            again[i].append((int(at[i]), level))
        count += turned
        last, at = np.where(here != 0, here, last), np.where(here != 0, level, at)
    return _Crossed(start, end, count, again)


def _within(turns: _Crossed, levels: int) -> Bools:
    """Return the segments between levels in which a break-even is looked for: all without one."""
    place = np.arange(levels - 1)
    inside = (place >= turns.start[:, None]) & (place < turns.end[:, None])
    return np.asarray(inside | (turns.count == 0)[:, None])


def _ends(values: Floats, back: Callable[[Floats], Floats]) -> Floats:
    finite = np.isfinite(values)
    out = values.copy()
    out[finite] = back(values[finite])
    return out


def _verdict(crosses: Bools, apart: Bools) -> list[str]:
    return [CROSSES if c else NONE if a else OPEN for c, a in zip(crosses, apart, strict=True)]


def _axis(values: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return levels on the axis that lines are drawn on, and the way back."""
    if values.min() > 0 and values.max() / values.min() >= SPREAD:
        return np.log(values), np.exp
    return values, np.asarray


def _crossing_in(x: Floats, d: Floats, inside: Bools) -> tuple[Floats, Ints]:
    """Return where each curve first crosses zero in some segments, and in which of them.

    NaN and -1 where it does not cross.
    """
    changes = (np.sign(d[:, :-1]) * np.sign(d[:, 1:]) < 0) & inside
    some = changes.any(axis=1)
    segment = np.where(some, changes.argmax(axis=1), -1)
    i = np.arange(len(d))
    left, right = d[i, segment], d[i, np.minimum(segment + 1, d.shape[1] - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = left / (left - right)
        point = x[segment] + share * (x[np.minimum(segment + 1, len(x) - 1)] - x[segment])
    return np.where(some, point, np.nan), segment


def _interval(
    x: Floats, d: Floats, own: Floats, shared: Floats, df: Floats, inside_of: Bools
) -> tuple[Floats, Floats]:
    """Return the ends of {x: the test at x does not reject}, NaN where it is empty.

    Only some segments are looked at, ``inside_of`` by curve.

    Between two levels the test is a quadratic inequality in the place u between them:
    (d0 + u D)^2 <= t^2 ((1 - u)^2 v0 + u^2 v1 + shared).
    """
    crit = quantile(0.975, np.minimum(df[:, :-1], df[:, 1:])) ** 2
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
    some, others = (np.isfinite(end) & inside_of for end in (low, high))
    lows = np.where(some, x[:-1] + low * width, np.inf).min(axis=1)
    highs = np.where(others, x[:-1] + high * width, -np.inf).max(axis=1)
    empty = np.isinf(lows) | np.isinf(highs)
    lows = np.where(at0[:, 0] & inside_of[:, 0], -np.inf, lows)
    highs = np.where(at1[:, -1] & inside_of[:, -1], np.inf, highs)
    return np.where(empty, np.nan, lows), np.where(empty, np.nan, highs)
