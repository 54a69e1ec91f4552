"""Shares of variance: which layer, which pair of layers, moves the metric most.

Method: Shapley values over least squares on the observed cells. A layer's share is its gain in
explained variance, averaged over the orders in which layers can enter a model of main effects
(Lindeman, Merenda and Gold 1980; Owen and Prieur 2017 for why it is a Shapley value); a pair's
share is its gain on top of all main effects, averaged over the orders of pairs. On a balanced
grid these are the shares of the analysis of variance. Where two terms cannot be told apart on
the cells there are, they are said to be confounded and the gain is shared between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import default_rng
from scipy import sparse, stats
from scipy.linalg import solve_triangular

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Floats, Ints, codes
from dlas.analyze.estimate.table import Table, layer_of
from dlas.analyze.parts.limits import MOST_COLUMNS, refitted, shared

METHOD = "Shapley over least squares on observed cells, log scale"
ORDERS = 48
FEW_ORDERS = 8
"""Where a model has more than ``MOST_COLUMNS`` columns."""
EXACT = 5
LEFT_OUT = ("layer", "level", "cells", "order", "changed", "first", "collapses")
"""What ``left_out`` holds beside a column for each layer."""
TIE = 0.02
RIDGE = 1e-9
COLUMNS = ["kind", "term", "share", "chance", "df", "confounded", "method"]


def shares(table: Table, estimates: Estimates, *, triples: bool = False) -> pd.DataFrame:
    """Return shares of the variance of the log metric, by layer, pair and parameter.

    Rows of ``kind`` ``layer``, ``pair`` (and ``triple``) and ``rest`` add up to 1; where there are
    several hosts a layer also makes a pair with the host, whose own effect is taken off. Rows of
    kind ``factor`` split a layer into its technique and its parameters; ``noise`` is the part
    that the noise of rounds alone would give, ``chance`` what noise would make of the term in
    all but 1 % of tables (NaN where no noise is known). ``df`` is the number of free contrasts
    of the term, ``confounded`` whether rank is lost on the observed cells.
    """
    rows = np.flatnonzero(np.isfinite(estimates.mean))
    y = _centred(table, estimates.mean, rows)
    total = float(y @ y)
    if total <= 1e-12 or not table.varied:
        return pd.DataFrame(columns=COLUMNS)
    labels = {x: table.cells[x].to_numpy()[rows] for x in table.varied}
    pairs = shared(table)
    sets: list[list[tuple[str, ...]]] = [[(x,) for x in table.varied], [*pairs, *_hosts(table)]]
    labels["host"] = labels.get("host", table.rows["host"].to_numpy()[rows])
    if triples and len(pairs) == len(list(combinations(table.varied, 2))):
        sets.append(list(combinations(table.varied, 3)))
    parts_of = {" x ".join(c): c for some in sets for c in some}
    stages = [[" x ".join(c) for c in some] for some in sets if some]
    blocks = {t: _block([labels[x] for x in c]) for t, c in parts_of.items()}
    found = _stagewise(blocks, stages, _products(table, blocks, rows, y), y)
    names = ("layer", "pair", "triple")
    out = [
        {"kind": names[i], "term": t, **found[t]} for i, stage in enumerate(stages) for t in stage
    ]
    noise = _noise(estimates, rows) / total if estimates.known else float("nan")
    for r in out:
        df = float(r["df"])
        r["chance"] = np.minimum(1.0, noise / len(rows) * stats.chi2.ppf(0.99, df)) if df else 0.0
    explained = sum(r["share"] for r in out)
    out.append({"kind": "rest", "term": "higher orders and noise", "share": 1 - explained})
    if estimates.known:
        out.append({"kind": "noise", "term": "noise of rounds", "share": min(noise, 1.0)})
    out += _by_factor(table, rows, y)
    frame = pd.DataFrame(out, columns=COLUMNS[:-1])
    return frame.assign(method=METHOD)


def _hosts(table: Table) -> list[tuple[str, str]]:
    """Return each layer paired with the host, where there are several and it is no layer."""
    if len(table.hosts) < 2 or "host" in table.layers:
        return []
    return [(x, "host") for x in table.varied]


def _noise(estimates: Estimates, rows: np.ndarray) -> float:
    """Return the sum of squares that noise brings: an error that all cells share brings none."""
    own = estimates.own
    spread = np.sqrt(estimates.var[rows, own:])
    return float(estimates.var[rows, :own].sum() + ((spread - spread.mean(axis=0)) ** 2).sum())


def left_out(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Return the layers' shares with each single level left out, and whether the order holds.

    One row per left-out level: a column per layer, ``order`` (layers by share) and
    ``changed``: whether two layers swap whose shares differ by at least 0.02 both before and
    after (smaller differences are no order; a layer of which one level is left is not ranked);
    ``first``: whether another layer comes first then; ``collapses``: whether another layer is left
    with one level, so that the order proves nothing. The first row leaves nothing out.
    """
    rows = np.flatnonzero(np.isfinite(estimates.mean))
    columns = ["layer", "level", "cells", *map(_column, table.varied), *LEFT_OUT[3:]]
    levels = {x: table.cells[x].to_numpy(dtype=object) for x in table.varied}
    numbers = {x: codes([texts], len(texts)) for x, texts in levels.items()}
    whole = _layer_shares(table, estimates, rows, numbers) if refitted(table) else None
    if whole is None:
        return pd.DataFrame(columns=columns)
    out = [_left_row("", "", len(rows), whole, whole, False)]
    for layer in table.varied:
        values = levels[layer][rows]
        for level in table.levels[layer]:
            kept = rows[values != level]
            part = _layer_shares(table, estimates, kept, numbers)
            if part is not None:
                others = (numbers[x][kept] for x in table.varied if x != layer)
                gone = any((n == n[0]).all() for n in others)
                out.append(_left_row(layer, level, len(kept), part, whole, gone))
    return pd.DataFrame(out, columns=columns)


def _column(layer: str) -> str:
    """Return the column of a layer's shares; a layer may be called as another column is."""
    return f"{layer} (layer)" if layer in LEFT_OUT else layer


def _left_row(
    layer: str,
    level: str,
    cells: int,
    part: dict[str, float],
    whole: dict[str, float],
    collapses: bool,
) -> dict[str, Any]:
    order = sorted(part, key=lambda x: -part[x])
    varies = [x for x in part if part[x] > 0 or x != layer]
    swapped = any(
        (whole[a] - whole[b]) * (part[a] - part[b]) < 0
        and min(abs(whole[a] - whole[b]), abs(part[a] - part[b])) >= TIE
        for a, b in combinations(varies, 2)
    )
    return {
        "layer": layer, "level": level, "cells": cells,
        **{_column(x): share for x, share in part.items()},
        "order": " > ".join(order), "changed": swapped,
        "first": swapped and order[0] != max(whole, key=lambda x: whole[x]),
        "collapses": collapses,
    }  # fmt: skip


def _layer_shares(
    table: Table, estimates: Estimates, rows: np.ndarray, numbers: Mapping[str, Ints]
) -> dict[str, float] | None:
    """Return the shares of main effects alone on some cells; ``None`` where nothing varies.

    ``numbers`` are the levels of every layer by row, as numbers.
    """
    if len(rows) < 3:
        return None
    y = _centred(table, estimates.mean, rows)
    if float(y @ y) <= 1e-12:
        return None
    blocks = {x: _block([numbers[x][rows]]) for x in table.varied}
    found = _stagewise(blocks, [list(blocks)], _products(table, blocks, rows, y), y)
    return {x: float(found[x]["share"]) for x in table.varied}


def _by_factor(table: Table, rows: np.ndarray, y: Floats) -> list[dict[str, Any]]:
    """Split layers with parameters into technique and parameters, entered in that order."""
    cells = table.cells
    first: dict[str, sparse.csr_array] = {}
    second: dict[str, sparse.csr_array] = {}
    for layer in table.varied:
        kinds = table.skeletons[layer].to_numpy()[rows]
        inner = [p for p in table.parameters if layer_of(p, table.layers) == layer]
        if len(set(kinds)) > 1:
            first[layer if not inner else f"{layer} (technique)"] = _block([kinds])
        for p in inner:
            values = cells[p].to_numpy()[rows]
            if len(set(values) - {EMPTY}) > 1:
                second[p] = _block([kinds, values])
    if not second:
        return []
    blocks = first | second
    stages = [s for s in (list(first), list(second)) if s]
    found = _stagewise(blocks, stages, _products(table, blocks, rows, y), y)
    return [{"kind": "factor", "term": t, **found[t]} for s in stages for t in s]


def _centred(table: Table, log: Floats, rows: np.ndarray) -> Floats:
    """Return the log metric less each host's mean: hosts are never pooled."""
    host = codes([table.rows["host"].to_numpy()[rows]], len(rows))
    y: Floats = log[rows]
    if not len(y):
        return y
    mean: Floats = np.bincount(host, y) / np.bincount(host)
    return y - mean[host]


def _block(columns: list[np.ndarray]) -> sparse.csr_array:
    """Return indicator columns of a term, one for each combination there is but the first."""
    group = codes(columns, len(columns[0]))
    rows = np.flatnonzero(group)
    width = int(group.max(initial=0))
    ones = np.ones(len(rows))
    return sparse.csr_array((ones, (rows, group[rows] - 1)), shape=(len(group), width))


def _products(
    table: Table, blocks: dict[str, sparse.csr_array], rows: np.ndarray, y: Floats
) -> tuple[Floats, Floats]:
    """Return Gram matrix and moments of all columns side by side, less their means in a host.

    ``y`` is centred within hosts, so that the columns need not be for their moments.
    """
    x = sparse.csr_array(sparse.hstack(list(blocks.values()), format="csr"))
    gram = (x.T @ x).toarray()
    host = codes([table.rows["host"].to_numpy()[rows]], len(rows))
    for h in range(int(host.max(initial=-1)) + 1):
        here = host == h
        total = np.asarray(x[here].sum(axis=0)).ravel()
        gram -= np.outer(total, total) / here.sum()
    return np.asarray(gram, dtype=float), np.asarray(x.T @ y, dtype=float)


def _stagewise(
    blocks: dict[str, sparse.csr_array],
    stages: list[list[str]],
    products: tuple[Floats, Floats],
    y: Floats,
) -> dict[str, dict[str, Any]]:
    """Average each term's gain over orders; terms of a stage enter after the stages before."""
    width = {t: b.shape[1] for t, b in blocks.items()}
    start = dict(zip(width, np.cumsum([0, *list(width.values())[:-1]]), strict=True))
    columns = {t: np.arange(start[t], start[t] + width[t]) for t in blocks}
    gram, moment = products
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-30))
    gram, moment = gram / np.outer(scale, scale), moment / scale
    total = float(y @ y)
    done: list[str] = []
    out: dict[str, dict[str, Any]] = {}
    for stage in stages:
        orders = ORDERS if len(moment) <= MOST_COLUMNS else FEW_ORDERS
        # What stages before explain is taken out once; only this stage is then permuted.
        before = [columns[t] for t in done]
        head = np.concatenate(before) if before else np.array([], dtype=int)
        inner = _sweep(gram, moment, head, np.concatenate([columns[t] for t in stage]))
        place = dict(zip(stage, _places([len(columns[t]) for t in stage]), strict=True))
        if len(stage) <= (EXACT if orders == ORDERS else EXACT - 1):
            found = _over_all(stage, place, *inner)
        else:
            found = _over_some(_orders(stage, orders), place, *inner)
        for t in stage:
            gain, alone, last = found[t]
            out[t] = {"share": gain / total, "df": alone, "confounded": last < alone}
        done += stage
    return out


def _places(widths: list[int]) -> list[np.ndarray]:
    """Return the numbers of columns that stand side by side, so many of each."""
    return np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])


Gains = dict[str, tuple[float, int, int]]
"""By term its mean gain over orders, its rank entered first, and entered last."""


def _over_all(
    terms: list[str], place: dict[str, np.ndarray], gram: Floats, moment: Floats
) -> Gains:
    """Average over all orders: what a term adds to each set of others, as often as it does so."""
    n = len(terms)
    explained, rank = np.zeros(1 << n), np.zeros(1 << n, dtype=int)
    for some in range(1, 1 << n):
        index = np.concatenate([place[t] for i, t in enumerate(terms) if some >> i & 1])
        if not len(index):
            continue
        squares, adds = _sequential(gram[np.ix_(index, index)], moment[index])
        explained[some], rank[some] = squares.sum(), adds.sum()
    sets = np.arange(1 << n)
    size = np.array([int(some).bit_count() for some in sets])
    often = np.array([1 / (n * comb(n - 1, k)) for k in range(n)])
    out, every = {}, (1 << n) - 1
    for i, t in enumerate(terms):
        without = sets[sets >> i & 1 == 0]
        gains = explained[without | 1 << i] - explained[without]
        last = rank[every] - rank[every & ~(1 << i)]
        out[t] = (float(gains @ often[size[without]]), int(rank[1 << i]), int(last))
    return out


def _orders(terms: list[str], orders: int) -> list[list[str]]:
    """Return a fixed sample of the orders of some terms, with their reverses."""
    rng = default_rng(0)
    some = range(orders // 2)
    half = [list(rng.permutation(np.array(terms, dtype=object))) for _ in some]
    # Every term also comes first and last, for its rank alone and after all others.
    turned = [terms[i:] + terms[:i] for i in range(len(terms))]
    return half + [o[::-1] for o in half] + turned + [o[::-1] for o in turned]


def _over_some(
    orders: list[list[str]], place: dict[str, np.ndarray], gram: Floats, moment: Floats
) -> Gains:
    """Average over some orders, in which every term comes first and last."""
    gains: dict[str, list[float]] = {t: [] for t in orders[0]}
    first, last = dict.fromkeys(orders[0], 0), dict.fromkeys(orders[0], 0)
    for order in orders:
        index = np.concatenate([place[t] for t in order])
        squares, adds = _sequential(gram[np.ix_(index, index)], moment[index])
        parts = _places([len(place[t]) for t in order])
        for t, part in zip(order, parts, strict=True):
            gains[t].append(float(squares[part].sum()))
        first[order[0]] = int(adds[parts[0]].sum())
        last[order[-1]] = int(adds[parts[-1]].sum())
    return {t: (float(np.mean(gains[t])), first[t], last[t]) for t in gains}


def _sweep(
    gram: Floats, moment: Floats, head: np.ndarray, inner: np.ndarray
) -> tuple[Floats, Floats]:
    """Return Gram matrix and moments of some columns net of the columns of ``head``."""
    if not len(head):
        return gram[np.ix_(inner, inner)], moment[inner]
    top = gram[np.ix_(head, head)] + RIDGE * np.eye(len(head))
    side = gram[np.ix_(head, inner)]
    solved = np.linalg.solve(top, np.column_stack([side, moment[head]]))
    net = gram[np.ix_(inner, inner)] - side.T @ solved[:, :-1]
    return net, moment[inner] - side.T @ solved[:, -1]


def _sequential(gram: Floats, moment: Floats) -> tuple[Floats, np.ndarray]:
    """Return the sum of squares each column adds to those before it, and whether it adds rank.

    One Cholesky factor gives all of them; a ridge of 1e-9 keeps it defined where columns are
    dependent, whose sums of squares are then put to zero.
    """
    n = len(gram)
    factor = np.linalg.cholesky(gram + RIDGE * np.eye(n))
    z = solve_triangular(factor, moment, lower=True)
    adds = np.diag(factor) ** 2 > 1e-7
    return np.where(adds, z**2, 0.0), adds
