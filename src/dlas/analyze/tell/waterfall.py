"""What became of the promise of every optimization, step by step, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.table import Table
from dlas.analyze.tell.words import contexts, signed

SAID = {
    "macs": "fewer multiplications promise to make it",
    "width": "a narrower type promises to make it",
    "zeros": "zeros that are not skipped make it",
    "precision": "the type that ran makes it",
    "kernels": "kernels make it",
    "overhead": "overhead makes it",
}
"""What stands before each factor."""
NOTHING = 0.005
"""A factor that differs less from 1 is not worth a word."""


def waterfalls(analysis: Analysis) -> Iterator[Finding]:
    """Tell the waterfall of every optimization, what promised most first."""
    rows = analysis.waterfalls
    for level, part in rows.groupby("level", sort=False):
        left = part[part["step"] == "left"].iloc[0]
        yield Finding(
            "waterfall",
            f"What became of the promise of {level} over {left['baseline']} "
            f"({contexts(int(left['contexts']))}): {_steps(analysis.table, part)}; as "
            f"measured, it is {signed(analysis.table, left['factor'])}.",
            layers=("optimization",),
            cells=tuple(left["cells"]),
            numbers={r.step: r.factor for r in part.itertuples()},
            overturn="Kernels hold all that no other step explains, memory included.",
        )


def _steps(table: Table, part: pd.DataFrame) -> str:
    told = [_step(table, r) for r in part.itertuples() if r.step in SAID]
    return "; ".join(t for t in told if t) or "nothing is promised and nothing lost"


def _step(table: Table, r: Any) -> str:
    if not math.isfinite(r.factor):
        return f"{r.step} not measured, {r.why}"
    if abs(r.factor - 1) < NOTHING:
        return ""
    part = f" (known in {r.measured})" if r.measured < r.contexts else ""
    return f"{SAID[r.step]} {signed(table, r.factor)}{part}"
