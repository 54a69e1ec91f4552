"""Strata: groups of cells whose rounds are alike in their noise, so that it is pooled in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.levels import EMPTY, Floats
from dlas.analyze.estimate.rounds import Units
from dlas.analyze.estimate.table import Table

MAX_STRATA = 24
MAX_FOUND = 60
"""Strata that there may be once columns are added by which the noise differs."""
MOST_FOUND = 2
"""Columns that are added because the noise differs by them."""
LEAST_GROUP = 4
"""Units of a level below which it does not take part in the test."""
ALPHA = 0.01


def labels(table: Table, units: Units, size: Floats) -> list[str]:
    """Name the stratum of each unit: by the table's columns for it, and by those noise differs by.

    Args:
        table: ``table.strata`` always tell apart; others are looked for unless ``strata_given``.
        units: what was measured.
        size: how large each unit's noise is, on any scale; NaN where it is not known.
    """
    columns = list(table.strata or ())
    found = joined(table, units, columns)
    if len(set(found)) > MAX_STRATA:
        columns = columns[:1]
        found = joined(table, units, columns)
    if len(set(found)) > MAX_STRATA:
        return ["all"] * len(units.row)
    while not table.strata_given and len(columns) < len(table.strata or ()) + MOST_FOUND:
        column = _telling(table, units, size, found, columns)
        if column is None:
            break
        more = joined(table, units, [*columns, column])
        if len(set(more)) > MAX_FOUND:
            break
        columns, found = [*columns, column], more
    return found


def joined(table: Table, units: Units, columns: list[str]) -> list[str]:
    """Return the levels of some columns as one text, by unit; all alike without columns."""
    if not columns:
        return ["all"] * len(units.row)
    parts = [_levels(table, c)[units.row] for c in columns]
    return [" / ".join(p) for p in zip(*parts, strict=True)]


def _levels(table: Table, column: str) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Return a column as text; a layer of the base without the parameters of its choices."""
    short = column in table.layers and column in (table.strata or ())
    kept = table.skeletons[column] if short else table.cells[column]
    return np.asarray(kept.astype(str).to_numpy(dtype=object))


def _telling(
    table: Table, units: Units, size: Floats, labels: list[str], used: list[str]
) -> str | None:
    """Find the layer or parameter by whose levels noise differs most, within the strata so far.

    Kruskal-Wallis on the size of the noise over the mean of its stratum, Bonferroni over columns.
    It looks at residuals only, never at the cells' values, so that what is compared later is not
    chosen by it.
    """
    known = np.isfinite(size) & (size > 0)
    relative = np.where(known, size, np.nan)
    mean = pd.Series(relative).groupby(np.asarray(labels, dtype=object)).transform("mean")
    relative = relative / mean.to_numpy(dtype=float)
    names = [c for c in (*table.layers, *table.parameters, "host") if c not in used]
    found = []
    for name in names:
        values = _levels(table, name)[units.row]
        of = [relative[known & (values == v)] for v in pd.unique(values) if v != EMPTY]
        groups = [g for g in of if len(g) >= LEAST_GROUP]
        if len(groups) > 1 and len(np.unique(np.concatenate(groups))) > 1:
            found.append((float(stats.kruskal(*groups).pvalue), name))
    best = min(found, default=(1.0, ""))
    return best[1] if best[0] < ALPHA / max(len(found), 1) else None
