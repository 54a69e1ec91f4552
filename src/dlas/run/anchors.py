"""Anchors: cells of an earlier session that are measured again, so that sessions can be compared.

A cell that is measured in this session alone (a runtime added later, say) is compared with those
of earlier sessions through cells measured in both (``dlas.analyze.estimate.sessions``). What is
taken up after a kill links itself; else at least two cells for each runtime and thread count, one
of every model, and six in all are measured again: of fewer nobody could tell well by how much
cells differ between the sessions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from dlas.core.keys import key

PER_STRATUM = 2
LEAST = 6
"""Anchors, where so many cells were measured before."""
E = TypeVar("E")


def anchors(
    before: Sequence[E],
    again: Collection[E],
    *,
    cell: Callable[[E], str],
    stratum: Callable[[E], object],
    model: Callable[[E], object],
) -> list[E]:
    """Return what is to be measured again beside what is measured again anyway.

    The choice depends on the cells alone, not on what was measured.

    Args:
        before: what earlier sessions measured.
        again: what of it this session measures anyway.
        cell: the hash of a cell.
        stratum: its runtime and threads.
        model: its model.
    """
    ranked = sorted(before, key=lambda e: key("anchor", cell(e)))
    there = list(again)
    chosen: list[E] = []
    groups: dict[object, list[E]] = defaultdict(list)
    for entry in ranked:
        groups[stratum(entry)].append(entry)
    for name, members in groups.items():
        missing = PER_STRATUM - sum(stratum(e) == name for e in there)
        chosen += [e for e in members if e not in there][: max(0, missing)]
    seen = {model(e) for e in (*there, *chosen)}
    for entry in ranked:
        if model(entry) not in seen:
            seen.add(model(entry))
            chosen.append(entry)
    more = [e for e in ranked if e not in there and e not in chosen]
    return chosen + more[: max(0, LEAST - len(there) - len(chosen))]
