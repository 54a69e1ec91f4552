"""Flips: choice a is better than b in one context and worse in another.

A flip is a qualitative interaction (Gail and Simon 1985). It is claimed where both one-sided
tests pass (intersection-union): somewhere a is better, somewhere it is worse. Tests are made in
every single context and on averages over all contexts that share one or two other choices (an
average above zero means that a context above zero exists); the one-sided level is 5 % divided
by the number of all of them over all pairs and layers of the table (Bonferroni), so that the
chance of any false flip in a table is at most 5 %. With three rounds or more the statistic is
the smaller of mean and median over rounds, so that no single bad round makes a flip.
Where no noise is known nothing is tested: differences beyond the floor are shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import sparse, stats

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints, codes
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import Differences, Grid, differences, grid, satterthwaite
from dlas.analyze.parts.limits import paired

FAMILY = 0.05
AT_ONCE = 4_000_000
"""Groups times pairs times strata that are looked at together: a few arrays of 32 MB."""
COLUMNS = [
    "layer", "a", "b", "by", "better_at", "worse_at", "ratio_better", "ratio_worse",
    "contexts_better", "contexts_worse", "matched", "places", "p", "differs_in",
    "cells_better", "cells_worse",
]  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """Sets of contexts over which differences are averaged."""

    member: sparse.csr_array
    """1 by group and context."""
    fixed: list[tuple[tuple[str, str], ...]]
    """What the contexts of a group have in common, as (layer, level)."""
    single: Bools
    """Whether a group is one context."""


def flips(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return every flip, shown by the two groups of contexts that differ in fewest layers.

    One row per pair of choices and per layer ``by`` that flips it: ``ratio_better`` is b over
    a at ``better_at`` (above 1: a is better there), ``ratio_worse`` the same at ``worse_at``
    (below 1); ``differs_in`` counts the layers in which the two places differ; where it is more
    than one, ``by`` names them all. ``matched`` counts the contexts, equal but for ``by``, that
    are on both sides and show the flip themselves: 0 means that the two places rest on
    different contexts. ``places`` is what else is fixed where the flip shows, for all places of
    the example's kind. ``p`` is adjusted over the whole table, NaN where no noise is known.
    ``cells_better`` and ``cells_worse`` hold a pair of cells that shows each side.
    """
    work: list[tuple[Grid, Groups, list[Ints]]] = []
    for layer in paired(table):
        found = grid(table, Factor(layer, layer, table.levels[layer]), estimates)
        groups = _groups(found)
        work.append((found, groups, _portions(found, groups, estimates)))
    tests = sum(int((_counts(f.row, p, g) > 0).sum()) for f, g, some in work for p in some)
    rows = []
    for found, groups, some in work:
        for pairs in some:
            diff = differences(found, estimates, pairs)
            stat = _statistics(diff, groups, estimates)
            better, worse = _claims(stat, tests, table.floor, estimates.known)
            for pair in np.flatnonzero(better.any(axis=0) & worse.any(axis=0)):
                rows += _shown(table, diff, groups, stat, better, worse, int(pair), tests)
    out = pd.DataFrame(rows, columns=COLUMNS)
    size = np.minimum(np.log(out["ratio_better"]), -np.log(out["ratio_worse"]))
    return out.iloc[np.argsort(-size.to_numpy(), kind="stable")].reset_index(drop=True)


def flip_counts(found: pd.DataFrame) -> pd.DataFrame:
    """Count by layer and flipping layer how many pairs of choices change order."""
    one = found[found["differs_in"] == 1]
    if not len(one):
        return pd.DataFrame(columns=["layer", "by", "pairs"])
    counts = one.groupby(["layer", "by"], sort=False).size().rename("pairs").reset_index()
    return counts.sort_values("pairs", ascending=False, kind="stable").reset_index(drop=True)


@lru_cache(maxsize=64)
def _groups(found: Grid) -> Groups:
    """Return single contexts, then sets with one and with two choices in common."""
    names = list(found.contexts.columns)
    columns = {c: found.contexts[c].to_numpy() for c in names}
    k = len(found.contexts)
    fixed = [tuple(f.items()) for f in found.fixed]
    members = [np.array([i]) for i in range(k)]
    for size in (1, 2):
        for some in combinations(names, size):
            group = codes([columns[c] for c in some], k)
            order = np.argsort(group, kind="stable")
            for where in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
                if 1 < len(where) < k:
                    members.append(where)
                    fixed.append(tuple((c, str(columns[c][where[0]])) for c in some))
    lengths = [len(m) for m in members]
    index = np.repeat(np.arange(len(members)), lengths)
    flat = np.concatenate(members) if members else np.array([], dtype=int)
    member = sparse.csr_array((np.ones(len(flat)), (index, flat)), shape=(len(members), k))
    return Groups(member, fixed, np.arange(len(members)) < k)


def _portions(found: Grid, groups: Groups, estimates: Estimates) -> list[Ints]:
    """Return the pairs of levels, so many at once as memory allows."""
    pairs = np.array(np.triu_indices(len(found.levels), 1)).T.reshape(-1, 2)
    each = max(1, groups.member.shape[0] * estimates.var.shape[1])
    size = max(1, AT_ONCE // each)
    return [pairs[i : i + size] for i in range(0, len(pairs), size)]


def _counts(row: Ints, pairs: Ints, groups: Groups) -> Floats:
    """Return how many contexts of each group hold both levels of each pair."""
    both = (row[:, pairs[:, 0]] >= 0) & (row[:, pairs[:, 1]] >= 0)
    count = groups.member @ both.astype(float)
    # A group of which one context is left is that context: it is tested there.
    return np.where((count < 2) & ~groups.single[:, None], 0.0, count)


@dataclass(frozen=True)
class _Statistics:
    """By group and pair: mean log ratio, contexts, and both one-sided p values."""

    mean: Floats
    count: Floats
    p_lower: Floats
    p_higher: Floats


def _statistics(diff: Differences, groups: Groups, estimates: Estimates) -> _Statistics:
    pairs = np.stack([diff.first, diff.second], axis=1)
    count = _counts(diff.grid.row, pairs, groups)
    safe = np.maximum(count, 1.0)
    mean = np.where(count > 0, groups.member @ diff.mean / safe, 0.0)
    median = np.where(count > 0, groups.member @ diff.median / safe, 0.0)
    ones = np.ones_like(mean)
    if not estimates.known:
        return _Statistics(mean, count, ones, ones)
    shape = diff.var.shape
    flat = diff.var.reshape(shape[0], shape[1] * shape[2])
    var = estimates.averaged((groups.member @ flat).reshape(-1, shape[1], shape[2]), safe)
    agree = np.sign(mean) == np.sign(median)
    small = np.where(agree, np.sign(mean) * np.minimum(np.abs(mean), np.abs(median)), 0.0)
    se, df = np.sqrt(var.sum(axis=-1)), satterthwaite(var, estimates.df)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(count > 0, small / se, 0.0)
    return _Statistics(
        mean,
        count,
        np.where(count > 0, stats.t.cdf(t, df), 1.0),
        np.where(count > 0, stats.t.sf(t, df), 1.0),
    )


def _claims(stat: _Statistics, tests: int, floor: float, known: bool) -> tuple[Bools, Bools]:
    """Return where a is surely better than b (its log is lower) and where surely worse."""
    if known:
        limit = FAMILY / max(tests, 1)
        return stat.p_lower < limit, stat.p_higher < limit
    half = np.log1p(floor)
    there = stat.count == 1
    return there & (stat.mean < -half), there & (stat.mean > half)


def _shown(
    table: Table,
    diff: Differences,
    groups: Groups,
    stat: _Statistics,
    better: Bools,
    worse: Bools,
    pair: int,
    tests: int,
) -> list[dict[str, object]]:
    """Return for one pair of choices the best example for each layer that flips it."""
    up, down = np.flatnonzero(better[:, pair]), np.flatnonzero(worse[:, pair])
    size = np.abs(stat.mean[:, pair])
    rows = []
    for by, (g, h, places) in _examples(groups, up, down, size).items():
        p = min(1.0, tests * max(float(stat.p_lower[g, pair]), float(stat.p_higher[h, pair])))
        matched = _matched(diff, groups, g, h, by, pair) if len(by) == 1 else 0
        rows.append(
            {
                "layer": diff.grid.factor.layer,
                "a": diff.grid.levels[diff.first[pair]],
                "b": diff.grid.levels[diff.second[pair]],
                "by": ", ".join(by),
                "better_at": _place(groups.fixed[g]),
                "worse_at": _place(groups.fixed[h]),
                "ratio_better": float(np.exp(-stat.mean[g, pair])),
                "ratio_worse": float(np.exp(-stat.mean[h, pair])),
                "contexts_better": int(stat.count[g, pair]),
                "contexts_worse": int(stat.count[h, pair]),
                "matched": matched,
                "places": places,
                "p": p if p < 1 else float("nan"),
                "differs_in": len(by),
                "cells_better": _cells(table, diff, groups, stat, g, pair),
                "cells_worse": _cells(table, diff, groups, stat, h, pair),
            }
        )
    return rows


def _examples(
    groups: Groups, up: Ints, down: Ints, size: Floats
) -> dict[tuple[str, ...], tuple[int, int, list[str]]]:
    """Return for each flipping layer the clearest two places that differ in it alone.

    With them comes what else is fixed, for every such two places of the same kind. Where no two
    places differ in one layer alone: the clearest two, and all their differences.
    """
    sides: tuple[dict[tuple[object, ...], int], dict[tuple[object, ...], int]] = ({}, {})
    for where, side in ((up, sides[0]), (down, sides[1])):
        for g in where[np.argsort(size[where], kind="stable")].tolist():
            fixed = groups.fixed[g]
            for i, (layer, _) in enumerate(fixed):
                side[(layer, _names(fixed), fixed[:i] + fixed[i + 1 :])] = g
    out: dict[tuple[str, ...], tuple[float, int, int]] = {}
    places: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for key in sides[0].keys() & sides[1].keys():
        g, h = sides[0][key], sides[1][key]
        rest = tuple(x for x in groups.fixed[g] if x[0] != key[0])
        places.setdefault((str(key[0]), _names(groups.fixed[g])), []).append(_place(rest))
        strength = float(min(size[g], size[h]))
        by = (str(key[0]),)
        # Keys come in no fixed order: equal strengths are settled by place.
        if (strength, -g, -h) > out.get(by, (-1.0, 0, 0)):
            out[by] = (strength, -g, -h)
    if out:
        return {
            by: (-g, -h, sorted(places[by[0], _names(groups.fixed[-g])]))
            for by, (_, g, h) in sorted(out.items())
        }
    g, h = int(up[np.argmax(size[up])]), int(down[np.argmax(size[down])])
    return {_differ(groups.fixed[g], groups.fixed[h]): (g, h, [])}


def _names(fixed: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(c for c, _ in fixed)


def _differ(one: tuple[tuple[str, str], ...], two: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Return the layers in which two places differ."""
    a, b = dict(one), dict(two)
    return tuple(c for c in dict.fromkeys((*a, *b)) if a.get(c) != b.get(c))


def _matched(
    diff: Differences, groups: Groups, g: int, h: int, by: tuple[str, ...], pair: int
) -> int:
    """Count contexts equal but for one layer at both places, 0 unless they too show the flip.

    With holes the two averages may rest on different contexts; the flip stands, but only
    matched contexts show that this layer made it.
    """
    key = _rest(diff.grid, by)
    sides = []
    for group in (g, h):
        contexts = _contexts(groups, group)
        contexts = contexts[diff.there[contexts, pair] > 0]
        sides.append(pd.Series(diff.mean[contexts, pair], index=key[contexts]))
    both = sides[0].index.intersection(sides[1].index)
    if not len(both):
        return 0
    means = [float(s.loc[both].mean()) for s in sides]
    return len(both) if means[0] < 0 < means[1] else 0


@lru_cache(maxsize=64)
def _rest(found: Grid, by: tuple[str, ...]) -> Ints:
    """Number the contexts by all that is chosen in them but some layers."""
    others = [found.contexts[c].to_numpy() for c in found.contexts.columns if c not in by]
    return codes(others, len(found.contexts))


def _contexts(groups: Groups, group: int) -> Ints:
    start, end = groups.member.indptr[group], groups.member.indptr[group + 1]
    return np.asarray(groups.member.indices[start:end], dtype=np.int64)


def _place(fixed: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{c}={v}" for c, v in fixed)


def _cells(
    table: Table, diff: Differences, groups: Groups, stat: _Statistics, group: int, pair: int
) -> list[str]:
    """Return the two cells (a, b) of the group's context that shows its sign most."""
    contexts = _contexts(groups, group)
    sign = np.sign(stat.mean[group, pair])
    values = np.where(diff.there[contexts, pair] > 0, sign * diff.mean[contexts, pair], -np.inf)
    k = int(contexts[int(np.argmax(values))])
    ids = table.rows["cell"].to_numpy()
    row = diff.grid.row[k]
    return [str(ids[row[diff.first[pair]]]), str(ids[row[diff.second[pair]]])]
