"""From a world to tables that the analysis reads, and from its intervals to what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.load import from_study
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from truths.grids import NAMES, World, cells_of, draw, index, rounds_of


def measured(
    rng: np.random.Generator, true: World, draws: int
) -> Iterator[tuple[Table, Estimates]]:
    """Measure a world several times over; every time is one table.

    The first table is loaded as a study is; the others have other rounds in the same cells.
    """
    cells = cells_of(true)
    first = draw(rng, true)
    latency = np.exp(np.median(first, axis=1))
    table = from_study(cells.assign(latency_ms=latency), rounds_of(cells, first))
    yield table, estimate(table)
    assert table.samples is not None
    for _ in range(draws - 1):
        samples = table.samples.assign(log=draw(rng, true).ravel())
        yield table, estimate(replace(table, samples=samples))


def inside(true_log: pd.Series, ends: pd.DataFrame) -> np.ndarray:
    """Say which intervals hold the true values."""
    value = np.exp(true_log.to_numpy(dtype=float))
    return (ends["low"].to_numpy() <= value) & (value <= ends["high"].to_numpy())


def ratio_of_ratios(true: World, r: object) -> float:
    """Return the true log ratio of ratios over the contexts that hold all four cells."""
    layer, by = NAMES.index(r.layer), NAMES.index(r.by)
    log = np.moveaxis(true.log, (layer, by), (0, 1))
    there = np.moveaxis(true.there, (layer, by), (0, 1))
    a, b = index(r.layer, r.a), index(r.layer, r.b)
    m, n = index(r.by, r.m), index(r.by, r.n)
    whole = there[a, m] & there[a, n] & there[b, m] & there[b, n]
    gap = (log[a, m] - log[b, m]) - (log[a, n] - log[b, n])
    return float(gap[whole].mean())
