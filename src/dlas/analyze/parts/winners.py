"""Winners: the best choice of a layer in each context, and on maps over two other layers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints, codes
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import Grid, grid, tested
from dlas.analyze.parts.covered import tried_in
from dlas.analyze.parts.limits import paired

COLUMNS = [
    "layer", "level", "contexts", "best", "clearly", "tied", "contested", "of", "failed", "p",
    "cells",
]  # fmt: skip
MAP_COLUMNS = [
    "layer", "row_layer", "column_layer", "row", "column", "best", "tied", "over_second",
    "contexts", "levels",
]  # fmt: skip


def winners(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Count for each choice of each layer how often it is the best, everything else equal.

    Only contexts with at least two choices count. ``contexts`` is where the choice took part,
    ``best`` where its value is the best, ``clearly`` where it also beats the second by more
    than noise (one-sided 95 %) and by the floor, ``tied`` where it is within that of the best
    without being it; ``contested`` the contexts of the layer in all; ``of`` those in which it or
    any other choice ran, ``failed`` those of them in which it was tried and did not run. ``p`` is
    for "the best in all its contexts" (intersection-union: the largest p over contexts), NaN where
    it is not; ``cells`` are then its own and its rival's where the rival comes nearest.
    """
    out = []
    for layer in table.free:
        found = grid(table, Factor(layer, layer, table.levels[layer]), estimates)
        row = found.row[(found.row >= 0).sum(axis=1) >= 2]
        if not len(row):
            continue
        best, tied, p = _judged(table, estimates, row)
        alone = tied.sum(axis=1) == 1
        for i, level in enumerate(found.levels):
            takes = row[:, i] >= 0
            always = takes.any() and bool((best[takes] == i).all())
            out.append(
                {
                    "layer": layer,
                    "level": level,
                    "contexts": int(takes.sum()),
                    "best": int((best == i).sum()),
                    "clearly": int(((best == i) & alone).sum()),
                    "tied": int((tied[:, i] & (best != i)).sum()),
                    "contested": len(row),
                    **_without(table, found, i, int(takes.sum())),
                    "p": float(p[takes].max()) if always else float("nan"),
                    "cells": _nearest(table, estimates, row[takes], i) if always else [],
                }
            )
    return pd.DataFrame(out, columns=COLUMNS)


def _without(table: Table, found: Grid, level: int, takes: int) -> dict[str, int]:
    """Count the contexts in which others ran, and this level was tried and did not."""
    others = (found.row >= 0).any(axis=1) & (found.row[:, level] < 0)
    failed = tried_in(table, found, others, found.levels[level])
    return {"of": takes + int(others.sum()), "failed": failed}


def _nearest(table: Table, estimates: Estimates, row: Ints, level: int) -> list[str]:
    """Return a level's cell and its rival's where the rival comes nearest, in any context."""
    y = np.where(row >= 0, estimates.mean[row], np.inf)
    gap = y - y[:, [level]]
    gap[:, level] = np.inf
    context, rival = np.unravel_index(int(np.argmin(gap)), gap.shape)
    ids = table.rows["cell"].to_numpy()
    return [str(ids[row[context, level]]), str(ids[row[context, rival]])]


def _judged(table: Table, estimates: Estimates, row: Ints) -> tuple[Ints, Bools, Floats]:
    """Return the best level of each context, which cannot be told from it, and its p value."""
    there = row >= 0
    y = np.where(there, estimates.mean[row], np.inf)
    best = np.asarray(np.argmin(y, axis=1), dtype=np.int64)
    top = row[np.arange(len(row)), best]
    gap = y - estimates.mean[top][:, None]
    tied = there & (gap <= np.log1p(table.floor))
    p = np.full(len(row), np.nan)
    if estimates.known:
        # The best of several noisy values looks better than it is: one-sided, over all others.
        var = estimates.gap(row, np.broadcast_to(top[:, None], row.shape))
        middle = np.where(there, estimates.median[row], np.inf) - estimates.median[top][:, None]
        others = np.maximum(there.sum(axis=1) - 1, 1)
        level = 1 - 2 * 0.05 / others
        for k in np.unique(others):
            part = others == k
            chance = float(level[part][0])
            result = tested(gap[part], var[part], estimates, chance, median=middle[part])
            tied[part] |= there[part] & (result.low <= 0)
            rivals = there[part] & (np.arange(row.shape[1]) != best[part][:, None])
            p[part] = np.minimum(1.0, k * np.where(rivals, result.p / 2, 0.0).max(axis=1))
    tied[np.arange(len(row)), best] = True
    return best, tied, p


def winner_maps(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return the best choice of each layer for each combination of two others.

    Over the remaining contexts choices are compared by least squares (choice + context), so
    that a hole favours nobody; ``tied`` are the choices within the floor or the noise of the
    best, ``over_second`` what the best gains over the second, ``contexts`` how many contexts
    compare at least two choices. Combinations whose choices share no context are left out.
    """
    frames = []
    for layer in paired(table):
        found = grid(table, Factor(layer, layer, table.levels[layer]), estimates)
        others = [c for c, levels in found.columns.items() if len(set(levels)) > 1]
        for one, two in combinations(others, 2):
            frames += _map(table, estimates, found, one, two)
    return pd.DataFrame(frames, columns=MAP_COLUMNS)


def _map(
    table: Table, estimates: Estimates, found: Grid, one: str, two: str
) -> list[dict[str, object]]:
    """Return one map: a row for each combination of two layers."""
    rows, columns = found.columns[one], found.columns[two]
    group = codes([rows, columns], len(rows))
    first = np.unique(group, return_index=True)[1]
    normal, inverse, effect, noise, count = _solved(estimates, found, group)
    takes = [np.flatnonzero(np.diag(each) > 0) for each in normal]
    linked = [g for g in np.flatnonzero(_linked(normal, inverse)).tolist() if len(takes[g]) > 1]
    compared = [
        _beside(effect[g, takes[g]], inverse[g][np.ix_(takes[g], takes[g])]) for g in linked
    ]
    tied = _tied(table, estimates, compared, noise[linked])
    out: list[dict[str, object]] = []
    for g, (best, gap, _), alike in zip(linked, compared, tied, strict=True):
        names, order = [found.levels[i] for i in takes[g]], np.argsort(gap, kind="stable")
        out.append(
            {
                "layer": found.factor.layer,
                "row_layer": one,
                "column_layer": two,
                "row": rows[first[g]],
                "column": columns[first[g]],
                "best": names[best],
                "tied": [names[i] for i in order if alike[i] and i != best],
                "over_second": float(np.exp(gap[order[1]])),
                "contexts": int(count[g]),
                "levels": len(names),
            }
        )
    return out


def _solved(
    estimates: Estimates, found: Grid, group: Ints
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Solve choice + context in each group of contexts.

    Returns:
        Normal matrices, their inverses, effects, mean variances of a cell by stratum, and the
        number of contexts that compare at least two choices.
    """
    n = int(group.max(initial=-1)) + 1
    there = found.row >= 0
    useful = there.sum(axis=1) >= 2
    v = np.where(useful[:, None], there.astype(float), 0.0)
    size = np.maximum(v.sum(axis=1), 1.0)
    y = np.where(v > 0, estimates.mean[found.row], 0.0)
    centred = (y - (y.sum(axis=1) / size)[:, None]) * v
    levels = len(found.levels)
    normal, right = np.zeros((n, levels, levels)), np.zeros((n, levels))
    # Each context takes its own mean out: diag(v) - v v' / size.
    own = v[:, :, None] * np.eye(levels) - v[:, :, None] * v[:, None, :] / size[:, None, None]
    np.add.at(normal, group, own)
    np.add.at(right, group, centred)
    inverse = np.asarray(np.linalg.pinv(normal, hermitian=True), dtype=float)
    effect = np.einsum("nij,nj->ni", inverse, right)
    count = np.asarray(np.bincount(group, useful, minlength=n), dtype=float)
    return (
        np.asarray(normal),
        inverse,
        np.asarray(effect),
        _mean_var(estimates, found, v, group, n),
        count,
    )


def _linked(normal: Floats, inverse: Floats) -> Bools:
    """Say for each group whether its choices are all linked through shared contexts."""
    takes = (np.einsum("nii->ni", normal) > 0).sum(axis=1)
    rank = np.rint(np.einsum("nij,nji->n", normal, inverse))
    return np.asarray(rank == takes - 1)


def _mean_var(estimates: Estimates, found: Grid, v: Floats, group: Ints, n: int) -> Floats:
    """Return the mean variance of a cell by group and stratum.

    Of an error that cells share it is what they differ by in it.
    """
    var, own = estimates.var[found.row] * v[:, :, None], estimates.own
    count = np.maximum(np.bincount(group, v.sum(axis=1), minlength=n), 1.0)[:, None]
    total, spread = np.zeros((n, var.shape[2])), np.zeros((n, var.shape[2] - own))
    np.add.at(total, group, var.sum(axis=1))
    np.add.at(spread, group, np.sqrt(var[..., own:]).sum(axis=1))
    mean = total / count
    mean[:, own:] = np.maximum(mean[:, own:] - (spread / count) ** 2, 0.0)
    return np.asarray(mean)


def _beside(effect: Floats, inverse: Floats) -> tuple[int, Floats, Floats]:
    """Return the best level, how far the others are from it, and the variance of that."""
    best = int(np.argmin(effect))
    spread = np.diag(inverse) + inverse[best, best] - 2 * inverse[best]
    return best, effect - effect[best], np.maximum(spread, 0)


def _tied(
    table: Table, estimates: Estimates, compared: list[tuple[int, Floats, Floats]], noise: Floats
) -> list[Bools]:
    """Return which levels cannot be told from the best, for each of some groups of contexts."""
    if not compared:
        return []
    sizes = np.array([len(gap) for _, gap, _ in compared])
    gap, spread = (np.concatenate([each[i] for each in compared]) for i in (1, 2))
    tied = gap <= np.log1p(table.floor)
    if estimates.known:
        level = np.repeat(1 - 2 * 0.05 / np.maximum(sizes - 1, 1), sizes)
        var = spread[:, None] * np.repeat(noise, sizes, axis=0)
        tied = tied | (tested(gap, var, estimates, level).low <= 0)
    return np.split(tied, np.cumsum(sizes)[:-1])
