"""Where one choice overtakes another, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts import breakeven
from dlas.analyze.tell.words import (
    contexts,
    number,
)


def break_evens(analysis: Analysis) -> Iterator[Finding]:
    """Say where one choice overtakes another as a factor rises."""
    found = analysis.break_evens
    shown = found[(found["context"] == breakeven.AVERAGE) | (found["contexts"] == 1)]
    for (factor, layer), part in shown.groupby(["factor", "layer"], sort=False):
        pairs = len(part[["a", "b"]].drop_duplicates())
        for (a, b), rows in part.groupby(["a", "b"], sort=False):
            mean = rows[rows["context"] == breakeven.AVERAGE]
            one = mean if len(mean) else rows.head(1)
            r = one.iloc[0]
            if r["verdict"] != breakeven.CROSSES:
                continue
            first, then = (a, b) if r["below"] > 1 else (b, a)
            single = rows[(rows["context"] != breakeven.AVERAGE)]
            crossing = single[single["verdict"] == breakeven.CROSSES]["level"].dropna()
            text = (
                f"{layer}: {then} overtakes {first} at {factor} {number(r['level'])}"
                f"{_range(r['low'], r['high'])}, on average over {contexts(int(r['contexts']))}"
            )
            if len(crossing):
                text += (
                    f"; in {len(crossing)} of {contexts(len(single))} it does, at "
                    f"{number(crossing.min())} to {number(crossing.max())}"
                )
            ends = (max(r["below"], 1 / r["below"]), max(r["above"], 1 / r["above"]))
            yield Finding(
                "break-even",
                f"{text}.",
                layers=(str(factor), str(layer)),
                ratio=float(min(ends)),
                p=min(1.0, float(r["p"]) * pairs),
                certainty=SIGNIFICANT,
                cells=tuple(r["cells"]),
                numbers={"level": r["level"], "low": r["low"], "high": r["high"]},
                overturn="Levels between those measured: lines are drawn between them.",
            )


def _range(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    left = "below the range" if math.isinf(low) else number(low)
    right = "above the range" if math.isinf(high) else number(high)
    return f" (95 % interval {left} to {right})"
