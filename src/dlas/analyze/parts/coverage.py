"""What of the grid there is: coverage and failures, with their reasons."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import ordered
from dlas.analyze.estimate.table import COMPLETE, Factor, Table
from dlas.analyze.parts.contrasts import grid

STATUSES = (COMPLETE, "failed", "impossible", "unavailable")
COLUMNS = ["layer", "level", "by", "at", "cells", *STATUSES, "other", "reasons"]
MOST_REASONS = 3


def coverage(table: Table) -> pd.DataFrame:
    """Count cells by status for each pair of choices of two layers, with the top reasons."""
    cells = table.cells
    frames = []
    for one, two in combinations(table.layers, 2):
        keys = [cells[one], cells[two]]
        counts = pd.crosstab(keys, cells["status"])
        out = pd.DataFrame({s: counts.get(s, 0) for s in STATUSES}, index=counts.index)
        out["cells"] = counts.sum(axis=1)
        out["other"] = out["cells"] - out[list(STATUSES)].sum(axis=1)
        broken = cells[cells["status"] != COMPLETE]
        why = broken.groupby([one, two], sort=False)["reason"].agg(_top)
        out["reasons"] = [why.get(k, {}) for k in out.index]
        out.index = out.index.set_names(["level", "at"])
        frames.append(out.reset_index().assign(layer=one, by=two))
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def _top(reasons: pd.Series) -> dict[str, int]:
    counts = reasons[reasons != ""].value_counts().head(MOST_REASONS)
    return {str(k): int(v) for k, v in counts.items()}


def failures(table: Table) -> pd.DataFrame:
    """Return every reason why cells are not complete: how many, and of which choices.

    ``where`` names the choice that all or most of these cells share, with its share of them.
    """
    columns = ["status", "reason", "cells", "where", "share", "examples"]
    broken = table.cells[table.cells["status"] != COMPLETE]
    rows = []
    for (status, reason), part in broken.groupby(["status", "reason"], sort=False):
        shares = {
            (layer, str(level)): n / len(part)
            for layer in table.layers
            if table.cells[layer].nunique() > 1
            for level, n in part[layer].value_counts().head(1).items()
        }
        (layer, level), share = max(shares.items(), key=lambda x: x[1], default=(("", ""), 0.0))
        rows.append(
            {
                "status": status,
                "reason": reason,
                "cells": len(part),
                "where": f"{layer}={level}" if layer else "",
                "share": float(share),
                "examples": [str(c) for c in part["cell"].head(3)],
            }
        )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("cells", ascending=False, kind="stable").reset_index(drop=True)


def comparable(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Say for each layer how much of it can be compared with everything else equal.

    ``contexts`` combinations of the other layers, ``compared`` those with at least two choices,
    ``whole`` those with all; ``never_met`` the pairs of choices that share no context at all.
    """
    rows = []
    for layer in table.layers:
        levels = ordered(table.levels[layer])
        found = grid(table, Factor(layer, layer, levels), estimates)
        there = found.row >= 0
        size = there.sum(axis=1)
        together = there.T.astype(int) @ there.astype(int)
        a, b = np.triu_indices(len(levels), 1)
        lonely = [
            f"{levels[i]} and {levels[j]}" for i, j in zip(a, b, strict=True) if not together[i, j]
        ]
        rows.append(
            {
                "layer": layer,
                "levels": len(levels),
                "contexts": len(size),
                "compared": int((size >= 2).sum()),
                "whole": int((size == len(levels)).sum()) if len(levels) > 1 else 0,
                "never_met": lonely,
            }
        )
    columns = ["layer", "levels", "contexts", "compared", "whole", "never_met"]
    return pd.DataFrame(rows, columns=columns)
