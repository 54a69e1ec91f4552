"""The noise of rounds: what each cell's value is, and how far it can be trusted.

Model: log(value of a round) = cell + round + error. Round effects are common to the host;
the error's variance is pooled within strata; intervals are t intervals from it (a bootstrap
over three rounds covers 76 %, not 95 %). A/A controls, the same cell measured under another
id, check the model: where more of them differ than chance allows, all variances are raised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.levels import Bools, Floats, Ints, codes, skeleton
from dlas.analyze.table import Table

MAX_STRATA = 24
LEAST_DF = 6.0
LEVEL = 0.95
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Estimates:
    """One value per row of ``Table.cells``, on the log scale, less is better."""

    kind: str
    """``rounds``, ``intervals``, or ``unknown``."""
    mean: Floats
    """Mean over rounds, net of round effects; NaN where there is nothing."""
    median: Floats
    """Median over rounds, net of round effects: one bad round does not move it."""
    var: Floats
    """Variance of ``mean`` by row and stratum: the row's own stratum holds it."""
    df: Floats
    """Degrees of freedom behind each stratum's variance."""
    strata: pd.DataFrame
    """``stratum, cells, sd, df, floor``: noise of one round in log units, and the smallest
    ratio (less one) that a comparison of two cells detects at 95 %."""
    controls: pd.DataFrame
    """A/A pairs: ``row, control, ratio, floor, inside``."""
    inflation: float = 1.0
    """By how much standard errors were raised because of the A/A pairs."""

    @property
    def known(self) -> bool:
        """Whether noise is known, so that something can be called significant."""
        return self.kind != UNKNOWN

    def floor(self) -> float:
        """Return the median over strata of the ratio (less one) that can be detected."""
        return float(self.strata["floor"].median()) if len(self.strata) else float("nan")


def estimate(table: Table) -> Estimates:
    """Estimate every complete cell of a table, from rounds, intervals or the value alone."""
    if table.samples is not None and len(table.samples):
        found = _from_rounds(table, table.samples)
        if found is not None:
            return found
    if table.bounds is not None:
        return _from_bounds(table, table.bounds)
    return _plain(table, UNKNOWN, np.zeros((len(table.cells), 1)), np.zeros(1))


def _plain(table: Table, kind: str, var: Floats, df: Floats) -> Estimates:
    empty = pd.DataFrame(columns=["row", "control", "ratio", "floor", "inside"])
    strata = pd.DataFrame(columns=["stratum", "cells", "sd", "df", "floor"])
    return Estimates(kind, table.log, table.log, var, df, strata, empty)


def _from_bounds(table: Table, bounds: tuple[str, str]) -> Estimates:
    """Read standard errors off given 95 % intervals; a row without one is left out."""
    low, high = (pd.to_numeric(table.cells[c]).to_numpy(dtype=float) for c in bounds)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = (np.log(high) - np.log(low)) / 2
    var = (half / stats.norm.ppf(0.975)) ** 2
    out = _plain(table, "intervals", np.nan_to_num(var)[:, None], np.array([np.inf]))
    log = np.where(np.isfinite(var), table.log, np.nan)
    return Estimates(out.kind, log, log, out.var, out.df, out.strata, out.controls)


@dataclass(frozen=True)
class _Units:
    """What was measured in rounds: each cell, and each A/A control apart from its cell."""

    row: Ints
    control: Ints
    unit: Ints
    round: Ints
    log: Floats

    @property
    def count(self) -> Ints:
        """Rounds of each unit."""
        return np.bincount(self.unit, minlength=len(self.row))


def _units(samples: pd.DataFrame) -> _Units:
    keys = samples[["row", "control"]].to_numpy(dtype=np.int64)
    unit = codes([keys[:, 0], keys[:, 1]], len(keys))
    first = np.unique(unit, return_index=True)[1]
    return _Units(
        keys[first, 0],
        keys[first, 1],
        unit,
        samples["round"].to_numpy(dtype=np.int64),
        samples["log"].to_numpy(dtype=float),
    )


def _fit(units: _Units) -> Floats:
    """Return round effects by alternating least squares, exact where nothing is missing."""
    rounds = np.bincount(units.round)
    effect = np.zeros(len(rounds))
    count = units.count
    for _ in range(50):
        cell = np.bincount(units.unit, units.log - effect[units.round]) / count
        new = np.bincount(units.round, units.log - cell[units.unit]) / np.maximum(rounds, 1)
        if np.max(np.abs(new - effect), initial=0.0) < 1e-12:
            break
        effect = new
    return effect


def _from_rounds(table: Table, samples: pd.DataFrame) -> Estimates | None:
    """Fit the round model; ``None`` where no cell has two rounds."""
    units = _units(samples)
    net = units.log - _fit(units)[units.round]
    grouped = pd.Series(net).groupby(units.unit)
    mean = grouped.mean().to_numpy(dtype=float)
    median = grouped.median().to_numpy(dtype=float)
    square: Floats = np.bincount(units.unit, (net - mean[units.unit]) ** 2).astype(float)
    label = _labels(table, units, square)
    sigma2, df, names, of_unit = _pooled(units, square, label)
    if not np.any(df > 0):
        return None
    var = sigma2[of_unit] / units.count
    controls, inflation = _controls(units, mean, var, df[of_unit])
    return _assemble(
        table, units, mean, median, var, sigma2, df, names, of_unit, controls, inflation
    )


def _assemble(
    table: Table,
    units: _Units,
    mean: Floats,
    median: Floats,
    var: Floats,
    sigma2: Floats,
    df: Floats,
    names: list[str],
    of_unit: Ints,
    controls: pd.DataFrame,
    inflation: float,
) -> Estimates:
    """Put units' estimates on the rows of the table; controls have done their work."""
    n = len(table.cells)
    out_mean, out_median = np.full(n, np.nan), np.full(n, np.nan)
    out_var = np.zeros((n, len(df)))
    own = (units.control == 0) & table.complete[units.row]
    row = units.row[own]
    out_mean[row], out_median[row] = mean[own], median[own]
    out_var[row, of_unit[own]] = var[own] * inflation**2
    rounds = np.array([np.median(units.count[of_unit == s]) for s in range(len(df))])
    crit = stats.t.ppf((1 + LEVEL) / 2, df)
    strata = pd.DataFrame(
        {
            "stratum": names,
            "cells": np.bincount(of_unit[units.control == 0], minlength=len(df)),
            "sd": np.sqrt(sigma2),
            "df": df,
            "floor": np.expm1(crit * inflation * np.sqrt(2 * sigma2 / rounds)),
        }
    )
    return Estimates("rounds", out_mean, out_median, out_var, df, strata, controls, inflation)


def _labels(table: Table, units: _Units, square: Floats) -> list[str]:
    """Name the stratum of each unit."""
    columns = table.strata
    if columns is None:
        columns = _found_strata(table, units, square)
    if not columns:
        return ["all"] * len(units.row)
    parts = []
    for column in columns:
        values = table.cells[column].astype(str)
        if column in table.layers:
            values = values.map(skeleton)
        parts.append(values.to_numpy()[units.row])
    labels = [" / ".join(p) for p in zip(*parts, strict=True)]
    if len(set(labels)) > MAX_STRATA:
        labels = [str(p) for p in parts[0]]
    return labels if len(set(labels)) <= MAX_STRATA else ["all"] * len(labels)


def _found_strata(table: Table, units: _Units, square: Floats) -> tuple[str, ...]:
    """Find the layers by whose levels the noise differs (Kruskal-Wallis on its size).

    A test on residuals only: it does not look at the cells' values, so that what is compared
    later is not chosen by it.
    """
    enough = units.count > 1
    size = square[enough] / (units.count[enough] - 1)
    found = []
    for layer in table.varied:
        values = table.cells[layer].to_numpy()[units.row[enough]]
        groups = [size[values == level] for level in pd.unique(values)]
        groups = [g for g in groups if len(g) >= 4]
        if len(groups) < 2:
            continue
        p = float(stats.kruskal(*groups).pvalue)
        if p < 0.01 / len(table.varied):
            found.append((p, layer))
    return tuple(layer for _, layer in sorted(found)[:2])


def _pooled(
    units: _Units, square: Floats, label: list[str]
) -> tuple[Floats, Floats, list[str], Ints]:
    """Return variance and degrees of freedom by stratum, small strata pooled together."""
    of_unit, names = pd.factorize(np.asarray(label, dtype=object))
    spare = _spare(units, of_unit, len(names))
    merged = [str(x) for x in names]
    if len(names) > 1 and (spare < LEAST_DF).any():
        label = [
            x if spare[s] >= LEAST_DF else "(small strata)"
            for x, s in zip(label, of_unit, strict=True)
        ]
        of_unit, names = pd.factorize(np.asarray(label, dtype=object))
        merged = [str(x) for x in names]
        spare = _spare(units, of_unit, len(names))
    rss: Floats = np.bincount(of_unit, square, minlength=len(names)).astype(float)
    sigma2, df = _unbiased(units, rss, spare, np.asarray(of_unit, dtype=np.int64))
    if sigma2 is None:
        of_unit = np.zeros(len(units.row), dtype=np.int64)
        total = max(float(spare.sum() - _round_df(units)), 0.0)
        value = float(rss.sum() / total) if total > 0 else 0.0
        return np.array([value]), np.array([total]), ["all"], of_unit
    return sigma2, df, merged, np.asarray(of_unit, dtype=np.int64)


def _spare(units: _Units, of_unit: Ints, strata: int) -> Floats:
    """Return the degrees of freedom of each stratum's rounds around their cells."""
    out = np.bincount(of_unit, units.count - 1.0, minlength=strata)
    return np.asarray(out, dtype=float)


def _unbiased(
    units: _Units, rss: Floats, spare: Floats, of_unit: Ints
) -> tuple[Floats | None, Floats]:
    """Solve E[sum of squares] = A sigma2 for the strata (round effects share the cells).

    The residual of a balanced two-way table mixes the strata a little, since round effects are
    means over all of them; ``None`` where too few units measure together to tell strata apart.
    """
    together = np.bincount(units.round)[units.round]
    m = float(np.mean(together))
    if m < 4 or len(rss) == 1:
        total = float(spare.sum() - _round_df(units))
        if len(rss) == 1 and total > 0:
            return rss / total, np.array([total])
        return None, spare
    count = np.bincount(of_unit, minlength=len(rss)).astype(float)
    share = count / count.sum()
    matrix = np.diag(spare * (1 - 2 / m)) + np.outer(spare, share) / m
    sigma2 = np.linalg.solve(matrix, rss)
    if np.any(sigma2 <= 0):
        return None, spare
    return np.asarray(sigma2, dtype=float), spare * (1 - 1 / m)


def _round_df(units: _Units) -> int:
    """Degrees of freedom that round effects use beyond one for each group of linked rounds."""
    rounds = np.unique(units.round)
    parent: dict[int, int] = {int(r): int(r) for r in rounds}

    def root(r: int) -> int:
        while parent[r] != r:
            r = parent[r]
        return r

    last: dict[int, int] = {}
    for unit, r in zip(units.unit.tolist(), units.round.tolist(), strict=True):
        if unit in last:
            parent[root(r)] = root(last[unit])
        last[unit] = r
    return len(rounds) - len({root(int(r)) for r in rounds})


def _controls(units: _Units, mean: Floats, var: Floats, df: Floats) -> tuple[pd.DataFrame, float]:
    """Compare A/A controls with their cells; raise the noise where they differ too often."""
    place = {
        (r, c): i
        for i, (r, c) in enumerate(zip(units.row.tolist(), units.control.tolist(), strict=True))
    }
    pairs = [(place[r, 0], i) for (r, c), i in place.items() if c > 0 and (r, 0) in place]
    if not pairs:
        return pd.DataFrame(columns=["row", "control", "ratio", "floor", "inside"]), 1.0
    a, b = np.array(pairs).T
    d, se = mean[b] - mean[a], np.sqrt(var[a] + var[b])
    floor = stats.t.ppf((1 + LEVEL) / 2, df[a]) * se
    inside: Bools = np.abs(d) <= floor
    outside = int((~inside).sum())
    inflation = 1.0
    if stats.binom.sf(outside - 1, len(d), 1 - LEVEL) < 0.05:
        inflation = max(1.0, float(np.sqrt(np.mean((d / se) ** 2))))
    frame = pd.DataFrame(
        {
            "row": units.row[a],
            "control": units.control[b],
            "ratio": np.exp(d),
            "floor": np.expm1(floor),
            "inside": inside,
        }
    )
    return frame, inflation
