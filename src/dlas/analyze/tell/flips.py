"""Which choices change order, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
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
        good, bad = better(analysis.table)
        here, there, both = apart(analysis.table, r.better_at, r.worse_at)
        flip = "flips" if ", " not in r.by else "flip"
        text = (
            f"{r.by} {flip} {r.layer}: {r.a} is {times(r.ratio_better)} {good} than {r.b} at "
            f"{here or 'some contexts'} and {times(r.ratio_worse)} {bad} at "
            f"{there or 'others'}"
        )
        if both:
            text += f", both with {both}"
        if r.contexts_better > 1 or r.contexts_worse > 1:
            text += f" (averages over {r.contexts_better} and {contexts(r.contexts_worse)})"
        if len(r.places) > 1:
            places = (brief(analysis.table, p) for p in r.places)
            text += f". It does so at {listed([f'({p})' for p in places if p], 3)}"
        if r.differs_in == 1 and r.matched == 0:
            text += ". The two averages rest on different contexts, so other layers may do it"
        yield Finding(
            "flip",
            f"{text}.",
            layers=(r.layer, *r.by.split(", ")),
            ratio=min(r.ratio_better, 1 / r.ratio_worse),
            p=r.p,
            certainty=SIGNIFICANT,
            cells=tuple(dict.fromkeys((*r.cells_better, *r.cells_worse))),
            numbers={"better": r.ratio_better, "worse": r.ratio_worse, "places": list(r.places)},
            overturn=(
                "It is undone where the smaller of the two differences is an error: "
                f"{percent(min(r.ratio_better, 1 / r.ratio_worse) - 1)}."
            ),
        )
