"""How one layer changes the effect of another, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts.interactions import example
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import (
    above_one,
    compared,
    contexts,
    interval,
    number,
    times_or_percent,
    what_overturns,
)

LEVEL = 0.05


def interactions(analysis: Analysis) -> Iterator[Finding]:
    """Say for each pair of layers how one changes the effect of the other, by its largest."""
    tetrads = analysis.interactions
    if not len(tetrads):
        return
    for (layer, by), part in tetrads.groupby(["layer", "by"], sort=False):
        r = part.iloc[_clearest(analysis, part)]
        cells, where, shared = example(analysis.table, analysis.estimates, r)
        said = (f"{compared(analysis.table, 1 / float(x))} {r.b}" for x in (r.at_m, r.at_n))
        at_m, at_n = said
        ratio, low, high = above_one(r.ratio, r.low, r.high)
        likely = above_one(r.likely, r.low, r.high)[0]
        many = f", the largest of {len(part)} looked at, likely {number(likely)}"
        text = (
            f"{by} changes what {layer} does: {r.a} is {at_m} at {by}={r.m}, "
            f"{at_n} at {r.n}: a factor of {times_or_percent(r.ratio)} "
            f"({contexts(r.contexts)}{interval(r.low, r.high, inverse=r.ratio < 1)}"
            f"{many if len(part) > 1 else ''})"
        )
        text = beside.joined((text, beside.shared(shared)))
        yield Finding(
            "interaction",
            f"{text}.",
            layers=(str(layer), str(by)),
            ratio=ratio,
            low=low,
            high=high,
            p=min(1.0, float(r.p) * len(part)),
            certainty=SIGNIFICANT,
            choices=tuple(
                f"{x}={v}" for x, v in ((layer, r.a), (layer, r.b), (by, r.m), (by, r.n))
            ),
            contender=_decides(analysis, cells),
            fact=f"{layer} by {by}",
            cells=tuple(cells),
            numbers={"tests": len(part), "likely": likely, "at": where, "shared": shared,
                     **_levels(r)},
            overturn=what_overturns(analysis, r.ratio, r.low, r.high),
        )  # fmt: skip


def _decides(analysis: Analysis, cells: list[str]) -> bool:
    """Say whether a stack near the best is among the two at either level of the other layer."""
    near = analysis.near_cells
    return bool(near & set(cells[:2]) and near & set(cells[2:]))


def _levels(r: Any) -> dict[str, str]:
    return {"a": r.a, "b": r.b, "m": r.m, "n": r.n}


def _clearest(analysis: Analysis, part: pd.DataFrame) -> int:
    """Return the place of the interaction whose interval is farthest from none.

    One between contenders comes before all others, if it is there at all.
    """
    ratio, low, high = (np.log(part[c].to_numpy(dtype=float)) for c in ("ratio", "low", "high"))
    near = np.where(ratio > 0, low, -high)
    known = np.isfinite(near)
    near = np.where(known, near, np.abs(ratio) - np.log1p(analysis.table.floor))
    kept = [
        analysis.contenders.get(x, frozenset())
        for x in (str(part["layer"].iloc[0]), str(part["by"].iloc[0]))
    ]
    matters = part[["a", "b"]].isin(kept[0]).all(axis=1)
    matters &= part[["m", "n"]].isin(kept[1]).all(axis=1)
    sure = part["p"].fillna(0.0).to_numpy() * len(part) < LEVEL
    there = matters.to_numpy() & sure & (near > 0)
    return int(np.argmax(np.where(there, near, near - (1e6 if there.any() else 0.0))))
