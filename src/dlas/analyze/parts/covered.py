"""Of how many contexts a comparison of two choices speaks, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate.choice_texts import techniques_with
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import EMPTY, Bools, Floats, Ints
from dlas.analyze.estimate.table import COMPLETE, Factor, Table
from dlas.analyze.parts.contrasts import Differences, Grid, differences, grid, tested

UNTRIED = (COMPLETE, "impossible", "unavailable", "pending")
"""Words of a status that say nothing of a failure: what a rule refuses was not tried."""
NOTHING = ("{}", "[]", "()")
"""Values of a parameter that hold nothing: they are no condition."""


@dataclass(frozen=True)
class Coverage:
    """Of how many contexts, all else equal, a finding speaks."""

    contexts: int
    """In which both sides ran."""
    of: int
    """In which the side that it is compared with ran."""
    surely: int
    """In which it is surely so; without noise: beyond the floor."""
    against: int
    """In which it is surely the other way round."""
    undecided: int
    failed: int = 0
    """In which it was tried and did not run, though the other side did."""
    shared: tuple[str, ...] = ()
    """``layer=level`` that all these contexts have, and either choice is without elsewhere."""
    hosts: int = 1
    """Machines on which it surely holds on average, of ``hosts_of``."""
    hosts_of: int = 1


@dataclass(frozen=True)
class Compared:
    """Two levels of a factor in every context that holds both."""

    coverage: Coverage
    """``surely``: in how many the second is surely the better one."""
    before: Ints
    """Rows of the first level, by context."""
    after: Ints
    """Rows of the second level."""


def side_by_side(
    table: Table, estimates: Estimates, factor: Factor, first: str, second: str
) -> Compared:
    """Compare two levels of a factor, context by context: is the second one the better?"""
    found = grid(table, factor, estimates)
    a, b = found.levels.index(first), found.levels.index(second)
    diff = differences(found, estimates, np.array([[a, b]]))
    here = diff.there[:, 0] > 0
    seen = (diff.mean[here, 0], diff.median[here, 0], diff.var[here, 0])
    lows, highs = _ends(table, estimates, *seen)
    surely, against = int((lows > 0).sum()), int((highs < 0).sum())
    holds, hosts = _on_hosts(table, estimates, diff, here)
    ran = found.row[:, a] >= 0
    coverage = Coverage(
        contexts=int(here.sum()),
        of=int(ran.sum()),
        surely=surely,
        against=against,
        undecided=int(here.sum()) - surely - against,
        failed=tried_in(table, found, ran & ~here, second),
        shared=in_common(table, found, here, ran | (found.row[:, b] >= 0)),
        hosts=holds,
        hosts_of=hosts,
    )
    return Compared(coverage, found.row[here, a], found.row[here, b])


def _ends(
    table: Table, estimates: Estimates, mean: Floats, median: Floats, var: Floats
) -> tuple[Floats, Floats]:
    if estimates.known:
        result = tested(mean, var, estimates, median=median)
        return result.low, result.high
    half = np.log1p(table.floor)
    return mean - half, mean + half


def _on_hosts(
    table: Table, estimates: Estimates, diff: Differences, here: Bools
) -> tuple[int, int]:
    """Return on how many hosts the second is surely better on average, and of how many."""
    contexts, mean = diff.grid.contexts, diff.mean[:, 0]
    if "host" not in contexts:
        whole = [np.flatnonzero(here)]
    else:
        hosts = contexts["host"].to_numpy()
        whole = [np.flatnonzero(here & (hosts == h)) for h in table.hosts]
    whole = [part for part in whole if len(part)]
    if not whole:
        return 0, 0
    n = np.array([float(len(part)) for part in whole])
    means = np.array([mean[part].mean() for part in whole])
    if not estimates.known:
        return int((means > np.log1p(table.floor)).sum()), len(whole)
    total, apart = (
        np.array([of[part, 0].sum(axis=0) for part in whole]) for of in (diff.var, diff.apart)
    )
    result = tested(means, estimates.averaged(total, n, apart), estimates)
    return int((result.low > 0).sum()), len(whole)


def tried_in(table: Table, found: Grid, some: Bools, level: str) -> int:
    """Count in how many of some contexts a level of a layer was tried and did not run."""
    factor = found.factor
    if factor.name != factor.layer or not some.any():
        return 0
    named = (table.cells[factor.name] == level).to_numpy(dtype=bool)
    broken = ~table.rows["status"].isin(UNTRIED).to_numpy(dtype=bool) & named
    if not broken.any():
        return 0
    names = list(found.contexts.columns)
    tried = pd.MultiIndex.from_frame(table.cells.loc[broken, names].astype(str))
    wanted = pd.MultiIndex.from_frame(found.contexts.loc[some, names].astype(str))
    return int(wanted.isin(tried).sum())


def in_common(table: Table, found: Grid, here: Bools, ran: Bools | None = None) -> tuple[str, ...]:
    """Return what all of some contexts have in common, where the table has it in several levels.

    A parameter is named where the layer that it is of differs; of several that the same cells have
    the first that the layer's levels name.

    Args:
        table: it is of.
        found: the contexts.
        here: which of them.
        ran: in which any of the choices that are compared ran. What all of these have tells
            nothing: nobody could have these choices otherwise.
    """
    out: list[str] = []
    for name, column in found.columns.items():
        values = set(column[here])
        if len(values) != 1 or values == {EMPTY}:
            continue
        if ran is not None and len(set(column[ran])) == 1:
            continue
        if len(set(table.levels.get(name, ())) - {EMPTY}) > 1:
            out.append(f"{name}={values.pop()}")
    return (*out, *_parameters(table, found, here, ran, out))


def _parameters(
    table: Table, found: Grid, here: Bools, ran: Bools | None, told: Sequence[str]
) -> list[str]:
    rows, every = (_rows(found, some) for some in (here, here if ran is None else ran))
    fixed = {text.partition("=")[0] for text in told} | {found.factor.layer}
    out: dict[bytes, str] = {}
    for name in sorted(table.parameters, key=lambda name: not _named(table, name)):
        if name.partition(".")[0] in fixed or name in found.contexts.columns:
            continue
        column = table.cells[name].to_numpy()
        values = set(column[rows])
        if len(values) != 1 or values <= {EMPTY, *NOTHING} or len(set(column)) < 2:
            continue
        if ran is not None and len(set(column[every])) == 1:
            continue
        (value,) = values
        out.setdefault((column == value).tobytes(), f"{name}={value}")
    return list(out.values())


def _rows(found: Grid, some: Bools) -> Ints:
    """Return the rows of all complete cells of some contexts."""
    rows = found.row[some]
    return rows[rows >= 0]


def _named(table: Table, parameter: str) -> bool:
    """Say whether levels of its layer name a parameter: one that was chosen, no default."""
    layer, _, name = parameter.partition(".")
    return bool(techniques_with(name, table.levels.get(layer, ())))
