"""What each choice gains and a wrong one costs, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.levels import Bools
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.covered import Compared, Coverage, side_by_side
from dlas.analyze.parts.limits import crowded
from dlas.analyze.parts.paid import Paid, costs
from dlas.analyze.parts.within import meeting
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import (
    above_one,
    around,
    compared,
    contexts,
    signed,
    times,
    what_overturns,
)

EXTREMES = 5
"""Of the levels of a crowded factor so many at either end are told."""


def speedups(analysis: Analysis) -> Iterator[Finding]:
    """Say what each choice gains or loses against its baseline, where, and what that costs."""
    contexts_of = dict(iter(analysis.speedup_contexts.groupby(["factor", "level"])))
    factors = {f.name: f for f in analysis.table.compared}
    surely, _ = meeting(analysis.table, analysis.estimates)
    for r in _told(analysis).itertuples():
        rows = contexts_of[r.factor, r.level]
        yield _speedup(analysis, factors[r.factor], r, rows, surely)


def _speedup(
    analysis: Analysis, factor: Factor, r: Any, rows: pd.DataFrame, surely: np.ndarray
) -> Finding:
    """Return the finding of one level beside its baseline."""
    table = analysis.table
    good, bad = (r.level, r.baseline) if r.ratio >= 1 else (r.baseline, r.level)
    found = side_by_side(table, analysis.estimates, factor, bad, good)
    paid = costs(table, found.before, found.after)
    limited = bool(table.goals.at_most or table.goals.at_least)
    meets = [int(surely[x].sum()) if limited else -1 for x in (found.after, found.before)]
    # A choice between the two decides something where both are near the best.
    both = analysis.near[found.before] & analysis.near[found.after]
    gain = _gain(analysis, found, both)
    near = _where_near(analysis, r, both, gain if r.ratio >= 1 else 1 / gain)
    ratio, low, high = above_one(r.ratio, r.low, r.high)
    return Finding(
        "speed-up",
        f"{_gained(table, r, found.coverage, paid, meets, near)}.",
        layers=(r.layer,),
        ratio=ratio,
        low=low,
        high=high,
        p=r.p,
        certainty=SIGNIFICANT,
        choices=beside.choices((r.factor, good), (r.factor, bad)),
        coverage=found.coverage,
        costs=paid,
        meets=meets[0],
        # Where the better one is the worse of the two near the best, nobody would choose by it.
        contender=gain > 1,
        worth=float(np.maximum(gain, 1.0)),  # NaN stays
        fact=beside.either(r.factor, good, bad),
        cells=_ends(rows),
        numbers={
            "contexts": r.contexts, "median": r.median, "slower": r.slower,
            "surely_slower": r.surely_slower, "surely_faster": r.surely_faster,
        },
        overturn=what_overturns(analysis, r.ratio, r.low, r.high),
    )  # fmt: skip


def _gain(analysis: Analysis, found: Compared, both: Bools) -> float:
    """Return what the better of two choices gains, at the mean, in some of their contexts."""
    if not both.any():
        return math.nan
    y = analysis.estimates.mean
    return float(np.exp((y[found.before] - y[found.after])[both].mean()))


def _where_near(analysis: Analysis, r: Any, both: Bools, ratio: float) -> str:
    """Say what a level gains where it and its baseline come near the best.

    Nothing where that is what it gains over all contexts, as far as can be told: an average over
    stacks that nobody would take leads wrong where it is not.
    """
    if not both.any() or both.all():
        return ""
    if math.isfinite(r.low) and math.isfinite(r.high):
        as_told = r.low <= ratio <= r.high
    else:
        as_told = abs(math.log(ratio / r.ratio)) <= math.log1p(analysis.table.floor)
    if as_told:
        return ""
    n = contexts(int(both.sum()))
    return f"where both come near the best ({n}) {signed(analysis.table, ratio)}"


def _gained(
    table: Table, r: Any, some: Coverage, paid: Sequence[Paid], meets: Sequence[int], near: str
) -> str:
    """Say what a level gains or loses, where, and what the better of the two costs."""
    text = f"{r.factor}={r.level} is {compared(table, r.ratio)} {r.baseline}"
    text += f" (geometric mean over {contexts(r.contexts)}"
    text += f"{around(table, r.ratio, r.low, r.high)})"
    spread = ""
    if r.contexts > 1:
        least, most = (signed(table, x) for x in (r.least, r.most))
        spread = f"single contexts {least} to {most}"
    worse_than = r.baseline if r.ratio < 1 else ""
    cost = beside.costing(paid, who=worse_than or "it")
    # What costs something was named just before.
    who = "it" if cost or not worse_than else worse_than
    where = beside.coverage(table, some, worse_than=worse_than)
    than = r.level if worse_than else r.baseline
    met = beside.meeting(some, meets, who=who, than=than)
    return beside.joined((text, spread, near, where, cost, met))


def _ends(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells of the least and the largest of some ratios."""
    if not len(rows):
        return ()
    ends = rows.iloc[[int(np.argmin(rows["ratio"])), int(np.argmax(rows["ratio"]))]]
    return tuple(dict.fromkeys(ends[["cell", "baseline_cell"]].to_numpy().ravel().tolist()))


def _told(analysis: Analysis) -> pd.DataFrame:
    """Return the speed-ups to tell: of a factor with many levels those that differ most."""
    found = analysis.speedups
    crowds = [f.name for f in analysis.table.compared if crowded(analysis.table, f)]
    keep = pd.Series(True, index=found.index)
    for name in crowds:
        own = found[found["factor"] == name]["ratio"].sort_values(kind="stable")
        keep[own.index[EXTREMES : max(len(own) - EXTREMES, EXTREMES)]] = False
    return found[keep]


def losses(analysis: Analysis) -> Iterator[Finding]:
    """Say what a wrong choice at each layer costs."""
    limit = 1 + analysis.estimates.floor() if analysis.estimates.known else math.nan
    limit = limit if math.isfinite(limit) else 1 + analysis.table.floor
    for r in analysis.losses.itertuples():
        # What two cells' noise could make is no loss.
        if r.second_median < limit and not r.baseline_median > limit:
            continue
        yield Finding(
            "loss",
            f"The second-best {r.layer} is {compared(analysis.table, 1 / r.second_median)} the "
            f"best in the median of {contexts(r.contexts)}, everything else equal "
            f"({times(r.second_q90)} or more in a tenth of them)"
            f"{'; ' if r.shared else ''}{beside.shared(r.shared)}; the baseline, {r.baseline}, is "
            f"{_from_best(analysis, r.baseline_median)} in the median.",
            layers=(r.layer,),
            ratio=r.second_median,
            fact=f"{r.layer}: a wrong choice",
            cells=tuple(r.cells),
            numbers={"ties": r.ties, "baseline_ratio": r.baseline_median},
            overturn="Other choices at this layer: the loss is between those in the table.",
        )


def _from_best(analysis: Analysis, ratio: float) -> str:
    if not math.isfinite(ratio):
        return "in none of them"
    if ratio < 1.0005:
        return "itself the best"
    return f"{compared(analysis.table, 1 / ratio)} the best"
