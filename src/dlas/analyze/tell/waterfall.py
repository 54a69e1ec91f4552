"""What became of the promise of every optimization, step by step, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.tell.words import contexts, number

SAID = {
    "macs": "fewer multiplications promise",
    "width": "a narrower type promises",
    "zeros": "zeros that are not skipped leave",
    "precision": "the type that ran leaves",
    "kernels": "kernels make of it",
    "overhead": "overhead leaves",
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
            f"({contexts(int(left['contexts']))}): {_steps(part)}; measured "
            f"{number(left['factor'])} times.",
            layers=("optimization",),
            cells=tuple(left["cells"]),
            numbers={r.step: r.factor for r in part.itertuples()},
            overturn="Kernels hold all that no other step explains, memory included.",
        )


def _steps(part: pd.DataFrame) -> str:
    told = [_step(r) for r in part.itertuples() if r.step in SAID]
    return "; ".join(t for t in told if t) or "nothing is promised and nothing lost"


def _step(r: Any) -> str:
    if not math.isfinite(r.factor):
        return f"{r.step} not measured, {r.why}"
    if abs(r.factor - 1) < NOTHING:
        return ""
    part = f" (known in {r.measured})" if r.measured < r.contexts else ""
    return f"{SAID[r.step]} {number(r.factor)} times{part}"
