"""Which way of one technique leads furthest, and where, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.covered import side_by_side
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import apart, better, brief, compared, contexts, listed

SHOWN = 8
"""So many groups are told one by one."""


def ways(analysis: Analysis) -> Iterator[Finding]:
    """Say of each technique with several ways which one is the best where, and with what."""
    for (layer, kind), found in analysis.ways.groupby(["layer", "kind"], sort=False):
        yield _finding(analysis, str(layer), str(kind), found)


def _finding(analysis: Analysis, layer: str, kind: str, found: pd.DataFrame) -> Finding:
    won = found["way"].value_counts(sort=False).sort_values(ascending=False, kind="stable")
    every = list(dict.fromkeys([*won.index, *found["other"]]))
    sure = found[found["sure"]].groupby("way").size()
    largest = found.iloc[int(np.argmax(found["low"].fillna(found["ratio"])))]
    limited = bool(analysis.table.goals.at_most or analysis.table.goals.at_least)
    told = [
        f"{layer}: {listed(every)} do not go with the same "
        f"{' and '.join(found['apart'].iloc[0])}; each with what goes best with it"
        f"{' within the goals' if limited else ''}, "
        f"{_counted(analysis.table, won, sure, len(found))}",
        *_met(analysis, layer, every),
        *[_at(analysis.table, r) for r in found.head(SHOWN).itertuples()],
        f"{len(found) - SHOWN} more are in the table" if len(found) > SHOWN else "",
    ]
    return Finding(
        "ways",
        f"{beside.joined(told)}.",
        layers=(layer, *found["apart"].iloc[0]),
        ratio=float(largest["ratio"]),
        low=float(largest["low"]),
        high=float(largest["high"]),
        choices=beside.choices(*((layer, way) for way in every)),
        fact=f"{layer}: ways of {kind}",
        cells=tuple(largest["cells"]),
        numbers={
            "contexts": len(found),
            "best": {w: int(n) for w, n in won.items()},
            "surely": {w: int(sure.get(w, 0)) for w in won.index},
        },
        overturn="A choice beside one of the ways that was not measured with it.",
    )


def _counted(table: Table, won: pd.Series, sure: pd.Series, of: int) -> str:
    """Say in how many contexts each way is the best, and in how many surely so."""
    word = "fastest" if better(table)[0] == "faster" else "best"
    parts = [
        f"{way} is the {word} in {n} of {contexts(of)} (surely in {int(sure.get(way, 0))})"
        for way, n in won.items()
    ]
    return ", ".join(parts)


def _met(analysis: Analysis, layer: str, every: list[str]) -> Iterator[str]:
    """Say what comparing everything else equal says of the first two, where they meet at all."""
    table = analysis.table
    levels = [way for way in every if way in table.levels[layer]]
    if len(levels) < 2:
        return
    one, two = levels[:2]
    factor = Factor(layer, layer, table.levels[layer])
    some = side_by_side(table, analysis.estimates, factor, two, one).coverage
    good, bad = better(table)
    if some.contexts:
        shared = f", all of them with {' and '.join(some.shared)}" if some.shared else ""
        yield (
            f"everything else equal they meet in {contexts(some.contexts)}{shared}: {one} is "
            f"surely {good} than {two} in {some.surely}, surely {bad} in {some.against}"
        )


def _at(table: Table, r: Any) -> str:
    """Say who wins in a group, with what, over whom."""
    with_one, with_other, _ = apart(table, r.stack, r.other_stack)
    first, second = (
        f"{way} with {stack}" if stack else way
        for way, stack in ((r.way, with_one), (r.other, with_other))
    )
    at = brief(table, r.at)
    said = f"{first} is {compared(table, r.ratio)} {second}"
    return f"{f'at {at} ' if at else ''}{said}{'' if r.sure else ' (not for sure)'}"
