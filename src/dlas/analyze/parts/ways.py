"""Ways: one technique in several forms, of which not everything beside it takes every one.

Where one runtime takes a technique in one form alone and the next one in another, hardly two cells
differ in nothing but the form, so that comparing everything else equal does not say which form
leads further. What can be said: in each group of what is given (data set, model, hardware and
host of a stack) the best stack in one form stands beside the best in any other, each with what
goes best with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import Halves, halves
from dlas.analyze.estimate.levels import Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contenders import groups
from dlas.analyze.parts.contrasts import tested
from dlas.analyze.parts.taken import named
from dlas.analyze.parts.tops import candidates, nearer, top, top_over_top

COLUMNS = [
    "layer", "kind", "apart", "at", "way", "stack", "other", "other_stack", "ratio", "low", "high",
    "sure", "cells",
]  # fmt: skip
ALPHA = 0.05
"""The chance of any false "surely" among the groups of one technique."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def ways(table: Table, estimates: Estimates, both: Halves | None = None) -> pd.DataFrame:
    """Return for every technique with several ways which one is the best of each group.

    One row per technique (``kind``) and group (``at``) in which at least two ways meet the goals:
    ``way`` is the best one, ``stack`` what it stands with, ``other`` the best of the other ways,
    ``other_stack`` what that stands with; ``ratio`` is the other over the best with an interval
    that holds for all groups together (NaN where no noise is known), ``sure`` whether it is above
    1, without noise above the floor; ``cells`` are both. ``apart`` names the layers of which not
    every choice goes with every way. ``both`` are the two halves of the rounds, where they were
    split before.
    """
    both = both or halves(table, estimates)
    rows = candidates(table, estimates, both)
    frames = []
    for layer in _chosen(table) if len(rows) else ():
        for kind, way in _kinds(table, layer):
            if apart := _apart(table, layer, way):
                found = _by_group(table, estimates, both, rows, layer, way)
                frames.append(found.assign(kind=kind, apart=[apart] * len(found)))
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True)[COLUMNS] if some else pd.DataFrame(columns=COLUMNS)


def way_of(level: str) -> str:
    """Return a choice's text without the parameters that are numbers: they are no other way."""

    def kept(found: re.Match[str]) -> str:
        parts = [p for p in found[1].split(",") if not _NUMBER.fullmatch(p.partition("=")[2])]
        return f"({','.join(parts)})" if parts else ""

    return re.sub(r"\(([^()]*)\)", kept, level)


def _chosen(table: Table) -> list[str]:
    _, given = groups(table)
    return [x for x in table.free if x not in given]


def _kinds(table: Table, layer: str) -> Iterator[tuple[str, pd.Series]]:
    """Give each technique of a layer with several ways, and its way by row; empty: another one.

    A way is called as its only level, where it has one.
    """
    levels = table.cells[layer].astype(str)
    kinds, free = table.skeletons[layer], levels.map(way_of)
    for kind in kinds[table.complete].unique():
        own = levels.where(kinds == kind, "")
        found = free[table.complete & (own != "")].unique()
        if len(found) > 1:
            called = {w: levels[free == w].unique() for w in found}
            names = {w: s[0] if len(s) == 1 else w for w, s in called.items()}
            yield kind, free.where(own != "", "").map(lambda w, names=names: names.get(w, ""))


def _apart(table: Table, layer: str, way: pd.Series) -> list[str]:
    """Return the other layers that are chosen of which not every level ran with every way."""
    own = table.complete & (way != "").to_numpy(dtype=bool)
    out = []
    for other in (x for x in _chosen(table) if x != layer):
        sets = table.cells[other][own].groupby(way[own]).agg(frozenset)
        if sets.nunique() > 1:
            out.append(other)
    return out


def _by_group(
    table: Table, estimates: Estimates, both: Halves, rows: Ints, layer: str, way: pd.Series
) -> pd.DataFrame:
    """Return a row for each group in which several ways of a technique meet the goals."""
    index, given = groups(table)
    rows = rows[(way.iloc[rows] != "").to_numpy(dtype=bool)]
    group = pd.factorize(index[rows])[0].astype(np.int64)
    called = way.to_numpy(dtype=object)
    best = top(estimates.mean, rows, np.ones(len(rows), dtype=bool), group)
    ahead = np.asarray(called[rows] == called[best][group], dtype=bool)
    second = top(estimates.mean, rows, ~ahead, group)
    read = top_over_top(both, rows, group, ~ahead, ahead)
    there = np.flatnonzero((second >= 0) & np.isfinite(read.value))
    best, second = best[there], second[there]
    level = 1 - ALPHA / max(len(there), 1)
    both_ways = nearer(read.ways)[there]
    result = tested(read.value[there], read.var[there], estimates, level, median=both_ways)
    sure = result.low > 0 if estimates.known else result.value > np.log1p(table.floor)
    at = named(table, sorted(given, key=table.layers.index))
    beside = named(table, [x for x in _chosen(table) if x != layer])
    ids = table.rows["cell"].astype(str).to_numpy()
    frame = {
        "layer": layer, "at": at[best], "way": called[best], "stack": beside[best],
        "other": called[second], "other_stack": beside[second],
        "ratio": np.exp(result.value), "low": np.exp(result.low), "high": np.exp(result.high),
        "sure": sure, "cells": np.stack([ids[best], ids[second]], axis=1).tolist(),
    }  # fmt: skip
    return pd.DataFrame(frame)
