"""The noise of rounds: what each cell's value is, and how far it can be trusted.

Model: log(value of a round) = cell + round + error. Round effects are common to the host;
the error's variance is pooled within strata; intervals are t intervals from it (a bootstrap
over three rounds covers 76 %, not 95 %). A/A controls, the same cell measured under another
id, check the model: where more of them differ than chance allows, all variances are raised.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.estimated import UNKNOWN, Estimates
from dlas.analyze.estimate.levels import Bools, Floats
from dlas.analyze.estimate.rounds import Units, Variances, fit, medians, units_of, variances
from dlas.analyze.estimate.table import Table

MAX_STRATA = 24
LEVEL = 0.95


def estimate(table: Table) -> Estimates:
    """Estimate every complete cell of a table, from rounds, intervals or the value alone.

    A table whose rounds were fitted before (see :mod:`dlas.tables.latency`) brings its estimates.
    """
    if table.estimates is not None:
        return table.estimates
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


def _from_rounds(table: Table, samples: pd.DataFrame) -> Estimates | None:
    """Fit the round model; ``None`` where no cell has two rounds."""
    units = units_of(samples)
    first = fit(units)
    found, noise = variances(units, first, _labels(table, units, first.square))
    if not np.any(noise.df > 0):
        return None
    var = noise.sigma2[noise.of_unit] / units.count
    controls, inflation = _controls(units, found.mean, var, noise.df[noise.of_unit])
    # Controls have done their work: only the cells themselves go on.
    n = len(table.cells)
    mean, median, spread = np.full(n, np.nan), np.full(n, np.nan), np.zeros((n, len(noise.df)))
    own = (units.control == 0) & table.complete[units.row]
    row = units.row[own]
    mean[row], median[row] = found.mean[own], medians(units, found)[own]
    spread[row, noise.of_unit[own]] = var[own] * inflation**2
    strata = _strata(units, noise, inflation)
    return Estimates("rounds", mean, median, spread, noise.df, strata, controls, inflation)


def _strata(units: Units, noise: Variances, inflation: float) -> pd.DataFrame:
    """Return the noise of each stratum and what it lets be told apart."""
    k = range(len(noise.df))
    rounds = np.array([np.median(units.count[noise.of_unit == s]) for s in k])
    crit = stats.t.ppf((1 + LEVEL) / 2, noise.df)
    return pd.DataFrame(
        {
            "stratum": noise.names,
            "cells": np.bincount(noise.of_unit[units.control == 0], minlength=len(noise.df)),
            "sd": np.sqrt(noise.sigma2),
            "df": noise.df,
            "floor": np.expm1(crit * inflation * np.sqrt(2 * noise.sigma2 / rounds)),
        }
    )


def _labels(table: Table, units: Units, square: Floats) -> list[str]:
    """Name the stratum of each unit."""
    columns = table.strata
    if columns is None:
        columns = _found_strata(table, units, square)
    if not columns:
        return ["all"] * len(units.row)
    parts = []
    for column in columns:
        kept = table.skeletons[column] if column in table.layers else table.cells[column]
        parts.append(kept.astype(str).to_numpy()[units.row])
    labels = [" / ".join(p) for p in zip(*parts, strict=True)]
    if len(set(labels)) > MAX_STRATA:
        labels = [str(p) for p in parts[0]]
    return labels if len(set(labels)) <= MAX_STRATA else ["all"] * len(labels)


def _found_strata(table: Table, units: Units, square: Floats) -> tuple[str, ...]:
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


def _controls(units: Units, mean: Floats, var: Floats, df: Floats) -> tuple[pd.DataFrame, float]:
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
