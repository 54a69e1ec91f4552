"""Interactions of pairs of layers: ratios of ratios over contexts that hold all four cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats, Ints, codes
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import Grid, benjamini_hochberg, differences, grid, place, tested
from dlas.analyze.parts.covered import in_common
from dlas.analyze.parts.limits import MOST_TETRADS, met

COLUMNS = [
    "layer", "a", "b", "by", "m", "n", "contexts", "ratio", "low", "high", "p", "q",
    "likely", "at_m", "at_n", "least", "most",
]  # fmt: skip


def interactions(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Test whether the effect of one layer's choice depends on another layer's choice.

    For levels a, b of ``layer`` and m, n of ``by``: ``ratio`` is the geometric mean over
    contexts of (a over b at m) over (a over b at n), on the scale of the metric, with its 95 %
    t interval; ``at_m`` and ``at_n`` are a over b in the same contexts; ``least`` and ``most``
    the spread over contexts. ``likely`` is the ratio shrunk towards none by how little the ratios
    of the two layers differ beyond their noise (empirical Bayes, Robbins 1956): the largest of
    many noisy ratios looks larger than it is. Where there are several hosts, the host is one of
    the layers that an effect may depend on. Only contexts with all four cells count, so that a
    hole biases nothing. ``q`` is the false discovery rate over all rows of the table (Benjamini
    and Hochberg 1995).
    """
    frames = [_pair(table, estimates, one, two) for one, two in met(table)]
    frames = [f for f in frames if len(f)]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    out = pd.concat(frames, ignore_index=True)
    out["q"] = benjamini_hochberg(out["p"].to_numpy())
    return out[COLUMNS]


def layer_pairs(tetrads: pd.DataFrame, floor: float, layers: Collection[str] = ()) -> pd.DataFrame:
    """Sum up interactions by pair of layers: how many, how large.

    ``tests`` ratios of ratios, ``found`` of them at a false discovery rate of 5 % (without
    noise: beyond the floor), ``largest`` and ``typical`` (median) factors by which one
    layer's effect changes with the other.
    """
    columns = ["layer", "by", "tests", "found", "largest", "typical"]
    if "host" not in layers:  # the machine is none: its rows are in the table itself
        tetrads = tetrads[tetrads["by"] != "host"]
    if not len(tetrads):
        return pd.DataFrame(columns=columns)
    size = np.abs(np.log(tetrads["ratio"]))
    found = tetrads["q"] < 0.05
    if tetrads["q"].isna().all():
        found = size > np.log1p(floor)
    work = tetrads.assign(size=size, found=found)
    grouped = work.groupby(["layer", "by"], sort=False)
    out = grouped.agg(tests=("size", "size"), found=("found", "sum"), typical=("size", "median"))
    out["largest"] = np.exp(work["size"].where(work["found"], 0).groupby(
        [work["layer"], work["by"]], sort=False).max())  # fmt: skip
    out["typical"] = np.exp(out["typical"])
    return out.reset_index()[columns]


def _pair(table: Table, estimates: Estimates, layer: str, by: str) -> pd.DataFrame:
    """Return all ratios of ratios of one pair of layers."""
    found = grid(table, Factor(layer, layer, table.levels[layer]), estimates)
    pairs = np.array(np.triu_indices(len(found.levels), 1)).T.reshape(-1, 2)
    levels = table.levels[by]
    m, n = np.triu_indices(len(levels), 1)
    if len(pairs) * len(m) > MOST_TETRADS:
        base = found.levels.index(table.reference(layer))
        pairs = np.array([[base, i] for i in range(len(found.levels)) if i != base])
    rest, level = _split(found, by, levels)
    parts = [_tetrads(found, estimates, pair, rest, level, m, n, len(levels)) for pair in pairs]
    out = {c: np.concatenate([part[c] for part in parts]) for c in parts[0]}
    result = tested(out["at_m"] - out["at_n"], out.pop("var"), estimates, median=out.pop("middle"))
    ends = {"ratio": result.value, "low": result.low, "high": result.high}
    logs = ends | {c: out[c] for c in ("at_m", "at_n", "least", "most")}
    logs["likely"] = result.value * _kept(result.value, result.se)
    out |= {c: np.exp(v) for c, v in logs.items()} | {"p": result.p}
    for columns, known in ((("a", "b"), found.levels), (("m", "n"), levels)):
        names = np.array(known, dtype=object)
        out |= {c: names[out[c].astype(np.int64)] for c in columns}
    return pd.DataFrame(out).assign(layer=layer, by=by)


def _kept(value: Floats, se: Floats) -> Floats:
    """Return by ratio what share of its logarithm is likely more than noise; 1 without any.

    Ratios of two layers spread by what is there, tau, and by their noise: tau^2 is the mean of
    value^2 - se^2, and a ratio keeps tau^2 / (tau^2 + se^2) of itself.
    """
    if not len(value) or not np.isfinite(se).all():
        return np.ones(len(value))
    there = max(float(np.mean(value**2 - se**2)), 0.0)
    total = there + se**2
    return np.divide(there, total, out=np.ones(len(value)), where=total > 0)


def _split(found: Grid, by: str, levels: tuple[str, ...]) -> tuple[Ints, Ints]:
    """Split contexts into the level of one layer and all the rest."""
    others = [found.contexts[c].to_numpy() for c in found.contexts.columns if c != by]
    rest = codes(others, len(found.contexts))
    return rest, pd.Index(levels).get_indexer(found.contexts[by]).astype(np.int64)


def _tetrads(
    found: Grid,
    estimates: Estimates,
    pair: Ints,
    rest: Ints,
    level: Ints,
    m: Ints,
    n: Ints,
    n_levels: int,
) -> dict[str, Any]:
    """Return logs of ratios of one pair of levels over all pairs of the other layer's levels."""
    diff = differences(found, estimates, pair[None, :])
    shape = (int(rest.max(initial=-1)) + 1, n_levels)
    d, there, middle = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    own = estimates.own
    var, apart = (np.zeros((*shape, k)) for k in (own, diff.apart.shape[2]))
    d[rest, level] = diff.mean[:, 0]
    middle[rest, level] = diff.median[:, 0]
    there[rest, level] = diff.there[:, 0]
    var[rest, level], apart[rest, level] = diff.var[:, 0, :own], diff.apart[:, 0]
    both = there[:, m] * there[:, n]
    count = both.sum(axis=0)
    keep = count > 0
    m, n, both, count = m[keep], n[keep], both[:, keep], count[keep]
    at_m, at_n = (d[:, m] * both).sum(axis=0) / count, (d[:, n] * both).sum(axis=0) / count
    # The variance only needs sums over contexts: two products of small matrices per stratum.
    total = np.zeros((len(m), diff.var.shape[2]))
    for s in range(own):
        total[:, s] = _sums(var[:, :, s], there, m, n)
    left = np.zeros((len(m), apart.shape[2]))
    for s in range(apart.shape[2]):
        left[:, s] = _sums(apart[:, :, s], there, m, n, sign=-1)
    gap, whole = d[:, m] - d[:, n], both > 0
    medians = ((middle[:, m] - middle[:, n]) * both).sum(axis=0) / count
    return {
        "a": np.full(len(m), pair[0]),
        "b": np.full(len(m), pair[1]),
        "m": m,
        "n": n,
        "contexts": count.astype(np.int64),
        "at_m": at_m,
        "at_n": at_n,
        "middle": medians,
        "var": estimates.averaged(total, count, left),
        "least": np.where(whole, gap, np.inf).min(axis=0, initial=np.inf),
        "most": np.where(whole, gap, -np.inf).max(axis=0, initial=-np.inf),
    }


def _sums(of: Floats, there: Floats, m: Ints, n: Ints, sign: int = 1) -> Floats:
    """Return what is at m, and with a sign what is at n, over all contexts that hold both."""
    cross = of.T @ there
    return np.asarray((cross + sign * cross.T)[m, n])


def example(
    table: Table, estimates: Estimates, row: pd.Series
) -> tuple[list[str], str, tuple[str, ...]]:
    """Return the cells of the context that shows one interaction most, and that context.

    And what all contexts that hold the four cells have in common beside the two layers.
    """
    found = grid(table, Factor(row["layer"], row["layer"], table.levels[row["layer"]]), estimates)
    a, b = found.levels.index(row["a"]), found.levels.index(row["b"])
    diff = differences(found, estimates, np.array([[a, b]]))
    rest, level = _split(found, row["by"], table.levels[row["by"]])
    by = table.levels[row["by"]]
    here = diff.there[:, 0] > 0
    one = {r: i for i, r in enumerate(rest) if level[i] == by.index(row["m"]) and here[i]}
    two = {r: i for i, r in enumerate(rest) if level[i] == by.index(row["n"]) and here[i]}
    sign = np.sign(np.log(row["ratio"])) or 1.0
    both = [(sign * (diff.mean[one[r], 0] - diff.mean[two[r], 0]), r) for r in one if r in two]
    best = max(both)[1]
    cells = table.rows["cell"].to_numpy()
    ids = [str(cells[found.row[i, j]]) for i in (one[best], two[best]) for j in (a, b)]
    fixed = {c: v for c, v in found.fixed[one[best]].items() if c != row["by"]}
    held = np.zeros(len(rest), dtype=bool)
    held[[side[r] for _, r in both for side in (one, two)]] = True
    shared = (x for x in in_common(table, found, held) if not _is_of(x, row["by"]))
    return ids, place(fixed), tuple(shared)


def _is_of(condition: str, layer: str) -> bool:
    """Say whether ``name=level`` is of a layer, or of one of its parameters."""
    name = condition.partition("=")[0]
    return name == layer or name.startswith(f"{layer}.")
