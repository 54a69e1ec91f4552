"""How one layer changes the effect of another, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts.interactions import example
from dlas.analyze.tell.words import (
    above_one,
    compared,
    contexts,
    interval,
    times_or_percent,
    what_overturns,
)


def interactions(analysis: Analysis) -> Iterator[Finding]:
    """Say for each pair of layers how one changes the effect of the other, by its largest."""
    tetrads = analysis.interactions
    if not len(tetrads):
        return
    for (layer, by), part in tetrads.groupby(["layer", "by"], sort=False):
        r = part.iloc[_clearest(part)]
        cells, where = example(analysis.table, analysis.estimates, r)
        said = (f"{compared(analysis.table, 1 / float(x))} {r.b}" for x in (r.at_m, r.at_n))
        at_m, at_n = said
        ratio, low, high = above_one(r.ratio, r.low, r.high)
        yield Finding(
            "interaction",
            f"{by} changes what {layer} does: {r.a} is {at_m} at {by}={r.m}, "
            f"{at_n} at {r.n}: a factor of {times_or_percent(r.ratio)} "
            f"({contexts(r.contexts)}{interval(r.low, r.high, inverse=r.ratio < 1)}).",
            layers=(str(layer), str(by)),
            ratio=ratio,
            low=low,
            high=high,
            p=min(1.0, float(r.p) * len(part)),
            certainty=SIGNIFICANT,
            cells=tuple(cells),
            numbers={"tests": len(part), "at": where, **_levels(r)},
            overturn=what_overturns(analysis, r.ratio, r.low, r.high),
        )


def _levels(r: Any) -> dict[str, str]:
    return {"a": r.a, "b": r.b, "m": r.m, "n": r.n}


def _clearest(part: pd.DataFrame) -> int:
    """Return the place of the interaction whose interval is farthest from none."""
    ratio, low, high = (np.log(part[c].to_numpy(dtype=float)) for c in ("ratio", "low", "high"))
    near = np.where(ratio > 0, low, -high)
    return int(np.argmax(np.where(np.isfinite(near), near, np.abs(ratio) - 1e6)))
