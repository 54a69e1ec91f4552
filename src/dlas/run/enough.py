"""How often is enough: which cells are measured in one more round.

The width of a cell's interval comes from the noise of its stratum (runtime and threads), pooled:
all cells of a stratum stop together. A cell's own spread decides nothing, since a cell would stop
when its rounds happen to agree, and its interval would then promise too much (coverage 0.58 with
whole bad rounds); nor does its value. Rounds that were disturbed, as other cells tell that were
measured around them, do not count.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from dlas.core.records import Status
from dlas.store.results import RoundRow

if TYPE_CHECKING:
    from dlas.core.drift import Ints
    from dlas.core.least import Floats

LEVEL = 0.95
UNDISTURBED = 3
"""Rounds of a cell that must be undisturbed: of so many the least is taken."""
COMPANY = 8
"""Entries that are measured together at least, where few are measured once more."""
E = TypeVar("E")
Unit = tuple[str, int]
"""A cell and its control."""


def undecided(
    entries: Sequence[E],
    rows: Iterable[RoundRow],
    precision: float,
    *,
    name: Callable[[E], Unit],
    stratum: Callable[[E], tuple[object, ...]],
) -> list[E]:
    """Return the entries whose interval is wider than plus or minus ``precision``.

    And those that too few undisturbed rounds are known of.

    Args:
        entries: what is measured.
        rows: the rounds so far, as they are now asked for; failed ones count for nothing.
        precision: half of the interval of the undisturbed latency, as a share of it.
        name: an entry's cell and control.
        stratum: what an entry's noise is pooled with.
    """
    import numpy as np

    steady = _steady(rows, {name(entry): stratum(entry) for entry in entries})
    too_few = steady.too_few()
    groups: dict[object, list[E]] = defaultdict(list)
    for entry in entries:
        groups[stratum(entry)].append(entry)
    found = []
    for group in groups.values():
        wide = too_wide([np.array(steady.logs[name(entry)]) for entry in group], precision)
        found += [
            entry
            for entry, each in zip(group, wide, strict=True)
            if each or name(entry) in too_few
        ]
    return found


def spoiled(
    entries: Sequence[E],
    rows: Iterable[RoundRow],
    session: str,
    *,
    anchors: Collection[Unit] = (),
    name: Callable[[E], Unit],
    stratum: Callable[[E], tuple[object, ...]],
    fit: Callable[[E], bool] = lambda _entry: True,
) -> tuple[list[E], list[E]]:
    """Return the entries with too few undisturbed rounds, and some to measure with them.

    A reading is judged by those around it in its session, so that few entries cannot be measured
    by themselves: others with as many threads that were measured in it take part, until there are
    :data:`COMPANY` of them.

    Args:
        entries: what is measured.
        rows: the rounds so far, as they are now asked for; failed ones count for nothing.
        session: which is measured in; what was measured in others alone stays as it is.
        anchors: what must be undisturbed in this session, whatever is known from others: it
            brings them together.
        name: an entry's cell and control.
        stratum: what an entry's noise is pooled with, its threads last.
        fit: whether an entry can be measured again.
    """
    rows = list(rows)
    here = {(row.cell, row.control) for row in rows if row.session == session}
    some = [entry for entry in entries if name(entry) in here]
    if not some:
        return [], []
    steady = _steady(rows, {name(entry): stratum(entry) for entry in entries})
    too_few = steady.too_few() | (steady.too_few(session) & {*anchors})
    few = [entry for entry in some if name(entry) in too_few and fit(entry)]
    company: list[E] = []
    for threads, there in Counter(stratum(entry)[1:] for entry in few).items():
        own = (e for e in some if stratum(e)[1:] == threads and name(e) not in too_few and fit(e))
        company += islice(own, max(0, COMPANY - there))
    return few, company


@dataclass(frozen=True)
class _Undisturbed:
    """What was read, without disturbed rounds where those are left out."""

    logs: Mapping[Unit, list[float]]
    """Logarithms of the rounds that stand, by cell and control."""
    told: Sequence[tuple[Unit, str, bool]] = ()
    """Of every round whose it is, its session, and whether it was disturbed."""

    def too_few(self, session: str | None = None) -> set[Unit]:
        """Return what has too few undisturbed rounds, of all or of one session."""
        own = [(unit, off) for unit, when, off in self.told if session in (None, when)]
        every, off = Counter(u for u, _ in own), Counter(u for u, off in own if off)
        return {unit for unit, n in every.items() if n - off[unit] < min(UNDISTURBED, n)}


def _steady(rows: Iterable[RoundRow], strata: Mapping[Unit, tuple[object, ...]]) -> _Undisturbed:
    """Return the undisturbed rounds by cell and control, and which were disturbed.

    Less what all cells have in common: how much slower a later session was, and the drift of each.
    """
    import numpy as np

    from dlas.core.least import of_runs
    from dlas.core.quieted import quieted

    found: dict[Unit, list[float]] = defaultdict(list)
    known = [row for row in rows if row.status is Status.COMPLETE and row.samples]
    if not known:
        return _Undisturbed(found)
    log = np.log([of_runs(row.samples) for row in known])
    order = np.argsort(np.argsort([row.created_at for row in known], kind="stable"))
    names = [(row.cell, row.control) for row in known]
    units, sessions = _numbered(names), _numbered([row.session for row in known])
    log -= _shifts(log, units, order, sessions)
    of = [strata.get(each, ()) for each in names]
    columns = [_numbered([each[i : i + 1] for each in of]) for i in range(max(map(len, of)))]
    calm = quieted(log, units, order, _numbered(of), columns, sessions)
    for name, value, kept in zip(names, calm.logs.tolist(), calm.kept.tolist(), strict=True):
        if kept:
            found[name].append(value)
    when = [row.session for row in known]
    return _Undisturbed(found, list(zip(names, when, calm.told.tolist(), strict=True)))


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
