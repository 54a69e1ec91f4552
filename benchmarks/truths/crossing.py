"""A break-even that is known, and what the analysis says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.breakeven import break_evens
from dlas.analyze.parts.curves import AVERAGE
from truths.grids import SPARSITY, TENTH, World, mains, world


def crossing(rng: np.random.Generator) -> tuple[World, float]:
    """Let the technique with a sparsity overtake the one without, from +10 % to -10 %."""
    while True:
        true = world(rng, mains(rng))
        moved = np.moveaxis(true.log, 1, 0)
        at = rng.uniform(-0.6, 0.6)
        ends = np.array([TENTH, TENTH * at, -TENTH])
        for k, gap in enumerate(ends):
            moved[1 + k] = moved[0] + gap
        whole = np.moveaxis(true.there, 1, 0)[:4].all(axis=0)
        if int(whole.sum()) >= 4:
            break
    x = np.array(SPARSITY)
    k = 0 if ends[1] < 0 else 1
    level = x[k] + (x[k + 1] - x[k]) * ends[k] / (ends[k] - ends[k + 1])
    return true, float(level)


def overtaken(table: Table, noise: Estimates) -> pd.Series:
    """Return the average break-even of the technique with a sparsity against the one without."""
    found = break_evens(table, noise)
    pick = found[
        (found["factor"] == "optimization.sparsity")
        & (found["layer"] == "optimization")
        & (found["b"] == "none")
        & (found["context"] == AVERAGE)
    ]
    assert len(pick) == 1
    return pick.iloc[0]
