"""Curves: the log ratio of two choices along an ordered factor, in every context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Floats, Ints, codes
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Grid
from dlas.analyze.parts.limits import paired

AVERAGE = "(average)"


@dataclass(frozen=True)
class Curves:
    """Log ratios (a over b) by curve and level, on the levels of an ordered factor."""

    d: Floats
    median: Floats
    """The same of the medians over rounds."""
    there: Bools
    own: Floats
    """Variance by curve, level and stratum that each level has for itself."""
    shared: Floats
    """Variance by curve and stratum that all levels of a curve share."""
    apart: Floats
    """What is left by curve and level of each error that cells have in common."""
    rows: Ints
    """Row of a and row of b by curve and level."""
    contexts: list[str]


def joined(parts: Sequence[Curves]) -> Curves:
    """Put the curves of several parts one after another."""
    return Curves(
        d=np.concatenate([p.d for p in parts]),
        median=np.concatenate([p.median for p in parts]),
        there=np.concatenate([p.there for p in parts]),
        own=np.concatenate([p.own for p in parts]),
        shared=np.concatenate([p.shared for p in parts]),
        apart=np.concatenate([p.apart for p in parts]),
        rows=np.concatenate([p.rows for p in parts]),
        contexts=[c for p in parts for c in p.contexts],
    )


def some_of(curves: Curves, k: Ints) -> Curves:
    """Return some curves, by their numbers."""
    return Curves(
        d=curves.d[k],
        median=curves.median[k],
        there=curves.there[k],
        own=curves.own[k],
        shared=curves.shared[k],
        apart=curves.apart[k],
        rows=curves.rows[k],
        contexts=[curves.contexts[i] for i in k],
    )


def candidates(
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
    others = {c: column for c, column in found.columns.items() if c != layer}
    rest = codes(list(others.values()), len(found.contexts))
    first = np.unique(rest, return_index=True)[1]
    told = [c for c in others if _several(table, c)]
    names = [
        ", ".join(f"{c}={others[c][i]}" for c in told if others[c][i] != EMPTY) for i in first
    ]
    levels = table.levels[layer]
    level = pd.Index(levels).get_indexer(found.columns[layer])
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
    columns = [table.cells[c].to_numpy(dtype=object) for c in others]
    own = table.cells[layer].to_numpy(dtype=object)
    told = [i for i, c in enumerate(others) if _several(table, c)]
    for kind, part in _kinds(table, found, [layer, *table.siblings(found.factor)]):
        keys = list(zip(*(found.columns[c][part] for c in others), strict=True))
        names = [", ".join(f"{others[i]}={k[i]}" for i in told) for k in keys]
        for level in table.levels[layer]:
            rows = np.flatnonzero(without & (own == level))
            if not len(rows):
                continue
            row_of = {tuple(c[r] for c in columns): r for r in rows.tolist()}
            base = np.array([row_of.get(k, -1) for k in keys], dtype=np.int64)
            a = found.row[part]
            keep = (base >= 0) & ((a >= 0).sum(axis=1) >= 2)
            if keep.any():
                b = np.where(a[keep] >= 0, base[keep][:, None], -1)
                some = [names[k] for k in np.flatnonzero(keep)]
                yield layer, kind, level, _curves(estimates, a[keep], b, some, shared=True)


def _several(table: Table, column: str) -> bool:
    """Say whether a column has several levels, so that naming one tells something."""
    return len(set(table.levels[column]) - {EMPTY}) > 1


def _kinds(table: Table, found: Grid, columns: list[str]) -> Iterator[tuple[str, Ints]]:
    """Yield the contexts of each technique, named by the parameters of which there are several."""
    told = [c for c in columns[1:] if _several(table, c)]
    group = codes([found.columns[c] for c in columns], len(found.contexts))
    for g in range(int(group.max(initial=-1)) + 1):
        part = np.flatnonzero(group == g)
        first = {c: found.columns[c][part[0]] for c in columns}
        extra = [f"{c}={first[c]}" for c in told if first[c] != EMPTY]
        yield " with ".join([str(first[columns[0]]), *extra]), part


def _curves(
    estimates: Estimates, a: Ints, b: Ints, contexts: list[str], *, shared: bool = False
) -> Curves:
    there = (a >= 0) & (b >= 0)
    d = np.where(there, estimates.mean[a] - estimates.mean[b], 0.0)
    median = np.where(there, estimates.median[a] - estimates.median[b], 0.0)
    gap, apart = (of(a, b) * there[:, :, None] for of in (estimates.gap, estimates.apart))
    # Where b is the same cell at every level, so is its error.
    two = estimates.var[b][..., : estimates.own] * (there[:, :, None] * shared)
    own = np.concatenate([gap[..., : estimates.own] - two, apart**2], axis=-1)
    one = np.concatenate([two.max(axis=1), np.zeros((len(d), apart.shape[2]))], axis=-1)
    own, one = _in_common(own, one, apart, there)
    return Curves(d, median, there, own, one, apart, np.stack([a, b], axis=-1), contexts)


def _in_common(own: Floats, one: Floats, apart: Floats, there: Bools) -> tuple[Floats, Floats]:
    """Move what all levels of a curve have in common of an error to what is one for all."""
    held = there[:, :, None]
    least = np.where(held, np.abs(apart), np.inf).min(axis=1, initial=np.inf)
    sign = np.sign(apart)
    alike = (np.where(held, sign, 1.0).min(axis=1) > 0) | (
        np.where(held, sign, -1.0).max(axis=1) < 0
    )
    common = np.where(alike & np.isfinite(least), least, 0.0) ** 2
    first = own.shape[-1] - apart.shape[-1]
    own, one = own.copy(), one.copy()
    own[..., first:] = np.maximum(apart**2 - common[:, None, :], 0.0) * held
    one[..., first:] = common
    return own, one


def averaged(curves: Curves) -> Curves | None:
    """Return the mean of the curves that hold every level any of them holds."""
    levels = np.asarray(curves.there.any(axis=0))
    whole = np.asarray(curves.there[:, levels].all(axis=1))
    n = int(whole.sum())
    if n < 2:
        return None
    apart, there = curves.apart[whole].mean(axis=0, keepdims=True), levels[None, :]
    own, one = (of[whole].sum(axis=0, keepdims=True) / n**2 for of in (curves.own, curves.shared))
    own, one = _in_common(own, one, apart, there)
    return Curves(
        curves.d[whole].mean(axis=0, keepdims=True),
        curves.median[whole].mean(axis=0, keepdims=True),
        there, own, one, apart, curves.rows[whole][:1], [AVERAGE],
    )  # fmt: skip
