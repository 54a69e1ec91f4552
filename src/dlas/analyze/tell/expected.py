"""What costs promised of each choice and what came of it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts.expected import OPEN
from dlas.analyze.parts.roofline import NONE
from dlas.analyze.tell.words import (
    above_one,
    contexts,
    interval,
    listed,
    number,
    what_overturns,
)

DIRECT = (
    "effective_macs", "macs", "bytes", "weights_mb", "ran_precision", "nonzero_params", "params",
)  # fmt: skip
"""Costs by how directly they make time; a choice is judged by the first that it changes."""
CHOICE = ["factor", "level"]
SAME = 0.05
"""Promises that differ by less are told as one."""


def expected(analysis: Analysis) -> Iterator[Finding]:
    """Say of each choice what its costs promised, what came of it, and what capped it."""
    found = analysis.expected
    parts_of = dict(iter(found[found["by"] != ""].groupby([*CHOICE, "cost"])))
    contexts_of = dict(iter(analysis.expected_contexts.groupby([*CHOICE, "cost"])))
    for _, rows in found[found["by"] == ""].groupby(CHOICE, sort=False):
        r = min(rows.itertuples(), key=lambda row: _directness(str(row.cost)))
        key = (r.factor, r.level, r.cost)
        parts, by = _split(parts_of.get(key, found.iloc[:0]))
        some = contexts_of[key]
        ratio, low, high = above_one(r.achieved, r.achieved_low, r.achieved_high)
        yield Finding(
            "expectation",
            f"{_promise(r, rows)}{_by(parts, by)}{_capped(analysis, some)}.",
            layers=(r.factor, by) if by else (r.factor,),
            ratio=ratio,
            low=low,
            high=high,
            p=r.p,
            certainty=SIGNIFICANT,
            cells=_cells(some),
            numbers={
                "cost": r.cost,
                "expected": r.expected,
                "observed": r.observed,
                "verdict": r.verdict,
                "others": {str(x.cost): x.expected for x in rows.itertuples() if x.cost != r.cost},
            },
            overturn=what_overturns(analysis, r.achieved, r.achieved_low, r.achieved_high),
        )


def _directness(cost: str) -> int:
    return DIRECT.index(cost) if cost in DIRECT else -1  # threads: nothing is more direct


def _promise(r: Any, rows: pd.DataFrame) -> str:
    verdict = "do not tell" if r.verdict == OPEN else r.verdict.replace("predicts", "predict")
    text = (
        f"{r.cost} {verdict} what {r.factor}={r.level} gains over {r.baseline}: "
        f"{number(r.expected)} times expected, {number(r.observed)} observed "
        f"({contexts(r.contexts)}{interval(r.low, r.high)})"
    )
    others = [
        f"{number(x.expected)} by {x.cost}"
        for x in rows.itertuples()
        if abs(np.log(x.expected / r.expected)) > SAME
    ]
    return f"{text}; other costs promise {listed(others, 4)}" if others else text


def _by(parts: list[str], by: str) -> str:
    return f". By {by}: {listed(parts, 6)}" if by else ""


def _split(rows: pd.DataFrame) -> tuple[list[str], str]:
    """Return the groups of the layer over which the kept part of a promise differs most."""
    if not len(rows):
        return [], ""
    achieved = np.log(rows["achieved"])
    spread = achieved.groupby(rows["by"], sort=False).agg(lambda x: x.max() - x.min())
    by = str(spread.idxmax())
    told = [
        f"{r.at} {number(r.expected)} expected, {number(r.observed)} observed ({r.verdict})"
        for r in rows[rows["by"] == by].itertuples()
    ]
    return told, by


def _capped(analysis: Analysis, some: pd.DataFrame) -> str:
    """Return what capped the cells of a choice; nothing where no ceiling was measured."""
    roof = analysis.roofline
    bounds = roof[roof["cell"].isin(set(some["cell"]))]["bound"]
    if not len(bounds):
        return ""
    counts = bounds.value_counts()
    told = [f"{name} in {n}" for name, n in counts.items() if name != NONE]
    rest = int(counts.get(NONE, 0))
    if rest:
        told.append(f"none of the three ceilings in {rest}")
    return f". What caps its cells: {listed(told, 4)} of {len(bounds)}"


def _cells(some: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells that kept least and most of the promise, each with its baseline."""
    kept = np.log(some["observed"] / some["expected"]).to_numpy()
    ends = some.iloc[[int(np.argmin(kept)), int(np.argmax(kept))]]
    return tuple(dict.fromkeys(ends[["cell", "baseline_cell"]].astype(str).to_numpy().ravel()))
