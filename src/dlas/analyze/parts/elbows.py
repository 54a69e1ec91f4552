"""Elbows: from where on the next step of an ordered factor costs more than it gives.

A curve is what one technique reaches along its parameter (the sparsity of a pruning, say), all
else equal: the metric and the accuracy at each level. A step gives a share of the metric, and
costs a share of the accuracy that the goals allow to be given up; it pays where it gives more than
it costs and the limits still hold. The elbow is the lowest level whose next step does not pay. Its
interval begins where a step no longer surely pays and ends where one surely does not (95 % each).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Floats, Ints, number, skeleton
from dlas.analyze.estimate.student import above
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import Grid, grid, satterthwaite
from dlas.analyze.parts.limits import crowded
from dlas.analyze.parts.partition import GIVEN

COLUMNS = [
    "factor", "technique", "context", "fixed", "level", "low", "high", "next", "gain", "cost",
    "allowed", "levels", "metric", "accuracy", "cells",
]  # fmt: skip
SURE = 0.025
"""One-sided level of *surely*."""
WITHOUT = 0.0
"""The level of a stack without the technique, where the levels are shares."""


@dataclass(frozen=True)
class Worth:
    """How accuracy counts against the metric under the goals."""

    drop: float | None = None
    """The drop of accuracy that may be given up."""
    least: float | None = None
    """The accuracy that must be left."""

    def allowed(self, start: float) -> float:
        """Return the loss of accuracy that weighs as much as all of the metric."""
        if self.drop is not None:
            return self.drop
        return start - self.least if self.least is not None else start


@dataclass(frozen=True)
class Stride:
    """One step from a level to the next."""

    level: float
    next: float
    gain: float
    """The share of the metric that it saves."""
    cost: float
    """The share of the allowed loss of accuracy that it takes."""
    pays: float
    """One-sided p value of "it gives more than it costs, and the limits hold"."""
    loses: float
    """One-sided p value of the contrary."""
    wins: bool
    """What the values say, noise aside."""


@dataclass(frozen=True)
class Elbow:
    """A curve, its steps, and where it bends."""

    level: float
    """The lowest level whose next step does not pay; the highest, where all do."""
    low: float
    high: float
    """The 95 % interval; infinite where no step surely does not pay; NaN: no noise is known."""
    steps: tuple[Stride, ...]
    metric: tuple[float, ...]
    """By level, over that at the lowest."""
    accuracy: tuple[float, ...]
    allowed: float


def worth_of(table: Table) -> Worth | str:
    """Return how accuracy counts, or why nobody can say."""
    if "accuracy" not in table.cells:
        return "the table has no column accuracy"
    most, least = dict(table.goals.at_most), dict(table.goals.at_least)
    if most.get("accuracy_drop", 0.0) > 0:
        return Worth(drop=most["accuracy_drop"])
    if "accuracy" in least:
        return Worth(least=least["accuracy"])
    if "accuracy" in table.goals.maximize or "accuracy_drop" in table.goals.minimize:
        return Worth()
    return "the goals say nothing of accuracy, so nobody can say what a step may cost"


def elbows(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return the elbow of every curve: each technique with a parameter of numbers, each context.

    ``level`` is the elbow, ``low`` and ``high`` its interval; ``next`` the level of the step that
    does not pay (NaN: all do), ``gain`` the share of the metric that this step saves and ``cost``
    the share of ``allowed``, the accuracy that may be given up, that it takes. ``levels``,
    ``metric`` (over that at the lowest level) and ``accuracy`` are the curve, ``cells`` its cells.
    Empty where the goals say nothing of accuracy.
    """
    worth = worth_of(table)
    rows: list[dict[str, object]] = []
    if not isinstance(worth, str):
        for factor in table.scaled:
            if factor.numeric and factor.name != factor.layer and not crowded(table, factor):
                rows += list(_of_factor(table, estimates, factor, worth))
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_factor(
    table: Table, estimates: Estimates, factor: Factor, worth: Worth
) -> Iterator[dict[str, object]]:
    found = grid(table, factor, estimates)
    ids = table.rows["cell"].to_numpy()
    start = without(table, estimates, factor)
    for k in range(len(found.row)):
        levels, rows = _curve(found, k, start)
        one = elbow_of(table, estimates, levels, np.array([rows]), worth)
        if one is None:
            continue
        bend = next((s for s in one.steps if not s.wins), None)
        yield {
            "factor": factor.name,
            "technique": found.fixed[k].get(factor.layer, ""),
            "context": found.texts[k],
            "fixed": found.fixed[k],
            "level": one.level,
            "low": one.low,
            "high": one.high,
            "next": bend.next if bend else np.nan,
            "gain": bend.gain if bend else np.nan,
            "cost": bend.cost if bend else np.nan,
            "allowed": one.allowed,
            "levels": list(levels),
            "metric": list(one.metric),
            "accuracy": list(one.accuracy),
            "cells": [str(ids[r]) for r in rows],
        }


def _curve(found: Grid, k: int, start: Beginnings | None) -> tuple[list[float], list[int]]:
    """Return the levels and rows of one context, that without the technique first."""
    there = np.flatnonzero(found.row[k] >= 0)
    levels, rows = [number(found.levels[i]) for i in there], found.row[k, there].tolist()
    first = start.of(rows[0]) if start and rows and WITHOUT not in levels else None
    return (levels, rows) if first is None else ([WITHOUT, *levels], [first, *rows])


@dataclass(frozen=True)
class Beginnings:
    """The stacks without a factor, from which its curves start."""

    keys: list[tuple[Hashable, ...]]
    """By row what is left of its layer without the factor's technique, and the other layers."""
    rows: Mapping[tuple[Hashable, ...], list[int]]
    """The rows without the factor, by the same."""
    own: list[list[list[str]]]
    """The columns of the layer that are equal, too, where a start has them: each with those that
    have its name where several techniques have it."""

    def of(self, row: int) -> int | None:
        """Return the row that has all that one has but the factor's technique; None: none."""
        fits = [r for r in self.rows.get(self.keys[row], []) if self._fits(r, row)]
        return fits[0] if len(fits) == 1 else None

    def _fits(self, start: int, row: int) -> bool:
        return all(
            column[start] == EMPTY or column[start] in [each[row] for each in (column, *others)]
            for column, *others in self.own
        )


def without(table: Table, estimates: Estimates, factor: Factor) -> Beginnings | None:
    """Find the stacks that have all that others have but the technique with a factor.

    None of a whole layer, and none where the factor's levels are no shares: then nothing is known
    of its level.
    """
    layer = factor.layer
    if factor.name == layer or not all(0 < number(s) < 1 for s in factor.levels):
        return None
    inside = table.inside[layer]
    left = inside.without(factor.name, _plain(table, factor))
    others = [table.cells[c].tolist() for c in table.context_columns if c != layer]
    texts = table.cells[layer].tolist()
    keys = [(left[t], *rest) for t, *rest in zip(texts, *others, strict=True)]
    rows: dict[tuple[Hashable, ...], list[int]] = {}
    empty = (table.cells[factor.name] == EMPTY).to_numpy(dtype=bool)
    usable = np.isfinite(estimates.mean) & empty & inside.apart(factor.name)
    for r in np.flatnonzero(usable).tolist():
        rows.setdefault(keys[r], []).append(r)
    # Of choices that are known all parameters are compared, by technique.
    own = () if inside.choices else inside.siblings(factor.name)
    return Beginnings(keys, rows, [_also(table, c, layer) for c in own])


def _also(table: Table, column: str, layer: str) -> list[list[str]]:
    """Return a column, and those of the same parameter that are named by technique."""
    last = column.rpartition(".")[2]
    same = [c for c in table.inside[layer].parameters if c.endswith(f".{last}") and c != column]
    return [table.cells[c].tolist() for c in (column, *same)]


def _plain(table: Table, factor: Factor) -> frozenset[str]:
    """Return what stands for no technique: by its name, else a baseline that was given.

    Not the baseline of a model or a machine, which is another one and not none.
    """
    layer = factor.layer
    inside = table.inside[layer]
    kinds = set(inside.skeletons.unique())
    if found := inside.plain & kinds:
        return found
    base = skeleton(table.baseline.get(layer, ""))
    joined = {p for s in kinds if "+" in s for p in s.split("+")}
    another = layer in GIVEN or base in joined | inside.carriers(factor.name)
    return frozenset() if another or not base else frozenset((base,))


def elbow_of(
    table: Table, estimates: Estimates, levels: Sequence[float], rows: Ints, worth: Worth
) -> Elbow | None:
    """Return the elbow of a curve; None where it has no two levels with accuracy.

    Args:
        table: the table.
        estimates: what is known of its metric.
        levels: in rising order.
        rows: by context, all else equal, and level; the curve is their mean.
        worth: what accuracy is worth.
    """
    if len(levels) < 2 or not rows.size:
        return None
    accuracy, spread = _accuracy(table, rows)
    if not np.isfinite(accuracy).all():
        return None
    allowed = worth.allowed(float(accuracy[0]))
    if not allowed > 0:
        return None
    steps = tuple(
        _stride(estimates, levels, rows, (accuracy, spread), i, worth, allowed)
        for i in range(len(levels) - 1)
    )
    y = estimates.mean[rows].mean(axis=0)
    last = levels[-1]
    low, high = np.nan, np.nan
    if estimates.known:
        low = next((s.level for s in steps if s.pays >= SURE), last)
        high = next((s.level for s in steps if s.loses < SURE), np.inf)
    return Elbow(
        next((s.level for s in steps if not s.wins), last), low, high, steps,
        tuple(float(v) for v in np.exp(y - y[0])), tuple(float(v) for v in accuracy), allowed,
    )  # fmt: skip


def _accuracy(table: Table, rows: Ints) -> tuple[Floats, Floats]:
    """Return accuracy by level and its variance; that of images is not less in several contexts.

    Nothing is known of the variance where there is no ``accuracy_n``: it is then infinite.
    """
    value = pd.to_numeric(table.cells["accuracy"], errors="coerce").to_numpy(dtype=float)
    mean = value[rows].mean(axis=0)
    if "accuracy_n" not in table.cells:
        return mean, np.full(len(mean), np.inf)
    n = pd.to_numeric(table.cells["accuracy_n"], errors="coerce").to_numpy(dtype=float)
    n = n[rows].min(axis=0)
    p = (mean * n + 1) / (n + 2)
    return mean, np.where(np.isfinite(n), p * (1 - p) / n, np.inf)


def _stride(
    estimates: Estimates,
    levels: Sequence[float],
    rows: Ints,
    accuracy: tuple[Floats, Floats],
    i: int,
    worth: Worth,
    allowed: float,
) -> Stride:
    """Return what one step gives and costs."""
    acc, spread = accuracy
    before, after = rows[:, i], rows[:, i + 1]
    ratio = float(np.exp((estimates.mean[after] - estimates.mean[before]).mean()))
    gain, cost = 1 - ratio, float(acc[i] - acc[i + 1]) / allowed
    count = np.array(float(len(rows)))
    total, apart = (of(after, before).sum(axis=0) for of in (estimates.gap, estimates.apart))
    var = estimates.averaged(total, count, apart)
    of_images = float(spread[i] + spread[i + 1]) / allowed**2
    se = float(np.sqrt(ratio**2 * var.sum() + of_images))
    df = float(satterthwaite(var, estimates.df)) if estimates.known else np.inf
    left = _left(worth, acc, i + 1)
    edge = float(np.sqrt(spread[i + 1] + (spread[0] if worth.drop is not None else 0.0)))
    pays = max(_above(gain - cost, se, df), _above(left, edge, np.inf))
    loses = 2 * min(_above(cost - gain, se, df), _above(-left, edge, np.inf))
    wins = gain > cost and left >= 0
    return Stride(
        levels[i], levels[i + 1], gain, cost,
        pays if estimates.known else 1.0, min(1.0, loses) if estimates.known else 1.0, wins,
    )  # fmt: skip


def _left(worth: Worth, accuracy: Floats, i: int) -> float:
    """Return how much of the allowed loss is left at a level; infinite without a limit."""
    if worth.drop is not None:
        return worth.drop - float(accuracy[0] - accuracy[i])
    return float(accuracy[i]) - worth.least if worth.least is not None else float("inf")


def _above(value: float, se: float, df: float) -> float:
    """Return the one-sided p value of "it is above zero"."""
    if np.isinf(value):
        return 0.0 if value > 0 else 1.0
    if np.isinf(se):
        return 1.0
    if se == 0:
        return 0.0 if value > 0 else 1.0
    return float(above(value / se, df))
