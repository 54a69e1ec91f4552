"""The price of tuning layer by layer, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dlas.analyze.conclusion import Analysis, Finding, records
from dlas.analyze.parts.price import MANY
from dlas.analyze.tell.words import better, brief, interval, is_time, number


def price(analysis: Analysis) -> Iterator[Finding]:
    """Say where one arrives tuning one layer at a time, over the best stack, and who is to blame.

    One finding of all that is given; every number stands with its own interval.
    """
    groups = analysis.price[analysis.price["ratio"].notna()]
    if not len(groups):
        return
    what = "time" if is_time(analysis.table.metric) else analysis.table.metric
    told = [_group(analysis, g) for g in groups.sort_values("ratio", ascending=False).itertuples()]
    text = (
        f"The price of tuning layer by layer, the {what} arrived at over that of the best stack "
        f"(median over starts): {'; '.join(told)}{_separate(groups)}"
    )
    yield Finding(
        "price",
        f"{text}.",
        layers=tuple(dict.fromkeys(x for b in groups["blame"] for x in _named(b))),
        cells=tuple(dict.fromkeys(str(c) for pair in groups["cells"] for c in pair if c)),
        numbers={"by": records(groups.drop(columns="cells"))},
        overturn="Other starts, other goals, or choices that were not measured.",
    )


def _group(analysis: Analysis, g: Any) -> str:
    where = brief(analysis.table, g.group) or "all"
    text = f"{where} {number(g.ratio)}"
    if math.isfinite(g.low):
        text += f", 95 % interval {number(g.low)} to {number(g.high)}"
    worse = better(analysis.table)[1]
    if not g.sure:
        return f"{text} (from no start surely {worse})"
    spread = f"from {g.sure} of {g.starts} starts one surely ends {worse}, up to "
    spread += _from(analysis, g.dearest, g.dearest_low, g.dearest_high, g.dearest_start)
    if g.dearest_worst > g.dearest:
        ends = (g.dearest_worst_low, g.dearest_worst_high)
        worst = _from(analysis, g.dearest_worst, *ends, g.dearest_worst_start)
        spread += f"; in the worst order up to {worst}"
    return f"{text} ({spread}; to blame: {short(g.blame)})"


def _from(analysis: Analysis, ratio: float, low: float, high: float, start: str) -> str:
    """Return a price with its own interval, and from where one comes to it."""
    name, _, at = start.partition(", ")
    where = brief(analysis.table, at)
    text = f"{number(ratio)}{interval(low, high)}"
    # An interval ends at its comma, as it begins.
    text += ", from " if math.isfinite(low) else " from "
    return f"{text}{name}{f' with {where}' if where else ''}"


def _separate(groups: Any) -> str:
    """Count what became of the stacks made of every layer's best."""
    refused = int(groups["separate_refused"].sum())
    total = {
        "is not in the table": int(groups["separate_missing"].sum()),
        "failed": int(groups["separate_failed"].sum()) - refused,
        "was refused (unavailable or impossible)": refused,
        "is outside the goals": int(groups["separate_unmet"].sum()),
    }
    broken = [f"{what} in {n}" for what, n in total.items() if n]
    if not broken:
        return ""
    every = sum(total.values()) + int(groups["separate"].sum())
    from_ = "1 start" if every == 1 else f"{every} starts"
    told = f"{', '.join(broken[:-1])}, and {broken[-1]}" if len(broken) > 1 else broken[0]
    return f". From {from_}, the stack put together of every layer's best alone {told}"


def short(blame: str) -> str:
    """Return layers without the one that their sub-layers are of."""
    return blame.replace("optimization.", "")


def _named(blame: str) -> list[str]:
    """Return the layers of a blame."""
    if not blame or blame == MANY:
        return []
    return [x.partition(".")[0] for pair in blame.split(" or ") for x in pair.split(" and ")]
