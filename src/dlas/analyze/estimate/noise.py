"""The noise of rounds: what each cell's value is, and how far it can be trusted.

Two ways. The undisturbed value (``Table.least``) is the expected least of three rounds, its
variance by the jackknife. Else log(value of a round) = cell + round + error; round effects are
common to the host. Both pool the variance within strata; intervals are t intervals from it (a
bootstrap over three rounds covers 76 %, not 95 %). A/A controls, the same cell measured under
another id, check the model: where more differ than chance allows, all variances are raised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.estimated import UNKNOWN, Estimates
from dlas.analyze.estimate.levels import Bools, Floats
from dlas.analyze.estimate.rounds import (
    Units,
    Variances,
    fit,
    kurtosis,
    least_of_rounds,
    medians,
    pooled,
    variances,
)
from dlas.analyze.estimate.sessions import Linked
from dlas.analyze.estimate.spared import calmed
from dlas.analyze.estimate.steady import Steady
from dlas.analyze.estimate.strata import labels
from dlas.analyze.estimate.student import quantile
from dlas.analyze.estimate.table import Table
from dlas.core.least import OF_ROUNDS, scale

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
    lost = int((np.isfinite(table.log) & ~np.isfinite(log)).sum())
    notes = (f"{lost} complete cells have no interval: they are left out of all comparisons.",)
    kept = notes if lost else ()
    return Estimates(out.kind, log, log, out.var, out.df, out.strata, out.controls, notes=kept)


def _from_rounds(table: Table, samples: pd.DataFrame) -> Estimates | None:
    """Fit the rounds; ``None`` where no cell has two of them."""
    calm = calmed(table, samples)
    together, steady, units = calm.linked, calm.steady, calm.units
    fitted = _least(table, units) if table.least else _mean(table, units)
    if fitted is None:
        return None
    noise = fitted.noise
    fitted = replace(fitted, var=fitted.var + calm.var())
    controls, inflation = _controls(units, fitted)
    # Controls have done their work: only the cells themselves go on.
    n = len(table.cells)
    mean, median, spread = np.full(n, np.nan), np.full(n, np.nan), np.zeros((n, len(noise.df)))
    there = (units.control == 0) & table.complete[units.row]
    own = there & noise.known
    row = units.row[own]
    tails = np.zeros(n)
    tails[row] = fitted.tails / units.count[own]
    mean[row], median[row] = fitted.mean[own], fitted.median[own]
    spread[row, noise.of_unit[own]] = fitted.var[own] * inflation**2
    shared, df = _shared(together, steady, units, n)
    return Estimates(
        "rounds",
        mean,
        median,
        np.hstack([spread, shared * inflation**2]),
        np.concatenate([noise.df, df]),
        _strata(units, fitted, inflation),
        controls,
        inflation,
        shared.shape[1],
        (*calm.notes, *_lone(int((there & ~noise.known).sum()))),
        tails,
        steady.explained or None,
        calm.spared.share,
    )


def _lone(cells: int) -> tuple[str, ...]:
    if not cells:
        return ()
    return (
        f"{cells} cells have a single round, as has all of their stratum (runtime and threads, in "
        "a study): nothing is known of their noise, and they are left out of all comparisons.",
    )


def _shared(
    together: Linked, steady: Steady, units: Units, rows: int
) -> tuple[Floats, list[float]]:
    """Return by row what is the same error for many: of each later session, and of the drift."""
    found, df = np.zeros((rows, len(together.links))), [link.df for link in together.links]
    for column, link in enumerate(together.links):
        found[[row for row, control in link.units if control == 0], column] = link.var
    own = units.control == 0
    drift = np.zeros((rows, steady.var.shape[1]))
    drift[units.row[own]] = steady.var[own]
    return np.hstack([found, drift]), [*df, *steady.df]


@dataclass(frozen=True)
class _Fitted:
    """What rounds say of each unit."""

    mean: Floats
    median: Floats
    var: Floats
    noise: Variances
    tails: float = 0.0
    """Excess kurtosis of the error of one round."""


def _mean(table: Table, units: Units) -> _Fitted | None:
    """Model the rounds: log(value of a round) = cell + round + error."""
    first = fit(units)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(units.count > 1, first.square / (units.count - 1), np.nan)
    found, noise = variances(units, first, labels(table, units, size))
    if not np.any(noise.df > 0):
        return None
    var = noise.sigma2[noise.of_unit] / units.count
    return _Fitted(found.mean, medians(units, found), var, noise, kurtosis(units, found, noise))


def _least(table: Table, units: Units) -> _Fitted | None:
    """Take the expected least of three rounds (see ``least``); its variance by the jackknife.

    A round that was disturbed as a whole is shunned like any other, so that no round effects are
    taken off: an effect found as a mean would carry the disturbance into the quiet cells.
    """
    value, size = least_of_rounds(units)
    if not np.isfinite(size).any():
        return None
    noise = pooled(units, size, labels(table, units, size))
    scales = np.array([scale(int(n), OF_ROUNDS) for n in units.count])
    return _Fitted(value, value, noise.sigma2[noise.of_unit] * scales, noise)


def _strata(units: Units, fitted: _Fitted, inflation: float) -> pd.DataFrame:
    """Return the noise of each stratum and what it lets be told apart."""
    noise = fitted.noise
    k = range(len(noise.df))
    var = np.array([np.median(fitted.var[noise.of_unit == s]) for s in k])
    crit = quantile((1 + LEVEL) / 2, noise.df)
    return pd.DataFrame(
        {
            "stratum": noise.names,
            "cells": np.bincount(noise.of_unit[units.control == 0], minlength=len(noise.df)),
            "sd": np.where(noise.df > 0, np.sqrt(noise.sigma2), np.nan),
            "df": noise.df,
            "floor": np.expm1(crit * inflation * np.sqrt(2 * var)),
        }
    )


def _controls(units: Units, fitted: _Fitted) -> tuple[pd.DataFrame, float]:
    """Compare A/A controls with their cells; raise the noise where they differ too often."""
    mean, var, noise = fitted.mean, fitted.var, fitted.noise
    df, known = noise.df[noise.of_unit], noise.known
    place = {
        (r, c): i
        for i, (r, c) in enumerate(zip(units.row.tolist(), units.control.tolist(), strict=True))
        if known[i]
    }
    pairs = [(place[r, 0], i) for (r, c), i in place.items() if c > 0 and (r, 0) in place]
    if not pairs:
        return pd.DataFrame(columns=["row", "control", "ratio", "floor", "inside"]), 1.0
    a, b = np.array(pairs).T
    d, se = mean[b] - mean[a], np.sqrt(var[a] + var[b])
    floor = quantile((1 + LEVEL) / 2, df[a]) * se
    inside: Bools = np.abs(d) <= floor
    outside = int((~inside).sum())
    inflation = 1.0
    if stats.binom.sf(outside - 1, len(d), 1 - LEVEL) < 0.05:
        # pairs of strata whose rounds never differ have no error that could be raised
        t = d[se > 0] / se[se > 0]
        inflation = max(1.0, float(np.sqrt(np.mean(t**2)))) if len(t) else 1.0
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
