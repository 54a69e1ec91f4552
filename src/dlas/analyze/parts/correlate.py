"""Rank correlations between what cells cost, reach and take."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.table import Table

METRICS = (
    "params", "nonzero_params", "macs", "effective_macs", "bytes", "weights_mb", "artifact_mb",
    "accuracy", "quiet_ms", "memory_mb", "energy_mj",
)  # fmt: skip
LEAST = 5
COLUMNS = ["x", "y", "by", "at", "cells", "spearman", "kendall", "odd"]


def correlations(table: Table) -> pd.DataFrame:
    """Return Spearman's and Kendall's correlations over all cells and within groups.

    One row per pair of metrics and group (``by`` a layer, ``at`` its level; empty for all);
    within groups only pairs with the metric analysed. Groups of fewer than 5 cells or in which
    one of the two is constant are left out. ``odd`` are the two cells that ``x`` ranks lowest and
    highest beside ``y``. Cells of a grid share their choices, so that they are no sample: there
    is no p value, and none should be made.
    """
    names = [n for n in dict.fromkeys((*METRICS, table.metric)) if n in table.cells]
    if "quiet_ms" not in table.cells and "latency_ms" in table.cells:
        names = [*names, *(["latency_ms"] if "latency_ms" not in names else [])]
    names = [n for n in names if n not in table.layers]
    cells = table.cells[table.complete]
    ids = table.rows["cell"][table.complete].to_numpy()
    values = {n: pd.to_numeric(cells[n], errors="coerce").to_numpy(dtype=float) for n in names}
    rows = [
        _row(values, ids, x, y, "", "", np.ones(len(cells), bool))
        for x, y in combinations(names, 2)
    ]
    for by in table.context_columns:
        levels = table.levels[by]
        if len(levels) < 2:
            continue
        column = cells[by].to_numpy()
        for at in levels:
            group = column == at
            rows += [
                _row(values, ids, x, table.metric, by, at, group)
                for x in names
                if x != table.metric
            ]
    return pd.DataFrame([r for r in rows if r], columns=COLUMNS)


def _row(
    values: dict[str, Floats], ids: np.ndarray, x: str, y: str, by: str, at: str, group: np.ndarray
) -> dict[str, object]:
    good = group & np.isfinite(values[x]) & np.isfinite(values[y])
    a, b = values[x][good], values[y][good]
    if len(a) < LEAST or a.min() == a.max() or b.min() == b.max():
        return {}
    # Spearman's is Pearson's of the ranks. No p value is wanted, nor its exact computation.
    one, two = stats.rankdata(a), stats.rankdata(b)
    return {
        "x": x, "y": y, "by": by, "at": at, "cells": len(a),
        "spearman": float(np.corrcoef(one, two)[1, 0]),
        "kendall": float(stats.kendalltau(a, b, method="asymptotic").statistic),
        "odd": _odd(one - two, ids[good]),
    }  # fmt: skip


def _odd(apart: Floats, ids: np.ndarray) -> list[str]:
    """Return the two cells whose rank by one metric differs most from that by the other."""
    return [str(ids[int(np.argmin(apart))]), str(ids[int(np.argmax(apart))])]
