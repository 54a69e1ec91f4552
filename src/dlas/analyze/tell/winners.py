"""Which choice is the best everywhere, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.tell.words import (
    better,
    contexts,
)


def dominance(analysis: Analysis) -> Iterator[Finding]:
    """Say which choice is the best wherever it was measured."""
    for r in analysis.winners.itertuples():
        if r.contexts < 3 or r.best < r.contexts or r.contexts < 0.5 * r.contested:
            continue
        rows = analysis.losses[analysis.losses["layer"] == r.layer]
        gain = float(rows["second_median"].iloc[0])
        word = "fastest" if better(analysis.table)[0] == "faster" else "best"
        close = f"; in {r.contexts - r.clearly} of them by less than can be told" if (
            r.clearly < r.contexts
        ) else ""  # fmt: skip
        yield Finding(
            "dominance",
            f"{r.layer}={r.level} is the {word} {r.layer} in all {contexts(r.contexts)} it was "
            f"measured in{close}.",
            layers=(r.layer,),
            ratio=gain,
            p=r.p,
            certainty=SIGNIFICANT,
            cells=tuple(r.cells),
            numbers={"contexts": r.contexts, "clearly": r.clearly, "over_second": gain},
            overturn="One context in which another choice is better.",
        )
