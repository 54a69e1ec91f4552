"""Where a curve of accuracy and metric bends, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.tell.words import contexts, listed, number, percent

SHOWN = 4
LEVELS = 3
"""The fewest levels of a curve that can bend."""


def elbows(analysis: Analysis) -> Iterator[Finding]:
    """Say for each technique with a parameter of numbers where its curves bend.

    A curve of two levels is a single step: it bends nowhere.
    """
    curves = analysis.elbows[analysis.elbows["levels"].map(len) >= LEVELS]
    for (factor, kind), part in curves.groupby(["factor", "technique"], sort=False):
        counts = Counter(part["level"].tolist())
        usual, times = counts.most_common(1)[0]
        here = part[part["level"] == usual]
        middle = _middle(here)
        of = f" of {kind}" if kind else ""
        others = [f"{number(x)} in {n}" for x, n in sorted(counts.items()) if x != usual]
        more = f" (elsewhere {listed(others, SHOWN)})" if others else ""
        yield Finding(
            "elbow",
            f"The elbow of {factor}{of} is at {number(usual)} in {times} of "
            f"{contexts(len(part))}{more}{_interval(middle)}: {_step(analysis, middle)}.",
            layers=(str(factor),),
            cells=tuple(middle["cells"]),
            numbers={
                "level": usual, "low": middle["low"], "high": middle["high"],
                "allowed": middle["allowed"], "levels": {str(k): n for k, n in counts.items()},
            },
            overturn="Other goals: what accuracy is worth decides where a step stops paying.",
        )  # fmt: skip


def _middle(here: pd.DataFrame) -> pd.Series:
    """Return the curve whose next step gives the median gain; any, where none has a next step."""
    known = here[here["gain"].notna()].sort_values("gain", kind="stable")
    known = known if len(known) else here
    return known.iloc[(len(known) - 1) // 2]


def _interval(row: Any) -> str:
    """Return the interval of an elbow in words."""
    if not np.isfinite(row["low"]):
        return ""
    high = number(row["high"]) if np.isfinite(row["high"]) else "beyond the last level"
    return f", 95 % interval {number(row['low'])} to {high}"


def _step(analysis: Analysis, row: Any) -> str:
    """Return what the step beyond the elbow gives and costs."""
    if not np.isfinite(row["next"]):
        return (
            f"every step up to there saves a larger share of {analysis.table.metric} than of the "
            "accuracy that may be given up"
        )
    gain = row["gain"]
    saves = f"saves {percent(gain)}" if gain >= 0 else f"adds {percent(-gain)}"
    if row["cost"] < 0:
        return f"the step to {number(row['next'])} {saves} of {analysis.table.metric}"
    return (
        f"the step to {number(row['next'])} {saves} of {analysis.table.metric} and takes "
        f"{percent(row['cost'])} of the {number(row['allowed'])} of accuracy that may be given up"
    )
