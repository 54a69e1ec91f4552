"""Which layer turns a pair of choices: by itself, or only together with others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TypeAlias

import numpy as np
from scipy import sparse

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints, codes
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Differences, Grid, place, smaller, upper

LEVEL = 0.05
Candidate: TypeAlias = tuple[float, int, int]
"""How clear two places are, and both groups, turned to negative numbers."""
MOST_TRIED = 40
"""Pairs of places that are looked at for one that shows a layer turning a pair by itself."""


@dataclass(frozen=True)
class Groups:
    """Sets of contexts over which differences are averaged."""

    member: sparse.csr_array
    """1 by group and context."""
    fixed: list[tuple[tuple[str, str], ...]]
    """What the contexts of a group have in common, as (layer, level)."""
    single: Bools
    """Whether a group is one context."""

    def summed(self, values: Floats) -> Floats:
        """Return the sums over the contexts of each group of values by context, pair and more."""
        k, pairs, more = values.shape
        flat = self.member @ values.reshape(k, pairs * more)
        return np.asarray(flat).reshape(len(self.fixed), pairs, more)


@lru_cache(maxsize=64)
def groups_of(found: Grid) -> Groups:
    """Return single contexts, then sets with one and with two choices in common."""
    # What is the same in all contexts is no condition.
    columns = {c: values for c, values in found.columns.items() if len(set(values)) > 1}
    names = list(columns)
    numbers = {c: codes([columns[c]], len(found.contexts)) for c in names}
    k = len(found.contexts)
    fixed = [tuple((c, f[c]) for c in names) for f in found.fixed]
    members = [np.array([i]) for i in range(k)]
    for size in (1, 2):
        for some in combinations(names, size):
            group = codes([numbers[c] for c in some], k)
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


def always_so(diff: Differences, pair: int) -> dict[str, str]:
    """Return what all contexts that hold both choices have in common, though others differ."""
    here = diff.there[:, pair] > 0
    out = {}
    for name, column in diff.grid.columns.items():
        values = set(column[here])
        if len(values) == 1 and len(set(column)) > 1:
            out[name] = str(values.pop())
    return out


def by_choice(diff: Differences, pair: int, always: dict[str, str]) -> dict[str, str]:
    """Return of what all these contexts have in common what either choice also has otherwise."""
    row = diff.grid.row
    ran = (row[:, [diff.first[pair], diff.second[pair]]] >= 0).any(axis=1)
    columns = diff.grid.columns
    return {c: v for c, v in always.items() if len(set(columns[c][ran])) > 1}


@dataclass(frozen=True)
class Example:
    """Two places that show a flip."""

    g: int
    """The group of contexts in which the first choice is the better one."""
    h: int
    """That in which it is the worse one."""
    matched: int
    """Contexts equal but for the flipping layer, 0 unless they surely show both orders."""
    places: list[str]
    """What else is fixed, for every two places of the same kind."""
    clearest: tuple[int, int]
    """The two places that show the flip best: what is claimed rests on these."""


@dataclass(frozen=True)
class Looked:
    """One pair of choices, looked at for the layers that turn it."""

    table: Table
    diff: Differences
    groups: Groups
    size: Floats
    """How large the mean log ratio of each group is."""
    pair: int
    estimates: Estimates
    near: Bools
    """Which rows are near the best."""

    def examples(self, up: Ints, down: Ints) -> dict[tuple[str, ...], Example]:
        """Return for each layer that turns the pair by itself its clearest two places.

        Two places whose winners are both near the best come before all others. Where no layer
        turns the pair: the two nearest places, and all layers in which they differ.
        """
        pairs, places = self._apart_in_one(up, down)
        out: dict[tuple[str, ...], Example] = {}
        for by in sorted(pairs):
            tried = [(-g, -h) for _, g, h in sorted(pairs[by], reverse=True)[:MOST_TRIED]]
            turned = ((g, h, n) for g, h in tried if (n := self._turned(g, h, (by,))))
            first = next(turned, None)
            if first is None:
                continue
            near = ((g, h, n) for g, h, n in (first, *turned) if self._decides(g, h))
            g, h, matched = next(near, first)
            kind = _names(self.groups.fixed[g])
            out[(by,)] = Example(g, h, matched, sorted(set(places[by, kind])), first[:2])
        return out or self._together(up, down)

    def _decides(self, g: int, h: int) -> bool:
        """Say whether the winners of two places are near the best."""
        winners = (rows_of(self.diff, self.groups, where, self.pair, sign)[i]
                   for i, (where, sign) in enumerate(((g, -1.0), (h, 1.0))))  # fmt: skip
        return all(bool(self.near[row]) for row in winners)

    def _apart_in_one(
        self, up: Ints, down: Ints
    ) -> tuple[dict[str, list[Candidate]], dict[tuple[str, tuple[str, ...]], list[str]]]:
        """Return by layer all two places that differ in it alone, and what else is fixed there."""
        fixed, size = self.groups.fixed, self.size
        sides: tuple[dict[tuple[object, ...], int], dict[tuple[object, ...], int]] = ({}, {})
        for where, side in ((up, sides[0]), (down, sides[1])):
            for g in where[np.argsort(size[where], kind="stable")].tolist():
                for i, (layer, _) in enumerate(fixed[g]):
                    rest = fixed[g][:i] + fixed[g][i + 1 :]
                    side[(layer, _names(fixed[g]), rest)] = g
        pairs: dict[str, list[Candidate]] = {}
        places: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for key in sides[0].keys() & sides[1].keys():
            g, h, layer = sides[0][key], sides[1][key], str(key[0])
            rest = tuple(x for x in fixed[g] if x[0] != layer)
            places.setdefault((layer, _names(fixed[g])), []).append(place(dict(rest)))
            # Keys come in no fixed order: equal strengths are settled by place.
            pairs.setdefault(layer, []).append((float(min(size[g], size[h])), -g, -h))
        return pairs, places

    def _together(self, up: Ints, down: Ints) -> dict[tuple[str, ...], Example]:
        """Return the two places that differ in the fewest layers, single contexts first."""
        fixed, size = self.groups.fixed, self.size
        best: tuple[int, float, int, int] | None = None
        for single in (True, False):
            some, others = (w[self.groups.single[w] == single] for w in (up, down))
            ranked = (w[np.argsort(-size[w], kind="stable")][:MOST_TRIED] for w in (some, others))
            one, two = (w.tolist() for w in ranked)
            every = [
                (len(_differ(fixed[g], fixed[h])), -min(size[g], size[h]), g, h)
                for g in one
                for h in two
            ]
            if every:
                best = min(every)
                break
        if best is None:
            g, h = int(up[np.argmax(size[up])]), int(down[np.argmax(size[down])])
        else:
            g, h = best[2], best[3]
        return {_differ(fixed[g], fixed[h]): Example(g, h, 0, [], (g, h))}

    def _turned(self, g: int, h: int, by: tuple[str, ...]) -> int:
        """Count contexts equal but for one layer at both places; 0 unless they surely turn.

        Two averages may have other signs though no context turns: with holes they rest on other
        contexts, and without them one context may make each. If none turns, the smaller of
        "better there" and "worse here" is at most nothing in all of them, and so is its mean: that
        mean is tested, and each of them by itself (Bonferroni).
        """
        rows = self._matched(g, h, by)
        if not len(rows):
            return 0
        d = smaller(self.diff.mean[:, self.pair], self.diff.median[:, self.pair])
        there, here = -d[rows[:, 0]], d[rows[:, 1]]
        if not self.estimates.known:
            half = np.log1p(self.table.floor)
            return len(rows) if bool(((there > half) & (here > half)).any()) else 0
        var = self.diff.var[:, self.pair]
        one = upper(there, var[rows[:, 0]], self.estimates)
        two = upper(here, var[rows[:, 1]], self.estimates)
        single = float(np.maximum(one, two).min()) * len(rows)
        both = (var[rows[:, 0]] + var[rows[:, 1]]).sum(axis=0, keepdims=True)
        # which of the two is the smaller changes from row to row: signs do not cancel
        size = np.abs(self.diff.apart[:, self.pair])
        left = np.hypot(*(size[rows[:, i]].sum(axis=0, keepdims=True) for i in (0, 1)))
        total = self.estimates.averaged(both, np.array([float(len(rows))]), left)
        mean = np.array([np.minimum(there, here).mean()])
        p = 2 * min(single, float(upper(mean, total, self.estimates)[0]))
        return len(rows) if p < LEVEL else 0

    def _matched(self, g: int, h: int, by: tuple[str, ...]) -> Ints:
        """Return the contexts of two groups that are equal but for some layers, pair by pair."""
        key = _rest(self.diff.grid, by)
        sides = []
        for group in (g, h):
            contexts = contexts_in(self.groups, group)
            contexts = contexts[self.diff.there[contexts, self.pair] > 0]
            sides.append(dict(zip(key[contexts].tolist(), contexts.tolist(), strict=True)))
        both = sorted(sides[0].keys() & sides[1].keys())
        return np.array([[s[k] for s in sides] for k in both], dtype=np.int64).reshape(-1, 2)


def _names(fixed: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(c for c, _ in fixed)


def _differ(one: tuple[tuple[str, str], ...], two: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Return the layers in which two places differ."""
    a, b = dict(one), dict(two)
    return tuple(c for c in dict.fromkeys((*a, *b)) if a.get(c) != b.get(c))


@lru_cache(maxsize=64)
def _rest(found: Grid, by: tuple[str, ...]) -> Ints:
    """Number the contexts by all that is chosen in them but some layers."""
    others = [found.contexts[c].to_numpy() for c in found.contexts.columns if c not in by]
    return codes(others, len(found.contexts))


def rows_of(
    diff: Differences, groups: Groups, group: int, pair: int, sign: float
) -> tuple[int, int]:
    """Return the two rows of the group's context that shows a sign of the difference most."""
    contexts = contexts_in(groups, group)
    values = np.where(diff.there[contexts, pair] > 0, sign * diff.mean[contexts, pair], -np.inf)
    row = diff.grid.row[int(contexts[int(np.argmax(values))])]
    return int(row[diff.first[pair]]), int(row[diff.second[pair]])


def contexts_in(groups: Groups, group: int) -> Ints:
    """Return the numbers of the contexts of a group."""
    start, end = groups.member.indptr[group], groups.member.indptr[group + 1]
    return np.asarray(groups.member.indices[start:end], dtype=np.int64)
