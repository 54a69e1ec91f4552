"""Regret: what leaving a layer at its default costs the best stack that can be reached.

In each group of what is given (data set, model, hardware and host of a stack) the best of all
candidates is set beside the best of those that have a layer's default. No choice that nobody would
take has a say: a straw man is the best of nothing. Choices are made on one half of the rounds and
the ratio is read on the other, both ways, averaged on the log, since the best of noisy values
looks better than it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import Halves, halves
from dlas.analyze.estimate.levels import Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contenders import groups
from dlas.analyze.parts.contrasts import tested
from dlas.analyze.parts.taken import named
from dlas.analyze.parts.tops import TopOverTop, candidates, nearer, top, top_over_top

ALIASED = 0.8
"""Cramer's V (0: independent, 1: one follows from the other) of layers that are confounded."""
COLUMNS = [
    "layer", "default", "groups", "reached", "ratio", "low", "high", "p", "most", "most_at",
    "tied", "confounded", "missing", "cells",
]  # fmt: skip


@dataclass(frozen=True)
class _Frozen:
    """The best with a default over the best of all, by group."""

    read: TopOverTop
    frozen: Ints
    """Row of the best with the default by group, on all rounds, -1 where there is none."""


def regrets(table: Table, estimates: Estimates, both: Halves | None = None) -> pd.DataFrame:
    """Return for every free layer what its default costs, the dearest first.

    ``ratio`` is the geometric mean over groups of the best stack with the ``default`` over the
    best of all, with its 95 % interval (NaN where no noise is known), which reaches from the mean
    of both ways to the lesser: a single bad round is read one way only; ``groups`` how many there
    are, and in how many of them the default is ``reached`` by a stack that meets the goals;
    ``most`` the largest ratio, in ``most_at``; ``cells`` are the best with the default and the
    best of all there. ``tied`` names the layers whose cost cannot be told from this one's.
    ``confounded`` names those whose choices go together with this layer's in the table, so that
    nobody can tell whose cost it is, and ``missing`` a stack that would tell. ``both`` are the two
    halves of the rounds, where they were split before.
    """
    both = both or halves(table, estimates)
    rows = candidates(table, estimates, both)
    if not len(rows) or not table.free:
        return pd.DataFrame(columns=COLUMNS)
    number, given = groups(table)
    free = [x for x in table.free if x not in given]
    group = pd.factorize(number[rows])[0].astype(np.int64)
    found = {x: _read(table, estimates, both, rows, group, x) for x in free}
    joint = top(estimates.mean, rows, np.ones(len(rows), dtype=bool), group)
    labels = named(table, sorted(given, key=table.layers.index))
    out = [_row(table, estimates, x, found[x], joint, labels) for x in free]
    frame = pd.DataFrame(out, columns=COLUMNS)
    for layer, other in _together(table, rows, free):
        for one, two in ((layer, other), (other, layer)):
            at = frame.index[frame["layer"] == one][0]
            frame.at[at, "confounded"] = [*frame.at[at, "confounded"], two]
            frame.at[at, "missing"] = frame.at[at, "missing"] or _apart(table, joint, one)
    frame = frame.sort_values("ratio", ascending=False, kind="stable").reset_index(drop=True)
    return frame.assign(tied=_tied(estimates, frame, found))


def _read(
    table: Table, estimates: Estimates, both: Halves, rows: Ints, group: Ints, layer: str
) -> _Frozen:
    default = table.reference(layer)
    has = (table.cells[layer].to_numpy()[rows] == default).astype(bool)
    read = top_over_top(both, rows, group, has, np.ones(len(rows), dtype=bool))
    return _Frozen(read, top(estimates.mean, rows, has, group))


def _row(
    table: Table, estimates: Estimates, layer: str, found: _Frozen, joint: Ints, labels: np.ndarray
) -> dict[str, object]:
    read = found.read
    there = np.isfinite(read.value)
    n = int(there.sum())
    out: dict[str, object] = {
        "layer": layer, "default": table.reference(layer), "groups": len(there), "reached": n,
        "ratio": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "most": np.nan,
        "most_at": "", "tied": [], "confounded": [], "missing": "", "cells": [],
    }  # fmt: skip
    if not n:
        return out
    total, apart = (of[there].sum(axis=0, keepdims=True) for of in (read.var, read.apart))
    var = estimates.averaged(total, np.array([float(n)]), apart)
    both_ways = nearer(read.ways[:, there].mean(axis=1, keepdims=True))
    result = tested(np.array([read.value[there].mean()]), var, estimates, median=both_ways)
    worst = int(np.nanargmax(read.value))
    ids = table.rows["cell"].to_numpy()
    return out | {
        "ratio": float(np.exp(result.value[0])),
        "low": float(np.exp(result.low[0])),
        "high": float(np.exp(result.high[0])),
        "p": float(result.p[0]),
        "most": float(np.exp(read.value[worst])),
        "most_at": str(labels[joint[worst]]),
        "cells": [str(ids[found.frozen[worst]]), str(ids[joint[worst]])],
    }


def _tied(estimates: Estimates, frame: pd.DataFrame, found: dict[str, _Frozen]) -> list[list[str]]:
    """Return for each layer those whose cost cannot be told from its own."""
    out: dict[str, list[str]] = {x: [] for x in frame["layer"]}
    if not estimates.known:
        return list(out.values())
    for one, two in combinations(frame["layer"], 2):
        a, b = found[one].read, found[two].read
        there = np.isfinite(a.value) & np.isfinite(b.value)
        n = int(there.sum())
        if not n:
            continue
        gap = np.array([(a.value - b.value)[there].mean()])
        total, apart = (
            of[there].sum(axis=0, keepdims=True) for of in (a.var + b.var, a.apart - b.apart)
        )
        result = tested(gap, estimates.averaged(total, np.array([float(n)]), apart), estimates)
        if result.low[0] <= 0 <= result.high[0]:
            out[one].append(two)
            out[two].append(one)
    return list(out.values())


def _together(table: Table, rows: Ints, free: list[str]) -> Iterator[tuple[str, str]]:
    """Give the pairs of layers of which the one nearly follows from the other."""
    numbered = {x: pd.factorize(table.cells[x].to_numpy()[rows], sort=True)[0] for x in free}
    for one, two in combinations(free, 2):
        a, b = numbered[one], numbered[two]
        shape = (int(a.max()) + 1, int(b.max()) + 1)
        counts = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
        if min(shape) > 1 and association(counts, method="cramer") >= ALIASED:
            yield one, two


def _apart(table: Table, joint: Ints, layer: str) -> str:
    """Return a stack that would tell a layer from another: the best one with this layer's default.

    Empty where it was measured, or is the best one itself.
    """
    default = table.reference(layer)
    others = [x for x in table.varied if x != layer]
    known = table.cells[table.complete]
    for row in joint[joint >= 0].tolist():
        best = table.cells.iloc[row]
        same = (known[others] == best[others]).all(axis=1) & (known[layer] == default)
        if best[layer] != default and not same.any():
            return ", ".join([f"{layer}={default}", *(f"{x}={best[x]}" for x in others)])
    return ""
