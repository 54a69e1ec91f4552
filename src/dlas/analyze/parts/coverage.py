"""What of the grid there is: coverage and failures, with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.table import COMPLETE, Factor, Table
from dlas.analyze.parts.contrasts import grid

STATUSES = (COMPLETE, "failed", "impossible", "unavailable")
COLUMNS = ["layer", "level", "by", "at", "cells", *STATUSES, "other", "reasons"]
MOST_REASONS = 3
MOST_LONELY = 200
"""Pairs of choices without a common context that are named."""


def coverage(table: Table) -> pd.DataFrame:
    """Count cells by status for each pair of choices of two layers, with the top reasons."""
    status, reason = (table.rows[c].to_numpy() for c in ("status", "reason"))
    broken = np.flatnonzero(status != COMPLETE).tolist()
    numbered = {x: pd.factorize(table.cells[x].to_numpy(), sort=True) for x in table.layers}
    parts: list[dict[str, Any]] = []
    for one, two in combinations(table.layers, 2):
        (a, levels), (b, others) = numbered[one], numbered[two]
        pair, size = a * len(others) + b, len(levels) * len(others)
        every = np.bincount(pair, minlength=size)
        there = np.flatnonzero(every)
        counts = {s: np.bincount(pair[status == s], minlength=size)[there] for s in STATUSES}
        why: dict[int, list[str]] = {}
        for i in broken:
            why.setdefault(int(pair[i]), []).append(reason[i])
        parts.append({
            "layer": [one] * len(there), "level": levels[there // len(others)],
            "by": [two] * len(there), "at": others[there % len(others)],
            "cells": every[there], **counts, "other": every[there] - sum(counts.values()),
            "reasons": [_top(why.get(k, [])) for k in there.tolist()],
        })  # fmt: skip
    return pd.DataFrame(
        {c: [value for part in parts for value in part[c]] for c in COLUMNS}, columns=COLUMNS
    )


def _top(reasons: Sequence[str]) -> dict[str, int]:
    return dict(Counter(r for r in reasons if r).most_common(MOST_REASONS))


def failures(table: Table) -> pd.DataFrame:
    """Return every reason why cells are not complete: how many, and of which choices.

    ``where`` names the choice that all or most of these cells share, with its share of them.
    """
    columns = ["status", "reason", "cells", "where", "share", "examples"]
    broken = table.rows[table.rows["status"] != COMPLETE]
    rows = []
    for (status, reason), own in broken.groupby(["status", "reason"], sort=False):
        part = table.cells.loc[own.index]
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
                "examples": [str(c) for c in own["cell"].head(3)],
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
        levels = table.levels[layer]
        found = grid(table, Factor(layer, layer, levels), estimates)
        there = found.row >= 0
        size = there.sum(axis=1)
        together = there.T.astype(int) @ there.astype(int)
        a, b = np.triu_indices(len(levels), 1)
        apart = np.flatnonzero(together[a, b] == 0)
        lonely = [f"{levels[a[k]]} and {levels[b[k]]}" for k in apart[:MOST_LONELY]]
        if len(apart) > MOST_LONELY:
            lonely.append(f"{len(apart) - MOST_LONELY} more pairs")
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
