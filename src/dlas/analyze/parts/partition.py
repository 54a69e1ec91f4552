"""What of a table's stacks is given, what is free to be tuned, and where tuning starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from dlas.analyze.estimate.levels import EMPTY, Bools
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.stepwise import Ground, Group
from dlas.core.stack import DEFAULTS, LAYERS

GIVEN = ("dataset", "model", "hardware")
"""The layers of the problem and of the machine: nobody tunes them."""
SPLIT = "optimization"
"""The layer whose sub-layers (pruning, precision) are layers of their own here."""
RUNTIME = "software"
"""The layer that has a start for each of its techniques."""
UNTUNED: Mapping[str, str] = {x: DEFAULTS[x] for x in ("optimization", "algorithm")}
"""What a start has at a layer, where a context has it; else the layer's baseline."""
MOST_FREE = 8
"""Partition that are walked through: more have too many orders."""


@dataclass(frozen=True)
class Partition:
    """What is given and what is free, as columns of the cells."""

    given: tuple[str, ...]
    free: tuple[str, ...]

    @property
    def singles(self) -> tuple[Group, ...]:
        """Every free layer by itself."""
        return tuple((i,) for i in range(len(self.free)))

    def pairs(self) -> Iterator[tuple[Group, tuple[Group, ...]]]:
        """Every pair of free layers, with the groups when it moves as one."""
        for pair in combinations(range(len(self.free)), 2):
            yield pair, (pair, *(g for g in self.singles if g[0] not in pair))


def layers_of(table: Table) -> Partition | None:
    """Say which layers are given and which free; None where there is nothing to walk through.

    Where ``Table.given`` names none those of the problem and the machine are given, and nothing
    is assumed of tables with other layers than a stack's.
    """
    if not table.given and not set(table.layers) <= set(LAYERS):
        return None
    given = [x for x in table.layers if x in (table.given or GIVEN)]
    tuned = [x for x in table.varied if x not in given]
    free = [c for x in tuned for c in (_sublayers(table) if x == SPLIT else ()) or (x,)]
    if not 2 <= len(free) <= MOST_FREE:
        return None
    return Partition((*given, *(("host",) if len(table.hosts) > 1 else ())), tuple(free))


def _sublayers(table: Table) -> tuple[str, ...]:
    """Return the sub-layers that make the levels of the layer that is split; none: it is whole.

    They are filled in every row, no one follows from another, and together they tell its levels
    apart.
    """
    cells = table.cells
    own = [p for p in table.parameters if p.startswith(f"{SPLIT}.") and cells[p].nunique() > 1]
    full = [p for p in own if not cells[p].eq(EMPTY).any()]
    # A parameter of the only technique follows from its text, which comes first.
    full.sort(key=lambda p: pd.to_numeric(cells[p], errors="coerce").notna().all())
    kept: list[str] = []
    for name in full:
        if not any(_follows(cells, name, other) for other in kept):
            kept.append(name)
    together = len(cells[kept].drop_duplicates()) if kept else 0
    both = len(cells[[*kept, SPLIT]].drop_duplicates())
    if len(kept) < 2 or not together == both == cells[SPLIT].nunique():
        return ()
    return tuple(p for p in table.parameters if p in kept)


def _follows(cells: pd.DataFrame, name: str, other: str) -> bool:
    return bool(len(cells[[name, other]].drop_duplicates()) == cells[other].nunique())


def contexts_of(table: Table, found: Partition) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Give each context, what is given, with all its rows."""
    if not found.given:
        yield {}, list(range(len(table.cells)))
        return
    named = list(found.given)
    cells = table.cells.assign(host=table.rows["host"]) if "host" in named else table.cells
    for key, places in cells.groupby(named, sort=False).indices.items():
        levels = key if isinstance(key, tuple) else (key,)
        yield dict(zip(named, map(str, levels), strict=True)), places.tolist()


def starts_of(table: Table, found: Partition, ground: Ground, usable: Bools) -> dict[str, int]:
    """Return the starts of a context by name: one for each runtime, else one."""
    plain = {c: _untuned(table, c) for c in found.free}
    if RUNTIME not in found.free:
        row = ground.row_of.get(tuple(plain[c] for c in found.free))
        return {"baseline": row} if row is not None and usable[row] else {}
    kinds = dict(zip(table.cells[RUNTIME], table.skeletons[RUNTIME], strict=True))
    starts: dict[str, int] = {}
    # Of one runtime's levels the one with the fewest parameters stands for it.
    for level in sorted(table.levels[RUNTIME], key=len):
        chosen = plain | {RUNTIME: level}
        row = ground.row_of.get(tuple(chosen[c] for c in found.free))
        if row is not None and usable[row]:
            starts.setdefault(str(kinds[level]), row)
    return {k: starts[k] for k in dict.fromkeys(map(str, kinds.values())) if k in starts}


def _untuned(table: Table, column: str) -> str:
    wanted = UNTUNED.get(column.partition(".")[0])
    if column in table.baseline or wanted not in table.levels[column]:
        return table.reference(column)
    assert wanted is not None
    return wanted
