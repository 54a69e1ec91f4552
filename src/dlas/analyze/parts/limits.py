"""How much of a large table each part looks at, and the sentences that say what it leaves out.

What compares all pairs of levels grows with their square: a layer of a thousand levels has half a
million pairs, of which nobody would read a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.table import Factor, Table

MOST_LEVELS = 64
"""A layer of more levels is crowded: pairs of them are not compared."""
MOST_COLUMNS = 1_200
"""Columns of a model of the shares: levels of layers, and combinations of two."""
MOST_REFITTED = 400
"""Levels in all up to which the shares are computed anew without each single one."""
MOST_TETRADS = 200_000
"""Ratios of ratios of one pair of layers."""


def crowded(table: Table, factor: Factor | str) -> bool:
    """Say whether a factor has too many levels for all pairs of them to be compared."""
    levels = table.levels[factor] if isinstance(factor, str) else factor.levels
    return len(levels) > MOST_LEVELS


def paired(table: Table) -> tuple[str, ...]:
    """Return the free layers whose levels are compared with each other, pair by pair."""
    return tuple(x for x in table.free if not crowded(table, x))


def tetrads(levels: int, others: int) -> int:
    """Return how many ratios of ratios two layers have."""
    return levels * (levels - 1) * others * (others - 1) // 4


def met(table: Table) -> list[tuple[str, str]]:
    """Return the pairs of layers whose interaction is looked at, a free one first.

    Where there are several hosts, each free layer is looked at with them.

    Of too many pairs of levels those with the baseline are looked at; where these are too many,
    or the first is crowded, none.
    """
    out = []
    for a, b in combinations(table.varied, 2):
        one, two = (b, a) if a in table.given else (a, b)
        if one in table.given:
            continue
        if crowded(table, one) and not crowded(table, two) and two not in table.given:
            one, two = two, one
        with_baseline = (len(table.levels[one]) - 1) * tetrads(2, len(table.levels[two]))
        if not crowded(table, one) and with_baseline <= MOST_TETRADS:
            out.append((one, two))
    return out + [(x, "host") for x in paired(table) if _meets_host(table, x)]


def _meets_host(table: Table, layer: str) -> bool:
    hosts = len(table.hosts)
    there = hosts > 1 and "host" not in table.layers
    return there and (len(table.levels[layer]) - 1) * tetrads(2, hosts) <= MOST_TETRADS


def _sizes(table: Table) -> dict[tuple[str, str], int]:
    """Return how many combinations of levels there are of each pair of layers."""
    good = table.cells[table.complete]
    numbers = {x: pd.factorize(good[x])[0].astype(np.int64) for x in table.varied}
    return {
        (a, b): len(np.unique(numbers[a] * (len(table.levels[b]) + 1) + numbers[b]))
        for a, b in combinations(table.varied, 2)
    }


def shared(table: Table) -> list[tuple[str, str]]:
    """Return the pairs of layers whose share of the variance is computed, the smallest first."""
    sizes = _sizes(table)
    room = MOST_COLUMNS - sum(len(table.levels[x]) for x in table.varied)
    kept = set()
    for pair in sorted(sizes, key=lambda p: sizes[p]):
        room -= sizes[pair]
        if room < 0:
            break
        kept.add(pair)
    return [pair for pair in sizes if pair in kept]


def refitted(table: Table) -> bool:
    """Say whether shares are computed anew without each single level."""
    return sum(len(table.levels[x]) for x in table.varied) <= MOST_REFITTED


def noted(table: Table) -> Table:
    """Add to a table the sentences on what its analysis leaves out."""
    notes = [*_crowded(table), *_apart(table), *_halved(table), *_unshared(table)]
    return replace(table, notes=(*table.notes, *notes)) if notes else table


def _crowded(table: Table) -> list[str]:
    return [
        f"{x} has {len(table.levels[x])} levels, and pairs of them are compared up to "
        f"{MOST_LEVELS}: it has no flips, winner maps, break-evens or expectations, and each of "
        f"them is compared with {table.reference(x)} alone. For them leave out levels of {x}, "
        f"or say --given {x} if it is not to be chosen."
        for x in table.free
        if crowded(table, x)
    ]


def _apart(table: Table) -> list[str]:
    there = {frozenset(p) for p in met(table)}
    lost = [
        f"{a} and {b}"
        for a, b in combinations(table.varied, 2)
        if frozenset((a, b)) not in there and not {a, b} <= set(table.given)
    ]
    if not lost:
        return []
    return [
        f"Interactions of {_listed(lost)} are not computed, there being too many pairs of levels: "
        "leave out levels to have them."
    ]


def _halved(table: Table) -> list[str]:
    """Say of which pairs of layers only the levels beside the baseline are looked at."""
    some = [
        f"{a} and {b}"
        for a, b in met(table)
        if tetrads(len(table.levels[a]), len(table.levels[b])) > MOST_TETRADS
    ]
    if not some:
        return []
    return [
        f"Of {_listed(some)} only the interactions with the baseline are computed, there being "
        f"more than {MOST_TETRADS} of all pairs of levels."
    ]


def _unshared(table: Table) -> list[str]:
    there = set(shared(table))
    lost = [f"{a} and {b}" for a, b in combinations(table.varied, 2) if (a, b) not in there]
    out = []
    if lost:
        out.append(
            f"The shares of {_listed(lost)} as pairs are part of the rest: more than "
            f"{MOST_COLUMNS} levels and combinations are too many to tell them apart."
        )
    if not refitted(table):
        out.append(
            f"With more than {MOST_REFITTED} levels in all the shares are not computed anew "
            "without each of them."
        )
    return out


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more pairs" if len(names) > 6 else ""
    return f"{', '.join(names[:6])}{more}"
