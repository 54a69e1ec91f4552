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

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.student import above, below
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contenders import near_best
from dlas.analyze.parts.contrasts import (
    Differences,
    Grid,
    differences,
    grid,
    place,
    satterthwaite,
    smaller,
)
from dlas.analyze.parts.limits import paired
from dlas.analyze.parts.turned import (
    Example,
    Groups,
    Looked,
    always_so,
    by_choice,
    contexts_in,
    groups_of,
    rows_of,
)
from dlas.analyze.parts.within import meeting

FAMILY = 0.05
AT_ONCE = 4_000_000
"""Groups times pairs times strata that are looked at together: a few arrays of 32 MB."""
COLUMNS = [
    "layer", "a", "b", "by", "better_at", "worse_at", "ratio_better", "ratio_worse",
    "contexts_better", "contexts_worse", "matched", "alone", "always", "places", "p",
    "differs_in", "cells_better", "cells_worse", "fails_better", "fails_worse",
]  # fmt: skip


def flips(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return every flip, shown by the two groups of contexts that differ in fewest layers.

    One row per pair of choices and per layer ``by`` that flips it: ``ratio_better`` is b over
    a at ``better_at`` (above 1: a is better there), ``ratio_worse`` the same at ``worse_at``
    (below 1). ``alone`` says whether ``by`` turns the two by itself: contexts that are equal but
    for it surely show both orders (``matched`` counts them); only where no layer does that, ``by``
    names all layers in which the two nearest places differ (``differs_in`` counts them), which
    turn it together. ``always`` is what all contexts that hold both choices have in common, where
    one of the two is elsewhere, too. ``places`` is what else is fixed where the flip shows, for
    all places of the example's kind. ``p`` is adjusted over the whole table, NaN where no noise
    is known; it is that of the clearest example, though one between stacks near the best is told
    before it. ``cells_better`` and ``cells_worse`` hold a pair of cells that shows each side;
    ``fails_better`` and ``fails_worse`` which of the two surely fail the goals all over it.
    """
    facts = _RowFacts(near_best(table, estimates), table.complete & ~meeting(table, estimates)[1])
    work: list[tuple[Grid, Groups, list[Ints]]] = []
    for layer in paired(table):
        found = grid(table, Factor(layer, layer, table.levels[layer]), estimates)
        groups = groups_of(found)
        work.append((found, groups, _portions(found, groups, estimates)))
    tests = sum(int((_counts(f.row, p, g) > 0).sum()) for f, g, some in work for p in some)
    rows = []
    for found, groups, some in work:
        for pairs in some:
            diff = differences(found, estimates, pairs)
            stat = _statistics(diff, groups, estimates)
            better, worse = _claims(stat, tests, table.floor, estimates.known)
            for pair in np.flatnonzero(better.any(axis=0) & worse.any(axis=0)):
                found_at = (diff, groups, stat, better, worse, int(pair), tests)
                rows += _shown(table, *found_at, estimates, facts)
    out = pd.DataFrame(rows, columns=COLUMNS)
    size = np.minimum(np.log(out["ratio_better"]), -np.log(out["ratio_worse"]))
    return out.iloc[np.argsort(-size.to_numpy(), kind="stable")].reset_index(drop=True)


@dataclass(frozen=True)
class _RowFacts:
    """How every row stands to the best and to the goals."""

    near: Bools
    """It is near the best."""
    fails: Bools
    """It surely fails a limit of the goals."""


def flip_counts(found: pd.DataFrame) -> pd.DataFrame:
    """Count by layer and flipping layer how many pairs of choices change order."""
    one = found[found["differs_in"] == 1]
    if not len(one):
        return pd.DataFrame(columns=["layer", "by", "pairs"])
    counts = one.groupby(["layer", "by"], sort=False).size().rename("pairs").reset_index()
    return counts.sort_values("pairs", ascending=False, kind="stable").reset_index(drop=True)


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
    var = estimates.averaged(groups.summed(diff.var), safe, groups.summed(diff.apart))
    small = smaller(mean, median)
    se, df = np.sqrt(var.sum(axis=-1)), satterthwaite(var, estimates.df)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(count > 0, small / se, 0.0)
    return _Statistics(
        mean,
        count,
        np.where(count > 0, below(t, df), 1.0),
        np.where(count > 0, above(t, df), 1.0),
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
    estimates: Estimates,
    facts: _RowFacts,
) -> list[dict[str, object]]:
    """Return for one pair of choices the best example for each layer that flips it."""
    always = always_so(diff, pair)
    fixed = [tuple(x for x in f if x[0] not in always) for f in groups.fixed]
    size, groups = np.abs(stat.mean[:, pair]), replace(groups, fixed=fixed)
    looked = Looked(table, diff, groups, size, pair, estimates, facts.near)
    up, down = np.flatnonzero(better[:, pair]), np.flatnonzero(worse[:, pair])
    rows = []
    for by, e in looked.examples(up, down).items():
        rows.append(
            {
                "layer": diff.grid.factor.layer,
                "a": diff.grid.levels[diff.first[pair]],
                "b": diff.grid.levels[diff.second[pair]],
                "by": ", ".join(by),
                "better_at": place(dict(fixed[e.g])),
                "worse_at": place(dict(fixed[e.h])),
                "ratio_better": float(np.exp(-stat.mean[e.g, pair])),
                "ratio_worse": float(np.exp(-stat.mean[e.h, pair])),
                "contexts_better": int(stat.count[e.g, pair]),
                "contexts_worse": int(stat.count[e.h, pair]),
                "matched": e.matched,
                "alone": e.matched > 0,
                "always": [f"{c}={v}" for c, v in by_choice(diff, pair, always).items()],
                "places": e.places,
                "p": _adjusted(stat, e, pair, tests),
                "differs_in": len(by),
                **_seen(table, diff, groups, e, pair, facts),
            }
        )
    return rows


def _adjusted(stat: _Statistics, e: Example, pair: int, tests: int) -> float:
    """Return the p value of a flip over all tests of the table; NaN where no noise is known."""
    g, h = e.clearest
    p = tests * float(max(stat.p_lower[g, pair], stat.p_higher[h, pair]))
    return p if p < 1 else float("nan")


def _seen(
    table: Table, diff: Differences, groups: Groups, e: Example, pair: int, facts: _RowFacts
) -> dict[str, object]:
    """Return what the two places of an example can be checked on, and what fails there."""
    out: dict[str, object] = {}
    for name, group, sign in (("better", e.g, -1.0), ("worse", e.h, 1.0)):
        out[f"cells_{name}"] = _cells(table, diff, groups, group, pair, sign)
        out[f"fails_{name}"] = _failing(diff, groups, group, pair, facts.fails)
    return out


def _cells(
    table: Table, diff: Differences, groups: Groups, group: int, pair: int, sign: float
) -> list[str]:
    """Return the two cells (a, b) of the group's context that shows its sign most."""
    ids = table.rows["cell"].to_numpy()
    return [str(ids[row]) for row in rows_of(diff, groups, group, pair, sign)]


def _failing(diff: Differences, groups: Groups, group: int, pair: int, fails: Bools) -> list[str]:
    """Return which of two choices surely fail the goals in all contexts of a group."""
    contexts = contexts_in(groups, group)
    rows = diff.grid.row[contexts[diff.there[contexts, pair] > 0]]
    sides = (int(diff.first[pair]), int(diff.second[pair]))
    return [diff.grid.levels[i] for i in sides if fails[rows[:, i]].all()]
