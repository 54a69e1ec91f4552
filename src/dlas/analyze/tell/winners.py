"""Which choice is the best everywhere, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.covered import Coverage, side_by_side
from dlas.analyze.parts.paid import Paid, costs
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import better, contexts


def dominance(analysis: Analysis) -> Iterator[Finding]:
    """Say which choice is the best in every context, or wherever it ran."""
    for r in analysis.winners.itertuples():
        if r.contexts < 3 or r.best < r.contexts or r.contexts < 0.5 * r.contested:
            continue
        rows = analysis.losses[analysis.losses["layer"] == r.layer]
        gain = float(rows["second_median"].iloc[0])
        some = Coverage(r.contexts, r.of, r.clearly, 0, r.contexts - r.clearly, r.failed)
        paid = _paid(analysis, r)
        who = f"beside {analysis.table.reference(r.layer)} it"
        told = (_where(analysis.table, r, some), beside.costing(paid, who=who))
        yield Finding(
            "dominance",
            f"{beside.joined(told)}.",
            layers=(r.layer,),
            ratio=gain,
            p=r.p,
            certainty=SIGNIFICANT,
            choices=beside.choices((r.layer, r.level)),
            coverage=some,
            costs=paid,
            fact=f"{r.layer}: {r.level} everywhere",
            cells=tuple(r.cells),
            numbers={"contexts": r.contexts, "clearly": r.clearly, "over_second": gain},
            overturn="One context in which another choice is better.",
        )


def _where(table: Table, r: Any, some: Coverage) -> str:
    word = "fastest" if better(table)[0] == "faster" else "best"
    where = f"in all {contexts(r.contexts)}"
    if r.contexts < r.of:
        rest = r.of - r.contexts - r.failed
        why = [f"in {r.failed} it was tried and did not run"] if r.failed else []
        why += [f"in {rest} it was not measured"] if rest else []
        where = f"where it ran, {r.contexts} of {contexts(r.of)} ({', '.join(why)})"
    text = f"{r.layer}={r.level} is the {word} {r.layer} {where}"
    if some.undecided:
        text += f"; in {some.undecided} of them by less than can be told"
    return text


def _paid(analysis: Analysis, r: Any) -> tuple[Paid, ...]:
    table = analysis.table
    base = table.reference(r.layer)
    if base == r.level:
        return ()
    factor = Factor(r.layer, r.layer, table.levels[r.layer])
    found = side_by_side(table, analysis.estimates, factor, base, r.level)
    return costs(table, found.before, found.after)
