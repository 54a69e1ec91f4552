"""Where one choice overtakes another, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.levels import codes
from dlas.analyze.parts import breakeven
from dlas.analyze.parts.covered import Coverage
from dlas.analyze.parts.curves import AVERAGE
from dlas.analyze.tell.words import contexts, listed, number


def break_evens(analysis: Analysis) -> Iterator[Finding]:
    """Say where one choice overtakes another as a factor rises: where single contexts surely do.

    An average that crosses though no context does (one above, another below) is no break-even.
    """
    found = analysis.break_evens
    single = found["context"].to_numpy() != AVERAGE
    crosses = single & (found["verdict"].to_numpy() == breakeven.CROSSES)
    names = [found[c].to_numpy(dtype=object) for c in ("factor", "layer", "a", "b")]
    where, pair = codes(names[:2], len(found)), codes(names, len(found))
    for one in pd.unique(pair[crosses]):
        own = pair == one
        factor, layer = (str(c[own.argmax()]) for c in names[:2])
        pairs = len(np.unique(pair[where == where[own.argmax()]]))
        crossing, averages = found[own & crosses], found[own & ~single]
        for (first, then), some in crossing.groupby(["first", "then"], sort=False):
            mean = averages[averages["first"] == first]
            yield _told(analysis, (factor, layer), (first, then), found[own & single], some, mean,
                        pairs)  # fmt: skip


def _told(
    analysis: Analysis,
    where: tuple[str, str],
    order: tuple[str, str],
    single: pd.DataFrame,
    some: pd.DataFrame,
    mean: pd.DataFrame,
    pairs: int,
) -> Finding:
    """Return the finding of the contexts in which one choice surely overtakes the other."""
    (factor, layer), (first, then) = where, order
    none = int((single["verdict"] == breakeven.NONE).sum())
    other = int((single["verdict"] == breakeven.CROSSES).sum()) - len(some)
    # The average stands for the contexts only where none of them contradicts it.
    r = mean.iloc[0] if len(mean) and not none and not other else some.iloc[len(some) // 2]
    lowest, highest = some["level"].min(), some["level"].max()
    at = f"at {factor} {number(r['level'])}{_range(r['low'], r['high'])}"
    if none or other or not len(mean):
        at = f"between {factor} {number(lowest)} and {number(highest)}"
        at = f"at {factor} {number(lowest)}{_range(r['low'], r['high'])}" if len(some) == 1 else at
    text = f"{layer}: {then} overtakes {first} {at}, surely so in {len(some)} of "
    text += contexts(len(single))
    undecided = len(single) - len(some) - none - other
    rest = [f"{n} {what}" for n, what in ((none, "without any"), (other, "the other way round"),
                                          (undecided, "undecided")) if n]  # fmt: skip
    text += f" ({', '.join(rest)})" if rest else ""
    text += _again(factor, first, some)
    clearest = some.iloc[int(some["p"].to_numpy().argmin())] if some["p"].notna().any() else r
    return Finding(
        "break-even",
        f"{text}.",
        layers=(factor, layer),
        ratio=float(clearest["size"]),
        p=min(1.0, float(clearest["p"]) * pairs * len(single)),
        certainty=SIGNIFICANT,
        choices=(f"{layer}={then}", f"{layer}={first}"),
        coverage=Coverage(len(single), len(single), len(some), none + other, undecided),
        fact=f"{layer}: {' or '.join(sorted(order))} by {factor}",
        cells=tuple(clearest["cells"]),
        numbers={"level": r["level"], "low": r["low"], "high": r["high"],
                 "least": lowest, "most": highest},
        overturn="Levels between those measured: lines are drawn between them.",
    )  # fmt: skip


def _again(factor: str, first: str, some: pd.DataFrame) -> str:
    """Say where curves turn back."""
    back = {tuple(t[0]) for t in some["again"] if t}
    if not back:
        return ""
    told = [f"{factor} {a} and {b}" for a, b in sorted(back)]
    return f"; it turns back to {first} between {listed(told, 3)}"


def _range(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    left = "below the range" if math.isinf(low) else number(low)
    right = "above the range" if math.isinf(high) else number(high)
    return f" (95 % interval {left} to {right})"
