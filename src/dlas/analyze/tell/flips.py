"""Which choices change order, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.table import Factor
from dlas.analyze.parts.covered import side_by_side
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import (
    apart,
    better,
    brief,
    contexts,
    listed,
    percent,
    times,
)


def flips(analysis: Analysis) -> Iterator[Finding]:
    """Say which choices change order, where, and what flips them."""
    for r in analysis.flips.itertuples():
        factor = Factor(r.layer, r.layer, analysis.table.levels[r.layer])
        found = side_by_side(analysis.table, analysis.estimates, factor, r.b, r.a)
        some = found.coverage
        told = [_order(analysis, r)]
        told.append(beside.shared(r.always))
        told.append(
            f"over all {contexts(some.contexts)} {r.a} is surely {better(analysis.table)[0]} in "
            f"{some.surely} and surely {better(analysis.table)[1]} in {some.against}"
            if some.contexts > 2
            else ""
        )
        told.append(_failing(analysis, r))
        yield Finding(
            "flip",
            f"{beside.joined(told)}.",
            layers=(r.layer, *r.by.split(", ")),
            ratio=min(r.ratio_better, 1 / r.ratio_worse),
            p=r.p,
            certainty=SIGNIFICANT,
            choices=beside.choices((r.layer, r.a), (r.layer, r.b)),
            coverage=some,
            contender=_decides(analysis, r),
            fact=beside.either(r.layer, r.a, r.b),
            cells=tuple(dict.fromkeys((*r.cells_better, *r.cells_worse))),
            numbers={"better": r.ratio_better, "worse": r.ratio_worse, "places": list(r.places),
                     "by": r.by, "alone": bool(r.alone),
                     "better_at": r.better_at, "worse_at": r.worse_at},
            overturn=(
                f"An error of {percent(min(r.ratio_better, 1 / r.ratio_worse) - 1)} common to all "
                "rounds of one side undoes the smaller of the two differences."
            ),
        )  # fmt: skip


def _decides(analysis: Analysis, r: Any) -> bool:
    """Say whether the better one of either place that is told is near the best there."""
    return {r.cells_better[0], r.cells_worse[1]} <= analysis.near_cells


def _failing(analysis: Analysis, r: Any) -> str:
    """Say which stacks of the places that are told surely fail the goals."""
    here, there, _ = apart(analysis.table, r.better_at, r.worse_at)
    places: dict[tuple[str, ...], list[str]] = {}
    for at, fails in ((here, r.fails_better), (there, r.fails_worse)):
        if fails:
            places.setdefault(tuple(fails), []).append(f" at {at}" if at else "")
    told = []
    for who, where in places.items():
        subject, verb = ("the stacks", "fail") if len(who) > 1 else (who[0], "fails")
        told.append(f"{subject}{' and'.join(where)} {verb} the goals")
    return ", ".join(told)


def _order(analysis: Analysis, r: Any) -> str:
    """Say where the one and where the other is better, and which layers turn them."""
    good, bad = better(analysis.table)
    here, there, both = apart(analysis.table, r.better_at, r.worse_at)
    which = r.by.replace(", ", " and ")
    if r.alone:
        text = f"{which} flips {r.layer}"
    elif ", " in r.by:
        text = f"{which} flip {r.layer}, only together"
    else:
        text = f"{which} flips {r.layer}, on average and not by itself"
    text += (
        f": {r.a} is {times(r.ratio_better)} {good} than {r.b} at "
        f"{here or 'some contexts'} and {times(r.ratio_worse)} {bad} at {there or 'others'}"
    )
    if both:
        text += f", both with {both}"
    if r.contexts_better > 1 or r.contexts_worse > 1:
        text += f" (averages over {r.contexts_better} and {contexts(r.contexts_worse)})"
    if len(r.places) > 1:
        places = (brief(analysis.table, p) for p in r.places)
        text += f". It does so at {listed([f'({p})' for p in places if p], 3)}"
    return text
