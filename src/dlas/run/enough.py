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
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dlas.core.records import Status
from dlas.store.results import RoundRow

if TYPE_CHECKING:
    from dlas.core.least import Floats

LEVEL = 0.95
E = TypeVar("E")
Name = tuple[str, int]
"""A cell and its control."""


def undecided(
    entries: Sequence[E],
    rows: Iterable[RoundRow],
    precision: float,
    *,
    name: Callable[[E], Name],
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
    logs = _logs(rows)
    groups: dict[object, list[E]] = defaultdict(list)
    for entry in entries:
        groups[stratum(entry)].append(entry)
    return [
        entry
        for group in groups.values()
        for entry in _wide(group, precision, partial(_rounds, logs, name))
    ]


def _rounds(logs: Mapping[Name, list[float]], name: Callable[[E], Name], entry: E) -> list[float]:
    return logs.get(name(entry), [])


def _logs(rows: Iterable[RoundRow]) -> dict[Name, list[float]]:
    """Return the logarithms of the undisturbed rounds of every cell and control."""
    import numpy as np

    from dlas.core.least import OF_RUNS, expected_least

    found: dict[Name, list[float]] = defaultdict(list)
    for row in rows:
        if row.status is Status.COMPLETE and row.samples:
            least = float(expected_least(np.asarray(row.samples), OF_RUNS))
            found[row.cell, row.control].append(math.log(least))
    return found


def _wide(group: list[E], precision: float, rounds: Callable[[E], list[float]]) -> list[E]:
    import numpy as np

    wide = too_wide([np.array(rounds(entry)) for entry in group], precision)
    return [entry for entry, each in zip(group, wide, strict=True) if each]


def too_wide(rounds: Sequence[Floats], precision: float) -> list[bool]:
    """Say which cells of one stratum have an interval wider than plus or minus ``precision``.

    Args:
        rounds: the logarithms of each cell's undisturbed rounds.
        precision: half of the interval, as a share.
    """
    import numpy as np
    from scipy import stats

    from dlas.core.least import OF_ROUNDS, doubt, pool, scale

    counts = [len(each) for each in rounds]
    sizes = np.array(
        [
            float(doubt(each, OF_ROUNDS)) / scale(len(each), OF_ROUNDS) if len(each) else np.nan
            for each in rounds
        ]
    )
    variance, df = pool(sizes, sum(max(n - 1, 0) for n in counts))
    if not df:
        return [True] * len(counts)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, df))
    half = [quantile * math.sqrt(variance * scale(max(n, 1), OF_ROUNDS)) for n in counts]
    return [each > precision for each in half]
