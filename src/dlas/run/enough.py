"""How often is enough: which cells are measured in one more round.

The width of a cell's interval comes from the noise of its stratum (runtime and threads), pooled:
all cells of a stratum stop together. A cell's own spread decides nothing, since a cell would stop
when its rounds happen to agree, and its interval would then promise too much (coverage 0.58 with
whole bad rounds); nor does its value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from dlas.core.records import Status
from dlas.store.results import RoundRow

if TYPE_CHECKING:
    from dlas.core.drift import Ints
    from dlas.core.least import Floats

LEVEL = 0.95
E = TypeVar("E")


def undecided(
    entries: Sequence[E],
    rows: Iterable[RoundRow],
    precision: float,
    *,
    name: Callable[[E], tuple[str, int]],
    stratum: Callable[[E], object],
) -> list[E]:
    """Return the entries whose interval is wider than plus or minus ``precision``.

    Args:
        entries: what is measured.
        rows: the rounds so far, as they are now asked for; failed ones count for nothing.
        precision: half of the interval of the undisturbed latency, as a share of it.
        name: an entry's cell and control.
        stratum: what an entry's noise is pooled with.
    """
    import numpy as np

    known = [row for row in rows if row.status is Status.COMPLETE and row.samples]
    logs = _steady(known, {name(entry): stratum(entry) for entry in entries})
    groups: dict[object, list[E]] = defaultdict(list)
    for entry in entries:
        groups[stratum(entry)].append(entry)
    found = []
    for group in groups.values():
        wide = too_wide([np.array(logs[name(entry)]) for entry in group], precision)
        found += [entry for entry, each in zip(group, wide, strict=True) if each]
    return found


def _steady(
    rows: Sequence[RoundRow], strata: Mapping[tuple[str, int], object]
) -> Mapping[tuple[str, int], list[float]]:
    """Return the logarithms of the undisturbed rounds by cell and control.

    Less what all cells have in common: how much slower a later session was, and the drift of each.
    """
    import numpy as np

    from dlas.core.drift import drift
    from dlas.core.least import of_runs

    log = np.log([of_runs(row.samples) for row in rows])
    order = np.argsort(np.argsort([row.created_at for row in rows], kind="stable"))
    units = _numbered([(row.cell, row.control) for row in rows])
    groups = _numbered([strata.get((row.cell, row.control)) for row in rows])
    sessions = _numbered([row.session for row in rows])
    log -= _shifts(log, units, order, sessions)
    log -= drift(log, units, order, groups, sessions).at
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row, value in zip(rows, log.tolist(), strict=True):
        found[row.cell, row.control].append(value)
    return found


def _shifts(log: Floats, units: Ints, order: Ints, sessions: Ints) -> Floats:
    """Return by reading how much slower its session was than those before it.

    By the cells that were measured in it and before: the mean of their differences. Nothing where
    it has none in common with them.
    """
    import numpy as np

    from dlas.core.least import difference

    found = np.zeros(len(log))
    first = {int(s): int(order[sessions == s].min()) for s in np.unique(sessions)}
    known: dict[int, Floats] = {}
    for session in sorted(first, key=lambda s: first[s]):
        own = np.flatnonzero(sessions == session)
        now = {int(u): log[own[units[own] == u]] for u in np.unique(units[own])}
        gaps = [difference(known[u], each)[0] for u, each in now.items() if u in known]
        found[own] = shift = float(np.mean(gaps)) if gaps else 0.0
        for u, each in now.items():
            known[u] = np.concatenate([known.get(u, each[:0]), each - shift])
    return found


def _numbered(each: Iterable[object]) -> Ints:
    import numpy as np

    known: dict[object, int] = {}
    return np.array([known.setdefault(one, len(known)) for one in each], dtype=np.int64)


def too_wide(rounds: Sequence[Floats], precision: float) -> list[bool]:
    """Say which cells of one stratum have an interval wider than plus or minus ``precision``.

    Args:
        rounds: the logarithms of each cell's undisturbed rounds.
        precision: half of the interval, as a share.
    """
    import numpy as np
    from scipy import stats

    from dlas.core.least import OF_ROUNDS, pool, scale, size

    counts = [len(each) for each in rounds]
    sizes = np.array([float(size(each)) if len(each) else np.nan for each in rounds])
    variance, df = pool(sizes, sum(max(n - 1, 0) for n in counts))
    if not df:
        return [True] * len(counts)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, df))
    half = [quantile * math.sqrt(variance * scale(max(n, 1), OF_ROUNDS)) for n in counts]
    return [each > precision for each in half]
