"""Contenders: choices with which one comes near the best stack; the rest are straw men."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Ints, codes, skeleton
from dlas.analyze.estimate.table import Table, layer_of
from dlas.analyze.parts.partition import layers_of
from dlas.analyze.parts.within import meeting

NEAR = 1.5
"""A choice whose best stack takes at most so many times as long as the best of all is near it."""

Contenders = Mapping[str, frozenset[str]]
"""The levels of every layer and parameter that are near the best somewhere."""


def near_best(table: Table, estimates: Estimates) -> Bools:
    """Return which rows are near the best of what is given, and may meet the goals.

    In each group of what is given (data set, model and hardware of a stack, or ``Table.given``)
    every stack is set beside the best one.
    """
    _, may = meeting(table, estimates)
    rows = np.flatnonzero(may & np.isfinite(estimates.mean))
    group, _ = groups(table)
    y = estimates.mean
    best = np.full(int(group.max(initial=-1)) + 1, np.inf)
    np.minimum.at(best, group[rows], y[rows])
    near = np.zeros(len(y), dtype=bool)
    near[rows] = y[rows] - best[group[rows]] <= np.log(NEAR)
    return near


def contenders(table: Table, near: Bools) -> Contenders:
    """Return the contenders of every layer and parameter: what stacks near the best are made of.

    Levels of what is given are no choices: all are kept.
    """
    _, given = groups(table)
    out: dict[str, frozenset[str]] = {}
    for name in (*table.layers, *table.parameters):
        levels = table.cells[name].to_numpy()
        kept = levels if (layer_of(name, table.layers) or name) in given else levels[near]
        out[name] = frozenset(map(str, kept)) - {EMPTY}
    return {"host": frozenset(table.hosts)} | out


def groups(table: Table) -> tuple[Ints, frozenset[str]]:
    """Return the number of what is given by row, and the layers that are."""
    found = layers_of(table)
    if found is None:
        return table.asked_for, frozenset(table.given)
    named = [x for x in found.given if x in table.layers]
    columns = [table.rows["host"].to_numpy(), *(table.cells[x].to_numpy() for x in named)]
    return codes(columns, len(table.cells)), frozenset(named)


def all_near(found: Contenders, choices: Iterable[str]) -> bool:
    """Say whether all of some choices, ``layer=level`` each, are contenders.

    A level may be a technique without its parameters, or with some of them told (``a with x=1``):
    it is one where any of its kind is.
    """
    for choice in choices:
        layer, _, level = choice.partition("=")
        known = found.get(layer)
        if known is None or level in known:
            continue
        if skeleton(level.partition(" with ")[0]) not in {skeleton(each) for each in known}:
            return False
    return True
